"""When a bot flushed: written by the bot, read by the bench. Times are CLOCK_MONOTONIC, ns."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Timings:
    """One flush, and the speech that came after it."""

    caller: int
    queued_ms: float = 0.0
    before_ns: int = 0
    after_ns: int = 0
    resumed_ns: int = 0
    exact: bool = True

    def before(self) -> None:
        """The call begins now."""
        self.before_ns = time.monotonic_ns()

    def after(self) -> None:
        """The call has returned."""
        self.after_ns = time.monotonic_ns()

    def resumed(self) -> None:
        """New speech is given now."""
        self.resumed_ns = time.monotonic_ns()


class FlushLog:
    """A file of one caller's flushes; every line is there as soon as it is written."""

    def __init__(self, directory: Path, caller: int) -> None:
        self._path = directory / f"flush-{os.getpid()}-{caller}.jsonl"
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        self._file = self._path.open("w", buffering=1)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, timings: Timings) -> None:
        """Add a flush."""
        assert self._file is not None
        self._file.write(json.dumps(asdict(timings)) + "\n")


def read(directory: Path) -> list[Timings]:
    """Every flush that was written whole."""
    return [
        Timings(**json.loads(line))
        for path in sorted(directory.glob("flush-*.jsonl"))
        for line in path.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]
