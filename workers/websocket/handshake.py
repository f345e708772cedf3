"""The answer to the request of an end that dials: all that comes before the first frame.

What stands behind it is the slots', however the network has cut it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from websockets.http11 import Response
from websockets.protocol import CONNECTING

if TYPE_CHECKING:
    from websockets.client import ClientProtocol
    from websockets.server import ServerProtocol

HEAD_END = b"\r\n\r\n"


class Handshake:
    """That of one connection, between the bytes and the protocol."""

    def __init__(self, protocol: ClientProtocol | ServerProtocol) -> None:
        self._protocol = protocol
        # The answer, or why there is none: it is no WebSocket's, or the connection ended before.
        self.response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        # The last bytes that came, in which the end of the head may begin.
        self._tail = b""

    def take(self, data: bytes) -> bytes:
        """Bytes that came while it is under way; those that are none of its own are given back."""
        protocol = self._protocol
        seen = self._tail + data
        end = seen.find(HEAD_END)
        cut = len(data) if end < 0 else end + len(HEAD_END) - len(self._tail)
        self._tail = seen[1 - len(HEAD_END) :]
        protocol.receive_data(data[:cut])
        self._look()
        rest = data[cut:]
        if rest and protocol.state is CONNECTING:  # the text of a refusal
            protocol.receive_data(rest)
            self._look()
            return b""
        return rest

    def _look(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Response) and not self.response.done():
                self.response.set_result(event)
        if self._protocol.handshake_exc is not None:
            self.fail(self._protocol.handshake_exc)

    def fail(self, error: Exception) -> None:
        """There will be no answer any more. Without effect when there is one."""
        if not self.response.done():
            self.response.set_exception(error)
            self.response.exception()  # whoever dialled may have given up
