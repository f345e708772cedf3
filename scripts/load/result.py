"""What a load test saw, as numbers that fit into memory however long it lasts; and the verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from scripts.benchmarks import wire
from scripts.benchmarks.report import Report
from scripts.load.target import explain

if TYPE_CHECKING:
    from collections.abc import Iterable

FRAMES_PER_S = 50
LEAST_FOUND = 0.9
"""An echo of which less came back in time to be found again has no honest percentiles."""
STATISTICS = {"p50": 50, "p90": 90, "p99": 99}


class Histogram:
    """Values from 0 to 1 s in ms, kept to 0.01 ms; what is longer counts as 1 s."""

    STEP_MS = 0.01
    BINS = 100_000

    def __init__(self) -> None:
        self._counts = np.zeros(self.BINS + 1, np.int64)
        self.max = 0.0

    def add(self, values: Iterable[float]) -> None:
        """Take values in ms."""
        array = np.asarray(list(values) if not isinstance(values, np.ndarray) else values, float)
        if len(array):
            places = np.clip(array / self.STEP_MS, 0, self.BINS).astype(np.int64)
            self._counts += np.bincount(places, minlength=self.BINS + 1)
            self.max = max(self.max, float(array.max()))

    def __len__(self) -> int:
        return int(self._counts.sum())

    def percentile(self, percent: float) -> float:
        """The value in ms that so many percent do not exceed, at most one step too high."""
        wanted = max(1, int(np.ceil(len(self) * percent / 100)))
        place = int(np.searchsorted(np.cumsum(self._counts), wanted))
        return min(self.max, (place + 1) * self.STEP_MS)

    @property
    def statistics(self) -> dict[str, float]:
        """p50, p90, p99 and max; empty when there is nothing."""
        if not len(self):
            return {}
        found = {name: self.percentile(percent) for name, percent in STATISTICS.items()}
        return found | {"max": self.max}

    def above(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Values in ms, and the share that lies above each; for a chart."""
        used = np.flatnonzero(self._counts)
        share = 1 - np.cumsum(self._counts[used]) / max(1, len(self))
        return (used + 1) * self.STEP_MS, share


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What must hold; None: it is only told. Percentages are 0 to 100, times are the p99."""

    max_failed_percent: float = 0.0
    max_setup_ms: float | None = None
    max_late_percent: float | None = None
    min_received_percent: float | None = None
    max_lost_percent: float | None = None
    max_interval_error_ms: float | None = None
    max_echo_ms: float | None = None
    max_own_late_ms: float = 5.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call's set-up in ms since its offer; `first_ms` is its first audio packet's arrival."""

    answer_ms: float | None = None
    connected_ms: float | None = None
    first_ms: float | None = None
    error: str = ""


@dataclass(slots=True)
class Seen:
    """All that was seen; windows are added as they come."""

    mode: str
    asked: int
    calls: list[Call] = field(default_factory=list)
    errors_ms: Histogram = field(default_factory=Histogram)
    own_late_ms: Histogram = field(default_factory=Histogram)
    echo_ms: Histogram = field(default_factory=Histogram)
    echo_packets: int = 0
    packets: int = 0
    late: int = 0
    lost: int = 0
    gaps: int = 0
    seconds: float = 0.0
    sent: int = 0
    overflow: int = 0
    live: int = 0
    # Calls that were connected and gone before the end.
    ended: int = 0
    got: dict[int, int] = field(default_factory=dict)
    # Share of the packets due that came, window by window: (s since the first, percent).
    timeline: list[tuple[float, float]] = field(default_factory=list)

    @property
    def hears(self) -> bool:
        """Whether audio of the server is expected."""
        return self.mode != "talk"

    @property
    def connected(self) -> list[int]:
        """The callers whose media was connected."""
        return [number for number, call in enumerate(self.calls) if not call.error]

    @property
    def echo_lost(self) -> str:
        """Why the echo's percentiles do not count; empty when they do."""
        share = len(self.echo_ms) / self.echo_packets if self.echo_packets else 0.0
        return "" if share >= LEAST_FOUND else f"{share:.0%} found, the rest > 700 ms or broken"

    @property
    def failed_percent(self) -> float:
        """Calls that were asked for and did not come about, or not last."""
        return 100 * (1 - (len(self.connected) - self.ended) / max(1, self.asked))

    @property
    def received_percent(self) -> tuple[float, float]:
        """Of the packets due (50 a second): what the worst caller got, and the mean."""
        due = max(1.0, self.seconds * FRAMES_PER_S)
        shares = [min(100.0, 100 * self.got.get(n, 0) / due) for n in self.connected]
        return (min(shares), sum(shares) / len(shares)) if shares else (0.0, 0.0)

    def add_window(
        self, streams: list[wire.Stream], seconds: float, own_lateness_ns: wire.Ints
    ) -> None:
        """Take what came in a stretch of time."""
        self.own_late_ms.add(own_lateness_ns / 1e6)
        pace = wire.pace(streams)
        for stream in streams:
            self.errors_ms.add(wire.interval_errors_ms(stream))
            self.got[stream.caller] = self.got.get(stream.caller, 0) + len(stream)
        self.packets += pace.packets
        self.late += pace.late
        self.lost += pace.lost
        self.gaps += pace.gaps
        self.seconds += seconds
        due = seconds * FRAMES_PER_S * max(1, len(self.connected))
        self.timeline.append((self.seconds, 100 * min(1.0, pace.packets / due)))

    def percent(self, count: int, *, of: int) -> float:
        """A share in percent."""
        return 100 * count / of if of else 0.0


def judge(seen: Seen, limits: Thresholds) -> list[str]:
    """A line for every threshold that does not hold; empty: all is well."""
    found: list[str] = []

    def most(name: str, value: float | None, limit: float | None, unit: str) -> None:
        if limit is None:
            return
        if value is None:
            found.append(f"{name}: nothing was measured, at most {limit:g} {unit} is asked")
        elif value > limit:
            found.append(f"{name}: {value:.3g} {unit}, at most {limit:g} is asked")

    most("failed calls", seen.failed_percent, limits.max_failed_percent, "%")
    if seen.ended and found:
        found.append(
            f"{seen.ended} of {len(seen.connected)} calls were ended by the other side: "
            "its log, and the bot's, tell why"
        )
    ready = "first_ms" if seen.hears else "connected_ms"
    took = [getattr(call, ready) for call in seen.calls if getattr(call, ready) is not None]
    setup = float(np.percentile(took, 99)) if took else None
    most("set-up, p99", setup, limits.max_setup_ms, "ms")
    own = seen.own_late_ms.statistics.get("p99")
    most("the callers' own lateness, p99 (overloaded here: the rest says little)",
         own, limits.max_own_late_ms, "ms")  # fmt: skip
    if not seen.hears:
        return found
    if len(seen.connected) > seen.ended and not seen.packets:
        found.append("no audio came back: does the bot speak (--mode hear) or echo (--mode echo)?")
        return found
    late = seen.percent(seen.late, of=seen.packets) if seen.packets else None
    most("late packets", late, limits.max_late_percent, "%")
    lost = seen.percent(seen.lost, of=seen.packets + seen.lost) if seen.packets else None
    most("lost packets", lost, limits.max_lost_percent, "%")
    most("interval error, p99", seen.errors_ms.statistics.get("p99"),
         limits.max_interval_error_ms, "ms")  # fmt: skip
    if limits.min_received_percent is not None:
        worst, _ = seen.received_percent
        if worst < limits.min_received_percent:
            found.append(
                f"the worst caller received {worst:.1f} % of what was due, "
                f"at least {limits.min_received_percent:g} is asked"
            )
    if seen.mode == "echo":
        most("echo, p99", seen.echo_ms.statistics.get("p99"), limits.max_echo_ms, "ms")
        if limits.max_echo_ms is not None and len(seen.echo_ms) and seen.echo_lost:
            found.append(f"echo: {seen.echo_lost}")
    return found


def report(seen: Seen, limits: Thresholds, title: str) -> Report:
    """The table for people."""
    made = Report(title)
    made.put("failed calls", "%", seen.failed_percent, seen.asked, must=limits.max_failed_percent)
    limit = {"p99": limits.max_setup_ms} if limits.max_setup_ms is not None else None
    for name, key in (
        ("offer to answer", "answer_ms"),
        ("offer to connected", "connected_ms"),
        ("offer to first audio", "first_ms"),
    ):
        values = [v for call in seen.calls if (v := getattr(call, key)) is not None]
        if values and (seen.hears or key != "first_ms"):
            ready = key == ("first_ms" if seen.hears else "connected_ms")
            spread = {s: float(np.percentile(values, p)) for s, p in STATISTICS.items()}
            made.put(name, "ms", spread | {"max": max(values)}, len(values),
                     must=limit if ready else None)  # fmt: skip
    if seen.hears:
        _add_hearing(made, seen, limits)
    made.put("callers' own lateness", "ms", seen.own_late_ms.statistics, len(seen.own_late_ms),
             must={"p99": limits.max_own_late_ms})  # fmt: skip
    made.notes += [f"failed: {line}" for line in explain([c.error for c in seen.calls if c.error])]
    made.notes.append(
        f"{seen.live} of {seen.asked} calls live at the end, {seen.seconds:.1f} s measured, "
        f"{seen.sent} packets sent, {seen.packets} received"
    )
    if seen.overflow:
        made.notes.append(f"{seen.overflow} packets came beyond what could be noted")
    return made


def _add_hearing(made: Report, seen: Seen, limits: Thresholds) -> None:
    count = seen.packets
    limit = limits.max_interval_error_ms
    made.put("interval error", "ms", seen.errors_ms.statistics, len(seen.errors_ms),
             must=None if limit is None else {"p99": limit})  # fmt: skip
    late = seen.percent(seen.late, of=count)
    made.put("packets > 5 ms late", "%", late, count, must=limits.max_late_percent)
    lost = seen.percent(seen.lost, of=count + seen.lost)
    made.put("packets lost", "%", lost, count, must=limits.max_lost_percent)
    worst, mean = seen.received_percent
    least = limits.min_received_percent
    missing = {"p50": 100 - mean, "max": 100 - worst}
    made.put("packets missing by caller (p50: mean)", "%", missing, len(seen.connected),
             must=None if least is None else {"max": 100 - least})  # fmt: skip
    made.put("gaps > 25 ms", "", float(seen.gaps), count)
    if seen.mode == "echo":
        echo = limits.max_echo_ms
        made.put("echo, wire to wire", "ms", seen.echo_ms.statistics, len(seen.echo_ms),
                 must=None if echo is None else {"p99": echo}, void=seen.echo_lost)  # fmt: skip
        made.notes.append(
            f"echo: of {seen.echo_packets} packets {len(seen.echo_ms)} were found again in what "
            "was sent within 700 ms"
        )


def content(seen: Seen, limits: Thresholds, made: Report, broken: list[str]) -> dict[str, object]:
    """The same for JSON."""
    return made.content() | {
        "mode": seen.mode,
        "passed": not broken,
        "broken": broken,
        "thresholds": {name: getattr(limits, name) for name in Thresholds.__slots__},
        "calls": {"asked": seen.asked, "connected": len(seen.connected), "live": seen.live},
        "received_percent": dict(zip(("worst", "mean"), seen.received_percent, strict=True)),
        "timeline": seen.timeline,
        "errors": explain([call.error for call in seen.calls if call.error], 20),
    }
