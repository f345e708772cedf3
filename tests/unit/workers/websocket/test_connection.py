"""One WebSocket between bytes and messages: fragments, limits, pings, back-pressure, the end."""

from __future__ import annotations

import asyncio

import pytest
from websockets.frames import Close, Opcode

from tests.fakes.websocket_wire import Wire, frame
from tests.support import until
from workers.websocket.connection import MAX_DRAIN_BYTES, MAX_RECEIVED_BYTES, MAX_UNSENT_BYTES

HALF = frame(Opcode.TEXT, "é".encode()[:1], fin=False)


async def test_nothing_is_handled_before_the_slot() -> None:
    wire = Wire()
    wire.arrive(frame(Opcode.TEXT, b"hello"))
    assert wire.messages == []
    wire.slot()
    assert wire.messages == ["hello"]


async def test_fragments_with_pings_between_them_are_one_message() -> None:
    wire = Wire()
    data = frame(Opcode.TEXT, "é".encode()[:1], fin=False) + frame(Opcode.PING, b"p")
    data += frame(Opcode.CONT, "é".encode()[1:] + b"!")
    for byte in data:
        wire.arrive(bytes([byte]))
        wire.slot()
    assert wire.messages == ["é!"]
    assert [(answer.opcode, bytes(answer.data)) for answer in wire.answers()] == [
        (Opcode.PONG, b"p")
    ]


@pytest.mark.parametrize(
    ("data", "reason", "code"),
    [
        (frame(Opcode.TEXT, b"\xff"), "protocol_error", 1007),
        (HALF + frame(Opcode.CONT, b""), "protocol_error", 1007),
        (HALF + frame(Opcode.CLOSE, Close(1000, "").serialize()), "server_left", 1000),
        (frame(Opcode.CONT, b"x"), "protocol_error", 1002),
        (frame(Opcode.BINARY, bytes(70_000)), "message_too_large", 1009),
        (b"\xff\xff\xff\xff", "protocol_error", 1002),
        (frame(Opcode.CLOSE, Close(1000, "").serialize()), "server_left", 1000),
        (frame(Opcode.CLOSE, b""), "server_closed", 1005),
        (frame(Opcode.CLOSE, Close(4000, "why").serialize()), "server_closed", 4000),
    ],
)
async def test_each_end_has_its_name_and_is_told_once(data: bytes, reason: str, code: int) -> None:
    wire = Wire()
    wire.arrive(frame(Opcode.TEXT, b"before") + data + frame(Opcode.TEXT, b"behind"))
    wire.settle()
    wire.connection.connection_lost(None)
    wire.settle()
    assert wire.messages == ["before"]
    assert wire.ends == [reason]
    assert wire.connection.close_code == code
    assert not wire.connection.send("late")
    assert [answer.opcode for answer in wire.answers()] == [Opcode.CLOSE]


@pytest.mark.parametrize("part", [b"\xff", b"\xa9\xed\xa0\x80"])
async def test_nobody_waits_for_the_end_of_a_text_that_is_none(part: bytes) -> None:
    wire = Wire()
    wire.arrive(HALF + frame(Opcode.CONT, part, fin=False))
    wire.settle()
    assert wire.ends == ["protocol_error"]
    assert wire.connection.close_code == 1007


async def test_what_came_before_the_path_broke_is_heard() -> None:
    wire = Wire()
    wire.arrive(frame(Opcode.TEXT, b"last words") + b"\x82")
    wire.connection.connection_lost(ConnectionResetError())
    wire.settle()
    assert wire.messages == ["last words"]
    assert wire.ends == ["connection_lost"]
    assert wire.connection.close_code == 1006


async def test_a_slot_handles_no_more_than_it_has_time_for() -> None:
    wire = Wire()
    message = frame(Opcode.BINARY, bytes(1_000))
    wire.arrive(message * 200)
    wire.slot()
    assert 0 < len(wire.messages) <= MAX_DRAIN_BYTES // len(message) + 1
    wire.settle()
    assert len(wire.messages) == 200


async def test_a_flood_waits_in_the_socket() -> None:
    wire = Wire()
    piece = frame(Opcode.BINARY, bytes(1_000)) * 65
    count = 0
    while not wire.transport.paused:
        wire.arrive(piece)
        count += 1
        assert count * len(piece) <= MAX_RECEIVED_BYTES + len(piece)
    wire.settle()
    assert not wire.transport.paused
    assert len(wire.messages) == 65 * count


async def test_whoever_is_full_gets_no_more_until_there_is_room() -> None:
    wire = Wire()
    wire.connection.is_full = lambda: len(wire.messages) >= 3
    wire.arrive(frame(Opcode.TEXT, b"x") * 10)
    wire.settle()
    assert len(wire.messages) == 3
    wire.connection.is_full = lambda: False
    wire.connection.resume()
    wire.settle()
    assert len(wire.messages) == 10


async def test_pings_leave_in_time_and_measure_the_round_trip() -> None:
    wire = Wire(ping_interval_s=1.0, ping_timeout_s=2.0)
    for _ in range(3):
        wire.clock.advance_ms(1_000)
        wire.connection.keep_alive(wire.clock.now_ns())
        (ping,) = wire.answers()
        assert ping.opcode is Opcode.PING
        wire.clock.advance_ms(30)
        wire.arrive(frame(Opcode.PONG, bytes(ping.data)))
        wire.settle()
        assert wire.connection.rtt_ns == 30_000_000
        wire.connection.keep_alive(wire.clock.now_ns())
    assert wire.ends == []


async def test_a_pong_that_does_not_come_ends_it() -> None:
    wire = Wire(ping_interval_s=1.0, ping_timeout_s=0.5)
    wire.clock.advance_ms(1_000)
    wire.connection.keep_alive(wire.clock.now_ns())
    wire.arrive(frame(Opcode.PONG, b"another's"))
    wire.settle()
    wire.clock.advance_ms(499)
    wire.connection.keep_alive(wire.clock.now_ns())
    assert wire.ends == []
    wire.clock.advance_ms(1)
    wire.connection.keep_alive(wire.clock.now_ns())
    assert wire.ends == ["ping_timeout"]


async def test_what_a_server_does_not_take_is_refused_beyond_a_bound() -> None:
    wire = Wire()
    wire.transport.unsent = MAX_UNSENT_BYTES + 1
    assert not wire.connection.send(b"more")
    wire.transport.unsent = 0
    assert wire.connection.send(b"more")


async def test_closing_says_goodbye_and_waits_only_so_long() -> None:
    wire = Wire(close_timeout_s=0.05)
    closing = asyncio.create_task(wire.connection.close())
    await asyncio.wait_for(closing, 30)
    assert wire.transport.aborted
    (close,) = wire.answers()
    assert close.opcode is Opcode.CLOSE
    polite = Wire(close_timeout_s=300.0)
    closing = asyncio.create_task(polite.connection.close())
    await until(lambda: polite.transport.written)
    polite.arrive(frame(Opcode.CLOSE, Close(1000, "").serialize()))
    polite.connection.connection_lost(None)
    await asyncio.wait_for(closing, 30)
