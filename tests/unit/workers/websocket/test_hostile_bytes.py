"""Bytes that another side sends to hold the worker up: at the handshake, at the end, in crumbs."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from ipc.clock import ManualClock
from tests.fakes.websocket_wire import FakeTransport, Wire, client_frame, frame
from workers.websocket.connection import (
    MAX_DRAIN_BYTES,
    MAX_DRAIN_FRAMES,
    MAX_UNANSWERED_BYTES,
    Connection,
)
from workers.websocket.protocol import ClientEnd
from workers.websocket.reading import Reading

if TYPE_CHECKING:
    from workers.websocket.sockets import Drained, Sockets

FLOOD = 20 * MAX_DRAIN_FRAMES


class Dialled:
    """A client's end that has sent its request, and the server's answer to it."""

    def __init__(self) -> None:
        protocol = ClientEnd(parse_uri("ws://far/"))
        request = protocol.connect()
        protocol.send_request(request)
        far = ServerProtocol()
        far.receive_data(b"".join(protocol.data_to_send()))
        far.send_response(far.accept(request))
        self.answer = b"".join(far.data_to_send())
        self.waiting: dict[Drained, None] = {}
        self.reading = Reading()
        self.messages: list[str | bytes] = []
        self.connection = Connection(protocol, cast("Sockets", self), ManualClock())
        self.connection.on_message = lambda message, _now_ns: self.messages.append(message)
        self.connection.connection_made(FakeTransport())

    def add(self, connection: Drained) -> None:
        """As `Sockets.add`."""
        self.waiting[connection] = None


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
async def test_what_a_server_says_in_one_breath_with_its_answer_waits_for_the_slots(
    size: int,
) -> None:
    far = Dialled()
    said = frame(Opcode.TEXT, b"x" * 200) + FLOOD * frame(Opcode.TEXT, b"x")
    data = far.answer + said
    for at in range(0, len(data), size):
        far.connection.data_received(data[at : at + size])
    assert far.connection.response.result().status_code == 101
    far.connection.listen()
    far.connection.drain(0)
    assert len(far.messages) == MAX_DRAIN_FRAMES
    while far.connection.drain(0):
        pass
    assert len(far.messages) == FLOOD + 1


@pytest.mark.parametrize("as_server", [True, False])
async def test_who_goes_on_after_a_goodbye_waits_in_the_socket(as_server: bool) -> None:
    wire = Wire(as_server=as_server)
    made = client_frame if as_server else frame
    wire.arrive(made(Opcode.CLOSE, Close(1000, "").serialize()))
    wire.settle()
    assert wire.ends == ["server_left"]
    for _ in range(5_000):
        if wire.transport.paused:
            break
        wire.arrive(bytes(1_000))
    assert wire.transport.paused


async def test_a_flood_at_our_own_goodbye_is_handled_in_bounded_steps() -> None:
    wire = Wire(as_server=True)
    wire.connection.protocol.send_close(1000, "")
    wire.arrive(FLOOD * client_frame(Opcode.PING, b""))
    assert len(wire.connection._events) <= MAX_DRAIN_FRAMES


async def test_who_asks_for_pongs_and_reads_none_is_given_up() -> None:
    wire = Wire()
    wire.transport.unsent = MAX_UNANSWERED_BYTES + 1
    wire.arrive(frame(Opcode.PING, b"?"))
    wire.settle()
    assert wire.ends == ["slow_reader"]


async def test_a_message_in_crumbs_costs_as_much_as_its_bytes() -> None:
    wire = Wire()
    for byte in frame(Opcode.BINARY, b"x" * 3_000):
        wire.arrive(bytes([byte]))
    given: list[int] = []
    receive = wire.connection.protocol.receive_data

    def counted(data: bytes | bytearray) -> None:
        given.append(len(data))
        receive(data)

    wire.connection.protocol.receive_data = counted  # type: ignore[method-assign]
    wire.settle()
    assert wire.messages == [b"x" * 3_000]
    assert len(given) < 10


async def test_small_frames_that_unfold_to_large_ones_are_spread_over_the_slots() -> None:
    wire = Wire()
    wire.connection.protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
    wire.connection.listen()
    packer = PerMessageDeflate(False, False, 15, 15)
    for _ in range(20):
        wire.arrive(Frame(Opcode.BINARY, bytes(60_000)).serialize(mask=False, extensions=[packer]))
    wire.slot()
    assert 0 < len(wire.messages) <= MAX_DRAIN_BYTES // 60_000 + 1
