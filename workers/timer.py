"""An absolute timer in the event loop: timerfd on Linux, `call_at` elsewhere.

An event loop's own timers count in whole milliseconds (uvloop) or from a clock read before the
last callbacks; a timerfd is armed with the deadline itself, to the nanosecond.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import time
from typing import TYPE_CHECKING, Protocol

from ipc.clock import NS_PER_S

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

TFD_TIMER_ABSTIME = 1
ITIMERSPEC = struct.Struct("@llll")  # interval s, ns; value s, ns (timerfd_settime(2))


class Timer(Protocol):
    """Calls back once for each time it was armed."""

    def arm(self, due_ns: int) -> None:
        """Call back at that monotonic time, at once when it has passed; instead of before."""
        ...

    def close(self) -> None:
        """Call back no more."""
        ...


class TimerFd:
    """A timerfd read by the loop. Python has it from 3.13 on, libc always (Linux).

    The slots follow each other evenly: the system is told of the distance once, and sets the next
    deadline itself. With each set by us, to be woken costs a quarter more on a virtual machine.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_due: Callable[[], None]) -> None:
        """Raises OSError or AttributeError where there is none."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        create, self._settime = self._libc.timerfd_create, self._libc.timerfd_settime
        self._settime.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        self._fd = create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = bytearray(ITIMERSPEC.size)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._spec))
        self._loop = loop
        self._on_due = on_due
        self._due_ns = 0
        # How far apart the deadlines are that the system sets; 0: it sets none.
        self._step_ns = 0
        # Whether somebody waits, and whether the system has the deadline behind the last one.
        self._armed = self._goes_on = False
        loop.add_reader(self._fd, self._fired)

    def arm(self, due_ns: int) -> None:
        """Call back at that monotonic time; a deadline of 0 would disarm it."""
        step_ns = due_ns - self._due_ns
        self._due_ns, self._armed = due_ns, True
        if self._goes_on and step_ns == self._step_ns:
            self._goes_on = False
            return
        self._goes_on = False
        self._step_ns = step_ns if 0 < step_ns < NS_PER_S else 0
        self._set(due_ns // NS_PER_S, max(1, due_ns % NS_PER_S))

    def _set(self, seconds: int, ns: int) -> None:
        ITIMERSPEC.pack_into(self._spec, 0, 0, self._step_ns, seconds, ns)
        self._settime(self._fd, TFD_TIMER_ABSTIME, self._address, None)

    def close(self) -> None:
        """Call back no more."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _fired(self) -> None:
        try:
            passed = int.from_bytes(os.read(self._fd, 8), sys.byteorder)
        except BlockingIOError:
            return  # armed anew between the expiry and this callback
        if not self._armed:  # nobody waits any more: the system is to be still
            self._step_ns, self._goes_on = 0, False
            self._set(0, 0)
            return
        self._armed, self._goes_on = False, passed == 1 and self._step_ns > 0
        self._on_due()


class LoopTimer:
    """The loop's own timer, where there is no timerfd."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_due: Callable[[], None]) -> None:
        self._loop = loop
        self._on_due = on_due
        self._handle: asyncio.TimerHandle | None = None

    def arm(self, due_ns: int) -> None:
        """Call back at that monotonic time."""
        self.close()
        loop = self._loop
        # The loop's clock may start anywhere: only differences carry over.
        delay_s = (due_ns - time.monotonic_ns()) / NS_PER_S
        self._handle = loop.call_at(loop.time() + max(0.0, delay_s), self._on_due)

    def close(self) -> None:
        """Call back no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


def new_timer(loop: asyncio.AbstractEventLoop, on_due: Callable[[], None]) -> Timer:
    """The most exact timer that this system has."""
    if sys.platform == "linux":
        try:
            return TimerFd(loop, on_due)
        except (OSError, AttributeError):
            pass  # a kernel or C library without it
    return LoopTimer(loop, on_due)
