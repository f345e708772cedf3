"""An absolute timer for light processes: it never drifts and never rounds to milliseconds.

timerfd by ctypes on Linux (Python has it from 3.13 on only), the loop's own timer elsewhere.
It tells which ticks are due; whoever uses it notes how late it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NS_PER_S = 1_000_000_000
CLOCK_MONOTONIC = 1
TFD_NONBLOCK = 0o4000
TFD_CLOEXEC = 0o2000000
TFD_TIMER_ABSTIME = 1


class _Spec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


class AbsoluteTimer:
    """Calls `on_tick(number, due_ns)` for every period, late ones too, in order."""

    def __init__(self, period_ns: int, on_tick: Callable[[int, int], None]) -> None:
        self._period_ns = period_ns
        self._on_tick = on_tick
        self._loop = asyncio.get_running_loop()
        self._next_ns = time.monotonic_ns() + period_ns
        self._number = 0
        self._fd = open_timerfd(self._next_ns, period_ns)
        self._handle: asyncio.TimerHandle | None = None
        if self._fd is not None:
            self._loop.add_reader(self._fd, self._expired)
        else:
            self._arm()

    @property
    def kind(self) -> str:
        """What drives it."""
        return "timerfd" if self._fd is not None else "the loop's timer"

    def close(self) -> None:
        """Stop."""
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None
        if self._handle is not None:
            self._handle.cancel()

    def _arm(self) -> None:
        delay_s = max(0, self._next_ns - time.monotonic_ns()) / NS_PER_S
        self._handle = self._loop.call_later(delay_s, self._rearmed)

    def _rearmed(self) -> None:
        self._run()
        self._arm()

    def _expired(self) -> None:
        assert self._fd is not None
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
        self._run()

    def _run(self) -> None:
        while self._next_ns <= time.monotonic_ns():
            number, due_ns = self._number, self._next_ns
            self._number += 1
            self._next_ns += self._period_ns
            self._on_tick(number, due_ns)


def open_timerfd(first_ns: int, period_ns: int) -> int | None:
    """A timerfd that expires at `first_ns` (monotonic) and each period; None without one."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC))
    if fd < 0:
        return None
    spec = _Spec(*divmod(period_ns, NS_PER_S), *divmod(first_ns, NS_PER_S))
    if libc.timerfd_settime(fd, TFD_TIMER_ABSTIME, ctypes.byref(spec), None) != 0:
        os.close(fd)
        return None
    return fd
