"""The bench's side of a far end of WebSockets: its process, a window of time, whether it counts.

As with `windows`: a window in which the far end itself was late, or the machine stood still too
often, is taken again, twice at most, and reported as void when it stays so.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from scripts.benchmarks import chunks, commands, wire
from scripts.benchmarks.commands import Commanded
from scripts.benchmarks.freezes import Freezes, watch
from scripts.benchmarks.processes import cpu_of
from scripts.benchmarks.windows import FRAMES_PER_S, FROZEN_SHARE, RETRIES, SETTLE_S, say

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from scripts.benchmarks.processes import Server

FAR_END = Path(__file__).with_name("far_end.py")
OUT_HZ = 24_000
CAUGHT_UP_S = 0.1
DIAL_DEADLINE_S = 60.0
LEAST_SHARE = 0.97
"""A bot that sends less of what is due does not hold the load; the rows tell how much it sent."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One window: audio, the far end's own lateness (at `due_ns`), the clocks at its ends."""

    streams: list[chunks.Stream]
    interruptions: int
    lateness_ns: wire.Ints
    due_ns: wire.Ints
    begin: wire.ClockOffset
    end: wire.ClockOffset
    facts: dict[str, Any]

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return (self.end.monotonic_ns - self.begin.monotonic_ns) / 1e9

    @property
    def stamps(self) -> str:
        """Whose times of arrival these are."""
        unstamped = self.facts["unstamped"]
        if not unstamped:
            return "kernel receive timestamps (SO_TIMESTAMPNS on TCP)"
        return f"the far end's own clock when it read, for {unstamped} reads; else the kernel's"


class FarEnd(Commanded):
    """Commands for one far end."""

    def __init__(
        self, process: subprocess.Popen[bytes], directory: Path, *, tls: bool = False
    ) -> None:
        super().__init__(process, "the far end")
        self._directory = directory
        self._windows = 0
        self.uri = f"ws{'s' if tls else ''}://127.0.0.1:{self.ask('state')['port']}"

    def state(self) -> dict[str, int]:
        """How many connections are `open`, how many were `accepted` and how many `ended`."""
        return self.ask("state")

    def speak(self, on: bool) -> None:
        """Let it send speech, or only listen."""
        self.ask("speak", on=on)

    def begin(self) -> None:
        """Begin a window."""
        self.ask("settle")
        time.sleep(CAUGHT_UP_S)
        self.ask("begin")

    def end(self) -> Seen:
        """End the window; what was seen."""
        self._windows += 1
        file = self._directory / f"window{self._windows}.npz"
        facts = self.ask("end", file=str(file))
        try:
            return read(file, facts)
        finally:
            file.unlink()


def read(file: Path, facts: dict[str, Any]) -> Seen:
    """A window from its file."""
    with np.load(file) as arrays:
        rows = arrays["rows"]
        begin, end = (wire.ClockOffset(*map(int, row)) for row in arrays["offsets"])
        return Seen(
            streams=chunks.streams(rows),
            interruptions=int(np.count_nonzero(rows[:, 1] == chunks.INTERRUPTION)),
            lateness_ns=arrays["lateness_ns"],
            due_ns=arrays["due_ns"],
            begin=begin,
            end=end,
            facts=facts,
        )


@contextlib.contextmanager
def far_end(
    *, tls: Path | None = None, hz: int = 16_000, channels: int = 1, priority: bool = True
) -> Iterator[FarEnd]:
    """A far end that says speech of `hz` and `channels`; `tls`: its key and certificates."""
    options = ["--hz", str(hz), "--channels", str(channels)]
    options += [*(["--priority"] if priority else []), *(["--tls", str(tls)] if tls else [])]
    with (
        tempfile.TemporaryDirectory(prefix="bbfar-") as directory,
        commands.running(FAR_END, options) as process,
    ):
        yield FarEnd(process, Path(directory), tls=tls is not None)


@dataclass(frozen=True, slots=True)
class Window:
    """What was measured."""

    seen: Seen
    links: int
    cpu_s: dict[str, float]
    tries: int
    freezes: Freezes

    @property
    def frozen(self) -> wire.Ints:
        """Spans of CLOCK_REALTIME in which a core stood still."""
        if self.freezes.spans is None:
            return np.zeros((0, 2), np.int64)
        return np.asarray(self.freezes.spans + self.seen.begin.offset_ns)

    @property
    def pace(self) -> chunks.Pace:
        """How even the chunks were, outside the moments in which a core stood still."""
        return chunks.pace(self.seen.streams, OUT_HZ, self.frozen)

    @property
    def raw_pace(self) -> chunks.Pace:
        """How even they were with those moments."""
        return chunks.pace(self.seen.streams, OUT_HZ)

    @property
    def own_lateness_ms(self) -> tuple[float, float, float]:
        """How late the far end was, outside freezes: p50, p99 and maximum."""
        late = self._own_lateness_ns
        if not len(late):
            return 0.0, 0.0, 0.0
        p50, p99, worst = np.percentile(late, (50, 99, 100)) / 1e6
        return float(p50), float(p99), float(worst)

    @property
    def _own_lateness_ns(self) -> wire.Ints:
        seen = self.seen
        return wire.own_lateness_ns(
            seen.lateness_ns, seen.due_ns, self.frozen - seen.begin.offset_ns
        )

    @property
    def void(self) -> str:
        """Why it does not count; empty when it does."""
        pace = self.pace
        if pace.frozen > FROZEN_SHARE * pace.messages:
            share = pace.frozen / pace.messages
            return f"a core stood still for {share:.0%} of the chunks, {self.tries} tries"
        if wire.is_void(self._own_lateness_ns):
            return f"the far end late {self.own_lateness_ms[1]:.1f} ms p99, {self.tries} tries"
        return ""

    @property
    def shares(self) -> tuple[float, float]:
        """The least and the mean share of the audio due that a connection got."""
        return chunks.shares(self.seen.streams, self.links, OUT_HZ, self.seen.seconds)

    @property
    def held(self) -> bool:
        """Whether every connection got what was due, but for little."""
        return self.shares[0] >= LEAST_SHARE

    def cpu_us(self, *parts: str) -> float:
        """CPU per session and 20 ms in µs, of some parts or of all."""
        used = sum(value for name, value in self.cpu_s.items() if not parts or name in parts)
        return used * 1e6 / (self.seen.seconds * FRAMES_PER_S * self.links)

    @property
    def about(self) -> str:
        """A note on the far end and the machine."""
        p50, p99, worst = self.own_lateness_ms
        raw = self.raw_pace
        frozen = "nobody watched for moments in which the machine stood still"
        if self.freezes.spans is not None:
            frozen = (
                f"{len(self.freezes.spans)} freezes > 1 ms "
                f"(steal {self.freezes.steal_percent:.1f} %)"
            )
        return (
            f"the far end ({self.seen.facts['priority']}) was late itself "
            f"{p50:.2f} / {p99:.2f} / {worst:.1f} ms (p50 / p99 / max); {frozen}, "
            f"{self.pace.frozen} of {raw.messages} chunks left out; with them "
            f"p50 {raw.p50_ms:.3g}, p99 {raw.p99_ms:.3g}, max {raw.max_ms:.3g} ms, {raw.gaps} gaps"
        )


def dial(server: Server, far: FarEnd, count: int, *, again: bool = False, first: int = 0) -> str:
    """Have a bot dial so many sessions; why that failed, or nothing. `again`: without an end."""
    began = time.monotonic()
    try:
        response = httpx.post(
            f"{server.url}/api/dial",
            json={"uri": far.uri, "first": first, "count": count, "again": again},
            timeout=DIAL_DEADLINE_S,
        )
        response.raise_for_status()
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"
    if errors := response.json()["errors"]:
        return f"{len(errors)} of {count} not dialled: {errors[-1]}"
    say(f"{count} sessions dialled after {time.monotonic() - began:.1f} s")
    time.sleep(SETTLE_S)
    return ""


def take(server: Server | None, far: FarEnd, links: int, seconds: float) -> Window:
    """Measure for so long, again when the far end was late. Without a server no CPU."""
    for attempt in range(1, RETRIES + 2):
        parts = server.parts() if server is not None else {}
        with watch() as freezes:
            far.begin()
            before = cpu_of(parts)
            time.sleep(seconds)
            after = cpu_of(parts)
            seen = far.end()
        used = {name: after[name] - before[name] for name in after}
        window = Window(seen, links, used, attempt, freezes)
        if not window.void:
            break
        say(f"void: {window.void}")
    return window
