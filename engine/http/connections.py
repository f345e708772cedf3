"""HTTP connections that come to something: one without a whole request ends after a while.

uvicorn has a time for connections on which nothing follows an answer, and none for those on
which no request comes, or half of one. They would use up the process' descriptors, which calls
need, too. So their number is bounded as well: the one that has waited longest makes room.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

# For a request with its body; it is looked at so often, so that it may take up to twice as long.
REQUEST_S = 10.0
MAX_CONNECTIONS = 1_024


def most() -> int:
    """How many connections there may be: half of what the process may open, at most 1024."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if allowed < 0 else min(MAX_CONNECTIONS, allowed // 2)


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol with an eye on the clock."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._due: asyncio.TimerHandle | None = None
        self._since_s = 0.0
        # What was being answered at the last look; None before the first request.
        self._looked_at: object = self

    @property
    def waits(self) -> bool:
        """Whether nothing is being answered: no request is here, or not all of it."""
        cycle: Any = self.cycle  # None before the first request, whatever uvicorn says
        return cycle is None or cycle.more_body or cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Somebody is there."""
        super().connection_made(transport)
        self._since_s = self.loop.time()
        self._due = self.loop.call_later(REQUEST_S, self._look)
        if len(self.connections) > most() and not self._make_room():
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """They have left."""
        if self._due is not None:
            self._due.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        if self.waits and self._looked_at is self.cycle:
            self.transport.abort()
            return
        self._looked_at = self.cycle
        self._due = self.loop.call_later(REQUEST_S, self._look)

    def _make_room(self) -> bool:
        others = [
            other
            for other in self.connections
            if isinstance(other, BoundedProtocol) and other is not self and other.waits
        ]
        if not others:
            return False
        min(others, key=lambda other: other._since_s).transport.abort()
        return True
