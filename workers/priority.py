"""The pacer's scheduling priority: real-time if we may, else a better nice value, else none.

With other work on every core, packets are up to 8 ms late at normal priority and 0.1 ms with
SCHED_FIFO. Threads and children do not inherit it (SCHED_RESET_ON_FORK): only the beat has it.
"""

from __future__ import annotations

import contextlib
import os
import resource
from typing import Literal

Wanted = Literal["auto", "none"]
FIFO_PRIORITY = 5
NICE = -10
# A worker that spins for so long without ever sleeping is a fault that would hang the core:
# the kernel ends it, and a spare takes its place. Well above the longest start of a library.
SPIN_LIMIT_US = 3_000_000


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
