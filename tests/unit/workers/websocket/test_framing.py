"""Plain messages past the protocol: the same frames as the library's, and never a wrong one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from tests.fakes.websocket_wire import Wire, frame
from workers.websocket.framing import Framing, Masks, binary

SIZES = [1, 125, 126, 127, 2_000, 65_535, 65_536, 100_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT])
def test_a_frame_of_ours_is_read_by_the_library(size: int, side: Side) -> None:
    message = random.Random(size).randbytes(size)
    far = Protocol(side, max_size=1 << 20)
    far.receive_data(binary(message, b"\1\2\3\xfe" if side is Side.SERVER else b""))
    (event,) = far.events_received()
    assert isinstance(event, Frame)
    assert (event.opcode, event.fin, bytes(event.data)) == (Opcode.BINARY, True, message)


def test_keys_are_new_each_time_over_many_pools() -> None:
    masks = Masks()
    keys = [masks.take() for _ in range(2_000)]
    assert {len(key) for key in keys} == {4}
    assert len(set(keys)) > 1_990


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_a_whole_message_is_told_at_once(size: int, masked: bool) -> None:
    message = random.Random(size).randbytes(size)
    data = Frame(Opcode.BINARY, message).serialize(mask=masked)
    found = Framing(masked=masked, max_bytes=1 << 20).whole(data)
    assert found == (message if len(data) >= 126 and size < 1 << 16 else None)
    assert Framing(masked=not masked, max_bytes=1 << 20).whole(data) is None
    assert Framing(masked=masked, max_bytes=size - 1).whole(data) is None


@pytest.mark.parametrize(
    "data",
    [
        frame(Opcode.TEXT, bytes(300)),
        frame(Opcode.BINARY, bytes(300), fin=False),
        frame(Opcode.BINARY, bytes(300)) + b"\x89",
        frame(Opcode.BINARY, bytes(300))[:-1],
        b"\xc2" + frame(Opcode.BINARY, bytes(300))[1:],
        b"",
    ],
)
def test_anything_else_is_the_protocols(data: bytes) -> None:
    assert Framing(masked=False, max_bytes=None).whole(data) is None


def test_in_the_middle_of_a_frame_nothing_is_a_message() -> None:
    inner = frame(Opcode.BINARY, bytes(200))
    outer = frame(Opcode.BINARY, bytes(10) + inner + bytes(10))
    framing = Framing(masked=False, max_bytes=None)
    assert framing.cut(outer[:14], 9) == (14, 1)
    assert framing.whole(inner) is None
    assert framing.cut(outer[14:], 9) == (len(outer) - 14, 0)
    assert framing.whole(inner) == bytes(200)


KINDS = st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.PING])
FRAMES = st.lists(st.tuples(KINDS, st.integers(0, 400)), max_size=8)


@given(FRAMES, st.integers(0, 1 << 32))
def test_messages_are_the_same_however_their_bytes_are_cut(
    said: list[tuple[Opcode, int]], seed: int
) -> None:
    rng = random.Random(seed)
    framing = Framing(masked=True, max_bytes=None)
    data = b""
    for opcode, size in said:
        payload = bytes(size if opcode is not Opcode.PING else size % 126)
        data += Frame(opcode, payload).serialize(mask=True)
    counted, size = 0, 0
    while data:
        size += rng.choice((1, 2, 3, 7, 50, 200, 1_000))
        taken, count = framing.cut(data[:size], rng.choice((1, 2, 9)))
        data, counted = data[taken:], counted + count
        size = max(0, min(size, len(data) + taken) - taken)
    assert counted == len(said)
    # Behind whole frames the next one begins anew.
    assert framing.whole(Frame(Opcode.BINARY, bytes(333)).serialize(mask=True)) == bytes(333)


async def test_a_connection_keeps_the_order_of_plain_messages_and_others() -> None:
    wire = Wire()
    plain, text = bytes([7]) * 300, "é" * 100
    first, second = frame(Opcode.TEXT, text.encode()[:150], fin=False), text.encode()[150:]
    pieces = [
        frame(Opcode.BINARY, plain),
        first[:100],
        first[100:],
        frame(Opcode.PING, b"p"),
        frame(Opcode.CONT, second),
        frame(Opcode.BINARY, plain),
        frame(Opcode.BINARY, plain) * 2,
    ]
    for piece in pieces:
        wire.arrive(piece)
    wire.settle()
    assert wire.messages == [plain, text, plain, plain, plain]
    assert [answer.opcode for answer in wire.answers()] == [Opcode.PONG]


async def test_a_plain_message_inside_a_fragmented_one_is_still_a_fault() -> None:
    wire = Wire()
    wire.arrive(frame(Opcode.TEXT, bytes(200), fin=False))
    wire.arrive(frame(Opcode.BINARY, bytes(200)))
    wire.settle()
    assert (wire.messages, wire.ends) == ([], ["protocol_error"])


async def test_plain_messages_wait_for_whoever_is_full() -> None:
    wire = Wire()
    full = True
    wire.connection.is_full = lambda: full
    wire.arrive(frame(Opcode.BINARY, bytes(200)))
    wire.settle()
    assert wire.messages == []
    full = False
    wire.connection.resume()
    wire.settle()
    assert wire.messages == [bytes(200)]
