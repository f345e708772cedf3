"""A table for people, JSON for programs, and the shape of the machine for both."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

LIBRARIES = ("aiortc", "aioice", "av", "pyzmq", "numpy", "uvloop")


@dataclass
class Row:
    """One measured quantity: percentiles, what the design asks for, and the peer's ratio."""

    name: str
    unit: str
    p50: float
    p90: float
    p99: float
    count: int
    budget: float | None = None
    ratio: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the median keeps the budget."""
        if self.budget is None:
            return ""
        return "kept" if self.p50 <= self.budget else "MISSED"


@dataclass
class Report:
    """The rows of one run."""

    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        name: str,
        unit: str,
        values: list[float],
        *,
        budget: float | None = None,
        peer: list[float] | None = None,
    ) -> None:
        """Add a quantity; `ratio` says how many times the peer's median is ours."""
        p50, p90, p99 = (float(value) for value in np.percentile(values, (50, 90, 99)))
        ratio = float(np.median(peer)) / p50 if peer and p50 > 0 else None
        self.rows.append(Row(name, unit, p50, p90, p99, len(values), budget, ratio))

    def show(self) -> None:
        """Print the table."""
        table = Table(title=self.title)
        for heading in ("", "p50", "p90", "p99", "n", "must", "", "peer/ours"):
            table.add_column(heading, justify="left" if heading == "" else "right")
        for row in self.rows:
            table.add_row(
                f"{row.name}, {row.unit}",
                *(f"{value:.2f}" for value in (row.p50, row.p90, row.p99)),
                str(row.count),
                "" if row.budget is None else f"{row.budget:g}",
                row.verdict,
                "" if row.ratio is None else f"{row.ratio:.1f}x",
            )
        console = Console(width=110 if not os.isatty(1) else None)
        console.print(table)
        for note in [*self.notes, ", ".join(f"{k} {v}" for k, v in machine().items())]:
            console.print(note, style="dim", highlight=False)

    def save(self, path: Path) -> None:
        """Write JSON."""
        content = {
            "title": self.title,
            "rows": [asdict(row) | {"verdict": row.verdict} for row in self.rows],
            "notes": self.notes,
            "machine": machine(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")


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
