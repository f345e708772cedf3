"""A stretch of time in which a server is measured: packets, CPU by part, and whether it counts.

The calls are set up before. A window in which the callers themselves were late, or the machine
stood still too often, is void: it is taken again, twice at most, and reported as void when it
stays so. Single packets that came while a core stood still (`witness`) are counted apart.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scripts.benchmarks import wire
from scripts.benchmarks.commands import CommandFailed
from scripts.benchmarks.freezes import Freezes, watch
from scripts.benchmarks.processes import cpu_of

if TYPE_CHECKING:
    from scripts.benchmarks.processes import Server
    from scripts.benchmarks.recording import CallerProcess, Recording

RETRIES = 2
SETTLE_S = 1.5
FRAMES_PER_S = 50
LEAST_SHARE = 0.995
"""Every caller must get so much of what is due, or the server did not hold the load."""
MIB = 1 << 20
FROZEN_SHARE = 0.5
"""A window with more packets than this in moments when a core stood still is void."""


@dataclass(frozen=True, slots=True)
class Window:
    """What was measured."""

    recording: Recording
    callers: int
    cpu_s: dict[str, float]
    tries: int
    freezes: Freezes

    @property
    def void(self) -> str:
        """Why it does not count; empty when it does."""
        pace = self.pace
        if pace.frozen > FROZEN_SHARE * pace.packets:
            share = pace.frozen / pace.packets
            return f"a core stood still for {share:.0%} of the packets, {self.tries} tries"
        if wire.is_void(self.own_lateness_ns):
            late_ms = self.own_lateness_ms[1]
            return f"callers late {late_ms:.1f} ms p99, {self.tries} tries"
        return ""

    @property
    def own_lateness_ns(self) -> wire.Ints:
        """How late the callers were, each tick, outside freezes."""
        seen = self.recording
        frozen = self.frozen - seen.begin.offset_ns
        return wire.own_lateness_ns(seen.lateness_ns, seen.due_ns, frozen)

    @property
    def own_lateness_ms(self) -> tuple[float, float, float]:
        """p50, p99 and maximum of that."""
        if not len(self.own_lateness_ns):
            return 0.0, 0.0, 0.0
        p50, p99, worst = np.percentile(self.own_lateness_ns, (50, 99, 100)) / 1e6
        return float(p50), float(p99), float(worst)

    @property
    def frozen(self) -> wire.Ints:
        """Spans of CLOCK_REALTIME in which a core stood still."""
        spans = self.freezes.spans
        if spans is None:
            return np.zeros((0, 2), np.int64)
        return np.asarray(spans + self.recording.begin.offset_ns)

    @property
    def pace(self) -> wire.Pace:
        """How even the packets were, outside the moments in which a core stood still."""
        return wire.pace(self.recording.streams, self.frozen)

    @property
    def raw_pace(self) -> wire.Pace:
        """How even they were with those moments."""
        return wire.pace(self.recording.streams)

    @property
    def about_freezes(self) -> str:
        """A note on the machine."""
        if self.freezes.spans is None:
            return "nobody watched for moments in which the machine stood still (no permission)"
        pace, raw = self.pace, self.raw_pace
        return (
            f"{len(self.freezes.spans)} freezes > 1 ms (steal {self.freezes.steal_percent:.1f} %) "
            f"leave {pace.frozen} of {pace.packets} packets out; with them p50 {raw.p50_ms:.3g}, "
            f"p99 {raw.p99_ms:.3g}, max {raw.max_ms:.3g} ms, "
            f"{raw.gaps} gaps, {raw.late} late"
        )

    @property
    def shares(self) -> tuple[float, float]:
        """The least and the mean share of the packets due that a caller got."""
        expected = self.recording.seconds * FRAMES_PER_S - 1
        return wire.shares(self.recording.streams, self.callers, expected)

    @property
    def held(self) -> bool:
        """Whether every caller got what was due."""
        return self.shares[0] >= LEAST_SHARE

    def cpu_us(self, *parts: str) -> float:
        """CPU per session and 20 ms frame in µs, of some parts or of all."""
        used = sum(value for name, value in self.cpu_s.items() if not parts or name in parts)
        return used * 1e6 / (self.recording.seconds * FRAMES_PER_S * self.callers)

    def core_percent(self, part: str) -> float:
        """Share of a core that a part used."""
        return 100 * self.cpu_s.get(part, 0.0) / self.recording.seconds


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(f"  {text}", file=sys.stderr, flush=True)


def place(
    server: Server, callers: CallerProcess, count: int, *, probes: int = 0, red_level: int = 0
) -> str:
    """Set up calls; why it failed, or nothing."""
    try:
        outcome = callers.call(server.url, count, probes=probes, red_level=red_level)
    except CommandFailed as error:
        return str(error)
    say(f"{outcome['live']} calls live after {outcome['took_s']:.1f} s")
    time.sleep(SETTLE_S)
    return ""


def take(server: Server, callers: CallerProcess, count: int, seconds: float) -> Window:
    """Measure for so long, again when the callers were late."""
    for attempt in range(1, RETRIES + 2):
        parts = server.parts()
        with watch() as freezes:
            callers.begin()
            before = cpu_of(parts)
            time.sleep(seconds)
            after = cpu_of(parts)
            recording = callers.end()
        used = {name: after[name] - before[name] for name in after}
        window = Window(recording, count, used, attempt, freezes)
        if not window.void:
            break
        say(f"void: {window.void}")
    return window
