"""App messages over a WebSocket: the part of a leg that a data channel is to a WebRTC caller."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ipc.errors import MalformedMessage, StateError

if TYPE_CHECKING:
    from workers.websocket.connection import Connection
    from workers.websocket.wire import Wire


class Messages:
    """Sends a session's messages on the connection of the moment.

    The last `keep` of those that are sent while there is none wait for the next.
    """

    def __init__(self, wire: Wire, keep: int = 0) -> None:
        self._wire = wire
        self._keep = keep
        self._kept: deque[str | bytes] = deque()
        self._link: Connection | None = None
        self.sent = self.dropped = self.malformed = 0

    @property
    def link(self) -> Connection | None:
        """The connection of the moment; None while there is none."""
        return self._link

    @link.setter
    def link(self, link: Connection | None) -> None:
        self._link = link
        while link is not None and self._kept:
            self._send(self._kept.popleft())

    def send(self, data: Any) -> None:
        """Send an app message in the wire's form. Raises ValueError for what has none."""
        try:
            message = self._wire.message(data)
        except MalformedMessage as error:
            raise ValueError(error.message) from error
        if message is not None and self._link is None and self._keep:
            self._kept.append(message)
            if len(self._kept) > self._keep:
                self._kept.popleft()
                self.dropped += 1
            return
        self._send(message)

    def _send(self, message: str | bytes | None) -> None:
        if message is None or self._link is None or not self._link.send(message):
            self.dropped += 1
        else:
            self.sent += 1

    def send_raw(self, data: str | bytes) -> None:
        """Send a message as it is. Raises StateError(`not_connected` or `slow_reader`)."""
        link = self.link
        if link is None or not link.is_open:
            raise StateError("there is no connection to the server now", code="not_connected")
        if not link.send(data):
            raise StateError("the server does not take what was sent", code="slow_reader")
        self.sent += 1

    def say_goodbye(self, *, in_haste: bool = False) -> None:
        """The close frame does."""
