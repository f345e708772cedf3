"""One end of a WebSocket without a network: a connection over a transport that keeps bytes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from ipc.clock import ManualClock
from workers.websocket.connection import Connection
from workers.websocket.protocol import ClientEnd, ServerEnd
from workers.websocket.reading import Reading

if TYPE_CHECKING:
    from workers.websocket.sockets import Drained, Sockets


class FakeTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.paused = self.closing = self.aborted = False
        self.unsent = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 4_711) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Wire:
    """An open end, a client's unless told, what it said, and slots that a test runs."""

    def __init__(
        self,
        transport: FakeTransport | None = None,
        *,
        max_size: int | None = 1 << 16,
        as_server: bool = False,
        reading: Reading | None = None,
        **options: Any,
    ) -> None:
        self.clock = ManualClock()
        self.waiting: dict[Drained, None] = {}
        self.reading = reading or Reading()
        client = ClientEnd(parse_uri("ws://far/"), state=OPEN, max_size=max_size)
        server = ServerEnd(state=OPEN, max_size=max_size)
        protocol = server if as_server else client
        # What reads this end's bytes.
        self._far: ClientEnd | ServerEnd = client if as_server else server
        self.connection = Connection(
            protocol,
            cast("Sockets", self),
            self.clock,
            **options,
        )
        self.transport = transport or FakeTransport()
        self.connection.connection_made(self.transport)
        self.messages: list[str | bytes] = []
        self.ends: list[str] = []
        self.connection.on_message = lambda message, _now_ns: self.messages.append(message)
        self.connection.on_end = lambda _connection, reason: self.ends.append(reason)
        self.connection.listen()

    def add(self, connection: Drained) -> None:
        """As `Sockets.add`."""
        self.waiting[connection] = None

    def slot(self) -> None:
        """One slot."""
        waiting, self.waiting = self.waiting, {}
        for connection in waiting:
            if connection.drain(self.clock.now_ns()):
                self.waiting[connection] = None

    def settle(self) -> None:
        """As many slots as there is something to do in."""
        while self.waiting:
            self.slot()

    def arrive(self, data: bytes) -> None:
        """Bytes of the other side's."""
        self.connection.data_received(data)

    def answers(self) -> list[Frame]:
        """The frames that this end has written since the last call."""
        data, self.transport.written = self.transport.written, b""
        self._far.receive_data(data)
        return [event for event in self._far.events_received() if isinstance(event, Frame)]


def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    """A server's frame."""
    return Frame(opcode, data, fin).serialize(mask=False)


def client_frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    """A client's frame."""
    return Frame(opcode, data, fin).serialize(mask=True)


def frames_of(transport: FakeTransport) -> list[Frame]:
    """The frames that a server's end has written since the last call."""
    data, transport.written = transport.written, b""
    far = ClientProtocol(parse_uri("ws://far/"), state=OPEN)
    far.receive_data(data)
    return [event for event in far.events_received() if isinstance(event, Frame)]
