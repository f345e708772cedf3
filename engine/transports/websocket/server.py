"""The server at the other end of a connection, as event handlers and callbacks get it.

The socket itself lives in a media worker; this object has what is asked of one here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from websockets.datastructures import Headers
from websockets.protocol import State

from ipc.errors import BackbeatError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.sdk import WebsocketSession


@dataclass(frozen=True, slots=True)
class Handshake:
    """One side of the opening handshake: its headers, whose names have no case."""

    headers: Headers


class Server:
    """One connection, from its beginning to its end; a reconnection is the same object."""

    def __init__(self, session: WebsocketSession, uri: str, headers: Mapping[str, str]) -> None:
        self._session = session
        self._closing = False
        self.uri = uri
        # What was asked with, beyond what every opening handshake has.
        self.request = Handshake(Headers(headers))

    @property
    def response(self) -> Handshake:
        """The server's answer when it was dialled first."""
        return Handshake(Headers(self._session.response_headers))

    @property
    def state(self) -> State:
        """CONNECTING also while it is being dialled again, OPEN, CLOSING, CLOSED."""
        if self._session.closed:
            return State.CLOSED
        if self._closing:
            return State.CLOSING
        return State.OPEN if self._session.connected else State.CONNECTING

    @property
    def remote_address(self) -> tuple[str | int, ...]:
        """The server's address and port."""
        return self._session.remote_address

    @property
    def subprotocol(self) -> str | None:
        """The one that the server chose."""
        return self._session.subprotocol

    @property
    def close_code(self) -> int | None:
        """How it ended (RFC 6455 section 7.4.1); None while it has not."""
        return self._session.close_code or None

    @property
    def close_reason(self) -> str | None:
        """What the server said at its end; None while it has not ended."""
        return self._session.close_text if self._session.close_code else None

    async def send(self, message: str | bytes) -> bool:
        """Send a message as it is, now; whether it went to the open socket."""
        return not self._closing and await self._session.send_raw(message)

    async def close(self) -> None:
        """End the connection politely. Safe to call twice."""
        if self._closing or self._session.closed:
            return
        self._closing = True
        try:
            await self._session.close("bot_closed")
        except BackbeatError:
            return  # it has ended meanwhile, or its engine has

    def __str__(self) -> str:
        return f"{self.uri} ({self.state.name.lower()})"
