"""A table for people, JSON for programs, Markdown for the README, and the machine for all."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

LIBRARIES = ("aiortc", "aioice", "av", "pyzmq", "numpy", "uvloop")
STATISTICS = ("p50", "p90", "p99", "max")
NOT_HELD = "not held"
HEADINGS = ("", *STATISTICS, "n", "must", "", "peer/ours")


@dataclass
class Row:
    """One measured quantity: statistics by name, what the design asks of them, the peer's ratio.

    A quantity that is one number stands in `p50`. `void` says why the run does not count, such as
    `callers late` or `not held`.
    """

    name: str
    unit: str
    values: dict[str, float]
    count: int
    must: dict[str, float] = field(default_factory=dict)
    ratio: float | None = None
    void: str = ""

    @property
    def verdict(self) -> str:
        """Whether every limit is kept."""
        if self.void:
            return self.void if self.void.startswith(NOT_HELD) else f"VOID: {self.void}"
        if not self.must:
            return ""
        kept = all(
            name in self.values and self.values[name] <= limit for name, limit in self.must.items()
        )
        return "kept" if kept else "MISSED"

    def cells(self) -> list[str]:
        """The row as it is printed, under `HEADINGS`."""
        numbers = [_number(self.values[s]) if s in self.values else "" for s in STATISTICS]
        if self.must.keys() == {"p50"}:
            must = f"{self.must['p50']:g}"
        else:
            must = ", ".join(f"{name} {limit:g}" for name, limit in self.must.items())
        ratio = "" if self.ratio is None else f"{self.ratio:.1f}x"
        name = f"{self.name}, {self.unit}" if self.unit else self.name
        return [name, *numbers, str(self.count), must, self.verdict, ratio]


def _number(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass
class Report:
    """The rows of one run."""

    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    plots: list[Path] = field(default_factory=list)

    def add(
        self,
        name: str,
        unit: str,
        values: list[float],
        *,
        budget: float | None = None,
        peer: list[float] | None = None,
    ) -> None:
        """Add a quantity from its samples; `budget` judges the median.

        `ratio` says how many times the peer's median is ours.
        """
        if not values:
            self.rows.append(Row(name, unit, {}, 0, void="nothing was measured"))
            return
        p50, p90, p99 = (float(value) for value in np.percentile(values, (50, 90, 99)))
        ratio = float(np.median(peer)) / p50 if peer and p50 > 0 else None
        statistics = {"p50": p50, "p90": p90, "p99": p99, "max": float(max(values))}
        must = {} if budget is None else {"p50": budget}
        self.rows.append(Row(name, unit, statistics, len(values), must, ratio))

    def put(
        self,
        name: str,
        unit: str,
        values: dict[str, float] | float,
        count: int,
        *,
        must: dict[str, float] | float | None = None,
        ratio: float | None = None,
        void: str = "",
    ) -> None:
        """Add a quantity whose statistics are known; a bare number is the only one."""
        known = values if isinstance(values, dict) else {"p50": values}
        limits = must if isinstance(must, dict) else {} if must is None else {"p50": must}
        self.rows.append(Row(name, unit, known, count, limits, ratio, void))

    def attempt(self, name: str, measure: Callable[[], None]) -> None:
        """Measure a part; one that fails is noted and takes none of the others along."""
        try:
            measure()
        except Exception as error:
            first, *others = f"{type(error).__name__}: {error}".strip().splitlines()
            why = f"{first} {others[-1]}" if others else first  # the last line of a log
            self.put(name, "", {}, 0, void=f"{NOT_HELD}: {why[:80]}")
            self.notes.append(f"{name}: {why}")

    def show(self) -> None:
        """Print the table."""
        table = Table(title=self.title)
        for heading in HEADINGS:
            table.add_column(heading, justify="left" if heading == "" else "right")
        for row in self.rows:
            table.add_row(*row.cells())
        console = Console(width=130 if not os.isatty(1) else None)
        console.print(table)
        plots = [f"chart: {path}" for path in self.plots]
        for note in [*self.notes, *plots, describe_machine()]:
            console.print(note, style="dim", highlight=False, markup=False)

    def markdown(self) -> str:
        """The same as Markdown."""
        lines = [f"**{self.title}**", "", "| " + " | ".join(HEADINGS) + " |"]
        lines.append("|---|" + "---:|" * (len(HEADINGS) - 1))
        lines += ["| " + " | ".join(row.cells()) + " |" for row in self.rows]
        return "\n".join([*lines, "", *(f"{note}  " for note in self.notes)]) + "\n"

    def content(self) -> dict[str, object]:
        """The same for JSON."""
        return {
            "title": self.title,
            "rows": [asdict(row) | {"verdict": row.verdict} for row in self.rows],
            "notes": self.notes,
            "plots": [str(path) for path in self.plots],
        }


def save_json(reports: list[Report], path: Path) -> None:
    """Write reports with the machine and the date."""
    content = {
        "date": today(),
        "machine": machine(),
        "reports": [report.content() for report in reports],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def save_markdown(reports: list[Report], path: Path) -> None:
    """Write reports for the README."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"{today()}, {describe_machine()}.\n\n"
    path.write_text(head + "\n".join(report.markdown() for report in reports))


def today() -> str:
    """The date here."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def describe_machine() -> str:
    """The machine in a line."""
    return ", ".join(f"{name} {value}" for name, value in machine().items())


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu(),
        "cores": str(cores),
        "load": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    } | {name: importlib.metadata.version(name) for name in LIBRARIES}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
