"""What a caller says and mutes, on its way to the engine: so much of it a beat.

A message costs worker, engine and bot about the same however short it is, and a packet holds
sixty of them. What is more than a beat's share waits, bounded and in order, for the next.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# 400 messages a second, or 3 MiB: what is more is no conversation.
SHARE, SHARE_BYTES = 8, 64 << 10
MAX_WAITING, MAX_WAITING_BYTES = 1_024, 4 << 20
# Of what waits when the caller leaves, so much is still told.
MAX_LAST = 64


class Said:
    """The words of one caller. `beat` is called on each of the session's beats."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], object], int]] = deque()
        self._waiting_bytes = 0
        self._left, self._left_bytes = SHARE, SHARE_BYTES

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, tell: Callable[[], object], size: int) -> bool:
        """Call `tell`, now if there is time; False, and it never is, when too much waits."""
        if not self._waiting and self._left > 0 and self._left_bytes > 0:
            self._left -= 1
            self._left_bytes -= size
            tell()
            return True
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            return False
        self._waiting.append((tell, size))
        self._waiting_bytes += size
        return True

    def beat(self) -> None:
        """A new share."""
        self._left, self._left_bytes = SHARE, SHARE_BYTES
        while self._waiting and self._left > 0 and self._left_bytes > 0:
            self._left -= 1
            self._left_bytes -= self._tell()

    def end(self) -> int:
        """The caller is gone: tell its last words; how many are left out."""
        for _ in range(min(MAX_LAST, len(self._waiting))):
            self._tell()
        left_out = len(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        return left_out

    def _tell(self) -> int:
        tell, size = self._waiting.popleft()
        self._waiting_bytes -= size
        tell()
        return size
