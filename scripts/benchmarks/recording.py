"""The driver's side of the callers' process, and what it brought back from one window."""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scripts.benchmarks import commands, wire
from scripts.benchmarks.commands import Commanded, CommandFailed

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from tests.fakes.network import Faults

CALLERS = Path(__file__).with_name("callers.py")


@dataclass(frozen=True, slots=True)
class Heard:
    """What a probe heard: `pcm` is (packets, 960) at 48 kHz; arrival is CLOCK_REALTIME."""

    caller: int
    pcm: NDArray[np.int16]
    sequence: wire.Ints
    arrival_ns: wire.Ints
    payload_bytes: wire.Ints
    sent: wire.Ints = field(default_factory=lambda: np.zeros((2, 0), np.int64))
    """What the probe said: the packet of the speech, and when it left (CLOCK_MONOTONIC ns)."""
    recovered: wire.Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """1 for packets that came in another one (RED), 0 for the others."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One window: streams, the callers' own lateness (at `due_ns`), the clocks at its ends."""

    streams: list[wire.Stream]
    lateness_ns: wire.Ints
    due_ns: wire.Ints
    begin: wire.ClockOffset
    end: wire.ClockOffset
    probes: list[Heard]
    facts: dict[str, Any]

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return (self.end.monotonic_ns - self.begin.monotonic_ns) / 1e9


class CallerProcess(Commanded):
    """Commands for one process of light callers."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        super().__init__(process, "the callers")
        self._directory = directory
        self._windows = 0

    def call(
        self,
        url: str,
        count: int,
        *,
        gap_ms: float = 0.0,
        probes: int = 0,
        red_level: int = 0,
        request_data: dict[str, Any] | None = None,
        allow_failures: bool = False,
    ) -> dict[str, Any]:
        """Place calls. Raises CommandFailed when one did not connect."""
        answer = self.ask(
            "call",
            url=url,
            count=count,
            gap_ms=gap_ms,
            probes=probes,
            red_level=red_level,
            request_data=request_data or {},
        )
        if answer["failed"] and not allow_failures:
            raise CommandFailed(
                f"{answer['failed']} of {count} calls to {url} failed, the last with "
                f"{answer['errors'][-1]}; is a bot with room for them attached?"
            )
        return answer

    def post_call(self, url: str, count: int, *, gap_ms: float) -> None:
        """Begin to place calls and return at once; `wait_call` tells how it went."""
        self.tell("call", url=url, count=count, gap_ms=gap_ms)

    def wait_call(self) -> dict[str, Any]:
        """The outcome of `post_call`."""
        return self.answer()

    def timings(self) -> list[dict[str, Any]]:
        """Each call's `answer_ms`, `connected_ms`, `first_ms` and `error`, as far as known."""
        calls: list[dict[str, Any]] = self.ask("timings")["calls"]
        return calls

    def begin(self) -> None:
        """Begin a window."""
        self.ask("begin")

    def end(self) -> Recording:
        """End the window; what was seen."""
        self._windows += 1
        file = self._directory / f"window{self._windows}.npz"
        facts = self.ask("end", file=str(file))
        try:
            return read(file, facts)
        finally:
            file.unlink()

    def window(self, seconds: float) -> Recording:
        """A window of that length."""
        self.begin()
        time.sleep(seconds)
        return self.end()

    def speak(self, on: bool) -> None:
        """Let the callers send speech, or nothing but reports."""
        self.ask("speak", on=on)

    def impair(self, faults: Faults, seed: int = 1) -> None:
        """From now on the callers' media goes through a network with faults, each way."""
        self.ask("impair", faults=asdict(faults), seed=seed)

    def hang_up(self) -> None:
        """End every call."""
        self.ask("hang_up")


def read(file: Path, facts: dict[str, Any]) -> Recording:
    """A window from its file."""
    with np.load(file) as arrays:
        begin, end = (wire.ClockOffset(*map(int, row)) for row in arrays["offsets"])
        numbers = sorted(int(name[4:]) for name in arrays.files if name.startswith("pcm_"))
        return Recording(
            streams=wire.streams(arrays["notes"]),
            lateness_ns=arrays["lateness_ns"],
            due_ns=arrays["due_ns"],
            begin=begin,
            end=end,
            probes=[_heard(number, arrays) for number in numbers],
            facts=facts,
        )


def _heard(number: int, arrays: Mapping[str, NDArray[Any]]) -> Heard:
    sequence, arrival_ns, payload_bytes, recovered = arrays[f"heard_{number}"]
    return Heard(
        number,
        arrays[f"pcm_{number}"],
        sequence,
        arrival_ns,
        payload_bytes,
        arrays[f"sent_{number}"],
        recovered,
    )


@contextlib.contextmanager
def callers(*, priority: bool = True, address: str = "127.0.0.1") -> Iterator[CallerProcess]:
    """A process of light callers."""
    options = ["--address", address, *(["--priority"] if priority else [])]
    with (
        tempfile.TemporaryDirectory(prefix="bbcallers-") as directory,
        commands.running(CALLERS, options) as process,
    ):
        yield CallerProcess(process, Path(directory))
