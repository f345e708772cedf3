"""A connection that keeps what it is given, for senders and receivers without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ipc.clock import NS_PER_MS

if TYPE_CHECKING:
    from ipc.clock import ManualClock
    from workers.websocket.connection import Connection


class FakeLink:
    """An open connection; `unsent_bytes` is what a test says."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.sent: list[str | bytes] = []
        self.times_ms: list[float] = []
        self.is_open = True
        self.takes = True
        self.unsent_bytes = 0
        self.rtt_ns = 0
        self.ended = ""

    def send(self, message: str | bytes) -> bool:
        if not self.takes:
            return False
        self.sent.append(message)
        self.times_ms.append(self._clock.now_ns() / NS_PER_MS)
        return True

    def keep_alive(self, now_ns: int) -> None:
        pass

    def end(self, reason: str) -> None:
        self.ended = reason
        self.is_open = False

    def forget(self) -> None:
        """Keep nothing of what was sent so far."""
        self.sent.clear()
        self.times_ms.clear()

    @property
    def as_connection(self) -> Connection:
        return cast("Connection", self)
