"""Processes that end together: the child's end of the socket pair that its parent holds.

The kernel closes the parent's end with the parent, however it died. A thread waits for that,
because it must be noticed also while the child's event loop hangs.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def end_with_parent(descriptor: int, on_end: Callable[[], None], grace_s: float) -> None:
    """Call `on_end` (from a thread) when the parent is gone, and exit after `grace_s`."""
    os.set_inheritable(descriptor, False)
    threading.Thread(
        target=_wait, args=(descriptor, on_end, grace_s), name="life", daemon=True
    ).start()


def _wait(descriptor: int, on_end: Callable[[], None], grace_s: float) -> None:
    # A parent that died with something unread resets the connection.
    with socket.socket(fileno=descriptor) as end, contextlib.suppress(ConnectionResetError):
        while end.recv(64):
            pass
    on_end()
    threading.Event().wait(grace_s)
    os._exit(1)


def started(pid: int) -> float:
    """When a process of this machine began, in seconds since boot; 0.0 when nobody can tell.

    With the pid it names a process for good: pids are used again. Linux, from field 22 of
    /proc/PID/stat (proc(5)).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0
