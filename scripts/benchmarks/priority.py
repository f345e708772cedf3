"""Real-time priority for processes that measure, when the system allows it."""

from __future__ import annotations

import os


def raise_priority(fifo: int) -> str:
    """Try SCHED_FIFO `fifo` without inheritance, then nice -10; says which one holds."""
    if hasattr(os, "SCHED_FIFO"):
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(fifo))
            return f"fifo {fifo}"
        except OSError:
            pass
    try:
        os.nice(-10)
        return "nice -10"
    except OSError:
        return "none"
