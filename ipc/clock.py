"""The monotonic clock, and one that tests move by hand.

`now_ns` is CLOCK_MONOTONIC in nanoseconds, the same in every process of a machine, so
anchors written by a worker can be read by a bot. Wall-clock time appears only in logs.
"""

from __future__ import annotations

import time
from typing import Protocol

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """Anything that tells the monotonic time."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds."""
        ...


class MonotonicClock:
    """The machine's own clock."""

    __slots__ = ()

    # Nanoseconds since an arbitrary moment shared by all processes. Not a method: the hot path
    # asks several times a packet.
    now_ns = staticmethod(time.monotonic_ns)


class ManualClock:
    """A clock that stands still until a test moves it."""

    __slots__ = ("_now_ns",)

    def __init__(self, now_ns: int = NS_PER_S) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        """The time that was last set."""
        return self._now_ns

    def advance_ms(self, ms: float) -> None:
        """Move the clock forward by `ms` milliseconds."""
        if ms < 0:
            raise ValueError("a monotonic clock does not go back")
        self._now_ns += round(ms * NS_PER_MS)
