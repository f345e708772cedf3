"""The protocol of `websockets` for both ends, but for one word of it; and how it has ended.

A close frame between the frames of a message is a goodbye like any other: control frames may
stand there, RFC 6455 section 5.4. Who says it leaves the message unfinished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from websockets.client import ClientProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import CloseCode, Opcode
from websockets.server import ServerProtocol

if TYPE_CHECKING:
    from websockets.frames import Frame

LEFT = (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY)


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


def max_bytes(protocol: ClientProtocol | ServerProtocol) -> int | None:
    """What a message may have; the library has renamed it."""
    found: int | None = getattr(protocol, "max_message_size", getattr(protocol, "max_size", 0))
    return found


def why_ended(protocol: ClientProtocol | ServerProtocol) -> str:
    """What the other side or the network has ended it by, in a word."""
    if protocol.close_rcvd is not None:
        return "server_left" if protocol.close_rcvd.code in LEFT else "server_closed"
    fault = protocol.parser_exc
    if isinstance(fault, PayloadTooBig):
        return "message_too_large"
    if fault is None or isinstance(fault, EOFError):
        return "connection_lost"
    return "protocol_error"
