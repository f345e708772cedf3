"""The clock of a pipeline: nanoseconds since the pipeline began.

Frames that carry a `pts` are presented by it. It stands on the monotonic clock, which a test
may replace by one that it moves by hand.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from ipc.clock import Clock, MonotonicClock


class BaseClock(ABC):
    """Anything that tells a pipeline's time."""

    @abstractmethod
    def get_time(self) -> int:
        """Nanoseconds since `start`; 0 before it."""

    @abstractmethod
    def start(self) -> None:
        """Begin at 0."""


class SystemClock(BaseClock):
    """The machine's monotonic clock, counted from `start`."""

    def __init__(self, source: Clock | None = None) -> None:
        self._source = source or MonotonicClock()
        self._began_ns: int | None = None

    def get_time(self) -> int:
        """Nanoseconds since `start`; 0 before it."""
        return 0 if self._began_ns is None else self._source.now_ns() - self._began_ns

    def start(self) -> None:
        """Begin at 0."""
        self._began_ns = self._source.now_ns()
