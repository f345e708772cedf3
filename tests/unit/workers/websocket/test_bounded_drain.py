"""No other side takes a slot's time: frames, bytes and turns are bounded, and nothing is lost."""

from __future__ import annotations

import pytest
from websockets.frames import Opcode

from tests.fakes.websocket_wire import Wire, frame
from workers.websocket.acceptor import MAX_FRAMES_PER_S
from workers.websocket.connection import COUNTED_S, MAX_DRAIN_FRAMES
from workers.websocket.sockets import Sockets


async def test_a_slot_handles_so_many_frames_and_the_rest_in_the_next_ones() -> None:
    wire = Wire()
    said = [str(number) for number in range(10 * MAX_DRAIN_FRAMES)]
    wire.arrive(b"".join(frame(Opcode.TEXT, text.encode()) for text in said))
    wire.slot()
    assert wire.messages == said[:MAX_DRAIN_FRAMES]
    wire.settle()
    assert wire.messages == said


async def test_a_frame_that_does_not_say_its_length_waits_without_a_slot() -> None:
    wire = Wire()
    data = frame(Opcode.TEXT, b"x" * 300)
    for byte in data[:3]:
        wire.arrive(bytes([byte]))
        wire.slot()
        assert not wire.waiting
    wire.connection.resume()
    assert not wire.waiting
    wire.arrive(data[3:])
    wire.settle()
    assert wire.messages == ["x" * 300]


async def test_one_that_never_will_keeps_nothing_alive() -> None:
    wire = Wire(ping_interval_s=1, ping_timeout_s=1)
    wire.arrive(b"\x81")
    wire.slot()
    for _ in range(3):
        wire.clock.advance_ms(1_000)
        wire.connection.keep_alive(wire.clock.now_ns())
    assert wire.ends == ["ping_timeout"]


async def test_an_end_within_a_head_is_a_lost_connection() -> None:
    wire = Wire()
    wire.arrive(b"\x81")
    wire.slot()
    wire.connection.connection_lost(None)
    wire.settle()
    assert wire.ends == ["connection_lost"]


async def test_who_sends_too_many_messages_is_not_listened_to_any_longer() -> None:
    wire = Wire(max_frames_per_s=5)
    for _ in range(3):
        wire.arrive(5 * COUNTED_S * frame(Opcode.BINARY, b""))
        wire.settle()
        wire.clock.advance_ms(1_000 * COUNTED_S)
    assert (len(wire.messages), wire.ends) == (15 * COUNTED_S, [])
    wire.arrive(6 * COUNTED_S * frame(Opcode.PING, b"") + frame(Opcode.BINARY, b"late"))
    wire.settle()
    assert wire.ends == ["too_many_messages"]
    assert len(wire.messages) == 15 * COUNTED_S
    assert wire.connection.close_code == 1008


@pytest.mark.parametrize(("per_s", "stall_s"), [(100, 0), (100, 5), (375, 0), (375, 5)])
async def test_speech_in_small_pieces_passes_also_after_a_network_that_stood_still(
    per_s: int, stall_s: int
) -> None:
    wire = Wire(max_frames_per_s=MAX_FRAMES_PER_S)
    piece = per_s * frame(Opcode.BINARY, bytes(16))
    for second in range(2 * COUNTED_S):
        if second >= stall_s:
            for _ in range(stall_s + 1 if second == stall_s else 1):
                wire.arrive(piece)
                wire.settle()
        wire.clock.advance_ms(1_000)
    assert wire.ends == []
    assert len(wire.messages) == 2 * COUNTED_S * per_s


async def test_a_message_of_countless_fragments_takes_no_more_room_than_its_bytes() -> None:
    wire = Wire()
    wire.arrive(frame(Opcode.BINARY, b"", fin=False))
    for _ in range(20):
        wire.arrive(100 * frame(Opcode.CONT, b"", fin=False))
        wire.settle()
    parts = wire.connection._parts
    assert parts is not None
    assert parts.data == bytearray()
    wire.arrive(frame(Opcode.CONT, b"end"))
    wire.settle()
    assert wire.messages == [b"end"]


class Busy:
    """A connection that always has more."""

    def __init__(self, name: str, turns: list[str]) -> None:
        self.name, self.turns = name, turns

    def drain(self, _now_ns: int) -> bool:
        self.turns.append(self.name)
        return True

    def failed(self) -> None:
        raise AssertionError


def test_when_the_slot_is_over_the_others_come_first_in_the_next() -> None:
    sockets, turns = Sockets(), list[str]()
    for name in "abc":
        sockets.add(Busy(name, turns))
    sockets.drain(0, lambda: len(turns) >= 2)
    assert turns == ["a", "b"]
    sockets.drain(0, lambda: True)
    assert turns == ["a", "b", "c"]
    sockets.drain(0)
    assert turns == ["a", "b", "c", "a", "b", "c"]
