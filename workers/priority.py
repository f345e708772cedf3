"""The pacer's scheduling priority: real-time if we may, else a better nice value, else none.

With other work on every core, packets are up to 8 ms late at normal priority and 0.1 ms with
SCHED_FIFO. Threads and children do not inherit it (SCHED_RESET_ON_FORK): only the beat has it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from typing import Literal

from ipc.clock import NS_PER_S

Wanted = Literal["auto", "none"]
FIFO_PRIORITY = 5
NICE = -10
# A worker that spins for so long without ever sleeping is a fault that would hang the core:
# the kernel ends it, and a spare takes its place. Well above the longest start of a library.
SPIN_LIMIT_US = 3_000_000
# One with just as much to do as it can never sleeps either: it is made to, well before.
AWAKE_NS = NS_PER_S // 4
BREATH_S = 0.001


def raise_priority(wanted: Wanted) -> str:
    """Climb as far up the ladder as this process may; says which rung holds."""
    if wanted == "none":
        return "none"
    return _fifo() or _nice() or "none"


def _fifo() -> str:
    if not hasattr(os, "SCHED_FIFO") or not hasattr(resource, "RLIMIT_RTTIME"):
        return ""
    try:
        _, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
        limit = SPIN_LIMIT_US if hard == resource.RLIM_INFINITY else min(hard, SPIN_LIMIT_US)
        resource.setrlimit(resource.RLIMIT_RTTIME, (limit, hard))
        os.sched_setscheduler(
            0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(FIFO_PRIORITY)
        )
    except (OSError, ValueError):  # not permitted, or refused by the container
        return ""
    return f"fifo {FIFO_PRIORITY}"


def _nice() -> str:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, min(before, NICE))
    now = os.getpriority(os.PRIO_PROCESS, 0)
    return f"nice {now}" if now < before else ""


class Breath:
    """Has a thread that is never idle sleep now and then, lest the kernel ends it."""

    def __init__(self, now_ns: int) -> None:
        self._sleeps, self._slept_ns = _sleeps(), now_ns

    def take(self, now_ns: int) -> None:
        """To be called some times a second: sleep for a moment if it has not for long."""
        sleeps = _sleeps()
        if sleeps == self._sleeps >= 0 and now_ns - self._slept_ns >= AWAKE_NS:
            time.sleep(BREATH_S)
            sleeps = _sleeps()
        if sleeps != self._sleeps:
            self._sleeps, self._slept_ns = sleeps, now_ns


def _sleeps() -> int:
    """How often this thread has given up its processor by itself; -1 where nobody counts that."""
    who = getattr(resource, "RUSAGE_THREAD", None)
    return resource.getrusage(who).ru_nvcsw if who is not None else -1
