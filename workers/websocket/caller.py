"""The leg of a caller who came to us over WebSocket, until it ends or comes back.

A connection that breaks leaves the leg `lost`: the caller may come with another one, which takes
the place of an old one that nobody has missed yet. Who says goodbye has left.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from websockets.frames import CloseCode

from workers.websocket.caller_receiver import CallerReceiver
from workers.websocket.peer import WebsocketPeer

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.websocket.connection import Connection
    from workers.websocket.receiver import Receiver
    from workers.websocket.wire import Wire

# What the network did; everything else was said by the caller or is its fault.
BROKEN = ("connection_lost", "ping_timeout", "slow_reader")
LEFT = ("server_left", "server_closed")
# How the caller is told why we end the call; for every other reason it is a normal end.
CODES = {
    "engine_stopped": CloseCode.SERVICE_RESTART,
    "engine_gone": CloseCode.SERVICE_RESTART,
    "no_bot": CloseCode.TRY_AGAIN_LATER,
    "bot_error": CloseCode.INTERNAL_ERROR,
    "internal": CloseCode.INTERNAL_ERROR,
}


class CallerPeer(WebsocketPeer):
    """The leg. `close` is idempotent; `farewell` is the reason that the caller is given."""

    farewell = ""
    kept_messages = 50

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Connections that others have taken the place of, until they are gone.
        self._replaced: set[asyncio.Task[None]] = set()

    def _new_receiver(
        self, wire: Wire, on_mic: Callable[[], None], on_message: Callable[[str | bytes, int], None]
    ) -> Receiver:
        return CallerReceiver(self._clock, wire, on_mic, on_message)

    def take(self, connection: Connection) -> None:
        """The caller comes with this connection, for the first time or again."""
        before = self._link
        if before is not None:
            self._before = self.totals()
            before.on_end = lambda _connection, _reason: None
            ending = asyncio.create_task(_replace(before), name="replaced connection")
            self._replaced.add(ending)
            ending.add_done_callback(self._replaced.discard)
        super().take(connection)

    def never_came(self) -> None:
        """It was admitted and went away before it was in."""
        if self.state is None:
            self.fault = "connection_lost"
            self._become("lost")

    def _go_on(self, reason: str) -> None:
        if reason in BROKEN:
            self._become("lost")
            return
        if reason in LEFT:
            self.fault = "caller_left"
        self._become("closed")

    async def _take_leave(self, link: Connection) -> None:
        code = CODES.get(self.farewell, CloseCode.NORMAL_CLOSURE)
        await link.close(code, self.farewell[:100])

    async def _close(self) -> None:
        await super()._close()
        await asyncio.gather(*self._replaced, return_exceptions=True)


async def _replace(connection: Connection) -> None:
    try:
        await connection.close(CloseCode.NORMAL_CLOSURE, "replaced")
    finally:
        connection.abort()
