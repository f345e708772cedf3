"""A memory fence for two processes that share words without a lock.

x86 keeps store-store and load-load order by itself. On CPUs that reorder them (ARM) one acquire
and release of a lock is a one-way door on each side, so two pairs are a full fence.
"""

from __future__ import annotations

import platform
import threading

_lock = threading.Lock()


def lock_fence() -> None:
    """For every CPU."""
    with _lock:
        pass
    with _lock:
        pass


def no_fence() -> None:
    """For CPUs that need none."""


fence = no_fence if platform.machine() in ("x86_64", "AMD64", "i686") else lock_fence
