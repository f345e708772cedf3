"""When the other side of a WebSocket is asked for a sign of life, and when it gives none.

One question at a time, RFC 6455 section 5.5.2. Knows no connection: it is told the time and what
was heard, and says what is due.
"""

from __future__ import annotations

from ipc.clock import NS_PER_S

NEVER_NS = 1 << 62


class Pings:
    """Those of one connection."""

    def __init__(
        self, interval_s: float | None, timeout_s: float | None, *, data_is_life: bool
    ) -> None:
        """Without an interval there are none; without a timeout an answer may take any time.

        With `data_is_life` whatever comes counts as much as the answer.
        """
        self._interval_ns = _ns(interval_s)
        self._timeout_ns = _ns(timeout_s)
        self._data_is_life = data_is_life
        # Before it there is nothing to do.
        self.due_ns = NEVER_NS
        # Whether an answer is awaited; asked when, and when the next question is due.
        self.awaited = False
        self._asked_ns = 0
        self._next_ns = NEVER_NS
        self._count = 0

    def begin(self, now_ns: int) -> None:
        """The connection is open: the first one is due an interval from now."""
        if self._interval_ns:
            self.due_ns = now_ns + self._interval_ns

    def ask(self, now_ns: int) -> bytes:
        """What the ping says that is sent now."""
        self._count += 1
        self.due_ns = self._next_ns = now_ns + self._interval_ns
        if self._timeout_ns:
            self.awaited, self._asked_ns = True, now_ns
            self.due_ns = now_ns + self._timeout_ns
        return self._payload()

    def answer(self, payload: bytes, now_ns: int) -> int:
        """A pong came: the round trip in ns, 0 when it answers nothing."""
        if not self.awaited or payload != self._payload():
            return 0
        self.awaited, self.due_ns = False, self._next_ns
        return now_ns - self._asked_ns

    def is_overdue(self, now_ns: int, heard_ns: int) -> bool:
        """Whether the awaited answer is; something was heard last at `heard_ns`."""
        since_ns = max(self._asked_ns, heard_ns if self._data_is_life else 0)
        self.due_ns = since_ns + self._timeout_ns
        return now_ns >= self.due_ns

    def _payload(self) -> bytes:
        return self._count.to_bytes(8, "big")


def _ns(seconds: float | None) -> int:
    return round(seconds * NS_PER_S) if seconds else 0
