"""The protocol of `websockets` for both ends, but for one word of it.

A close frame between the frames of a message is a goodbye like any other: control frames may
stand there, RFC 6455 section 5.4. Who says it leaves the message unfinished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.server import ServerProtocol

if TYPE_CHECKING:
    from websockets.frames import Frame


class ClientEnd(ClientProtocol):
    """The end that has dialled."""

    def recv_frame(self, frame: Frame) -> None:
        """Take a frame."""
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)


class ServerEnd(ServerProtocol):
    """The end that was dialled."""

    def recv_frame(self, frame: Frame) -> None:
        """Take a frame."""
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)
