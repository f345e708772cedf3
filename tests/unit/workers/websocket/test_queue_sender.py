"""Whole messages of a bot's own serializer: paced by their durations, cut by a flush."""

from __future__ import annotations

from typing import Any

import pytest

from ipc.clock import ManualClock
from ipc.media_stream import LASTING, PAUSE, TEXT, Kind, StreamFrame, unpack
from ipc.message_stream import MAX_INCOMING_BYTES, MessageStream
from ipc.websocket import Websocket
from tests.fakes.websocket_link import FakeLink
from workers.websocket.queue_sender import QueueSender


class World:
    """A bot's frames on one side, a fake connection on the other."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.stream = MessageStream(1)
        self.stream.attached(0)
        self.sender = QueueSender(Websocket(uri="ws://far/", wire="messages", **options))
        self.sender.stream = self.stream
        self.link = FakeLink(self.clock)
        self.written = 0

    def put(self, data: str | bytes | None, ms: float, *, lasting: bool = False) -> bool:
        flags = TEXT * isinstance(data, str) | LASTING * lasting | PAUSE * (data is None)
        payload = memoryview(data.encode() if isinstance(data, str) else data or b"")
        duration = int(ms * 1000) or 1
        frame = StreamFrame(Kind.MESSAGE, 1, self.written, 0, duration, payload, flags)
        taken = self.stream.take(frame)
        self.written += duration * taken
        return taken

    def flush(self) -> None:
        self.stream.take(StreamFrame(Kind.FLUSH, 1, self.written, 0, 0, memoryview(b"")))

    def beat(self, beats: int = 1) -> None:
        for _ in range(beats):
            self.sender.send(self.link.as_connection, self.clock.now_ns())
            self.clock.advance_ms(20)

    def told(self) -> list[StreamFrame]:
        frames: list[StreamFrame] = []

        def send(frame: bytes) -> bool:
            found = unpack(frame)
            assert found is not None
            frames.append(found)
            return True

        self.stream.pump(1, send)
        return frames

    def times_ms(self) -> list[float]:
        return [at - self.link.times_ms[0] for at in self.link.times_ms]


def test_messages_leave_as_what_stands_before_them_has_played() -> None:
    world = World()
    for number in range(6):
        assert world.put(f"{number}", 60)
    world.beat(20)
    assert world.link.sent == [f"{number}" for number in range(6)]
    # 40 ms of lead on a beat of 20 ms.
    assert world.times_ms() == [0, 20, 80, 140, 200, 260]


def test_what_lasts_no_time_follows_at_once() -> None:
    world = World()
    world.put("audio", 500)
    world.put("control", 0)
    world.put("more", 40)
    world.beat()
    assert world.link.sent == ["audio", "control"]


def test_a_pause_takes_its_time_and_sends_nothing() -> None:
    world = World()
    for data in ("before", None, None, "behind"):
        assert world.put(data, 60)
    world.beat(20)
    assert world.link.sent == ["before", "behind"]
    assert world.times_ms() == [0, 140]
    assert [frame.cursor for frame in world.told()] == [240_000]


def test_the_bot_learns_what_has_left_and_what_a_flush_cut() -> None:
    world = World()
    for number in range(10):
        world.put(bytes([number]), 40, lasting=number == 7)
    world.beat(3)
    sent = len(world.link.sent)
    (anchor,) = world.told()
    assert (anchor.kind, anchor.cursor) == (Kind.ANCHOR, sent * 40_000)
    world.flush()
    world.put(b"new", 40)
    world.beat(20)
    assert world.link.sent[sent:] == [b"\x07", b"new"]
    flushed, anchor = world.told()
    assert (flushed.kind, flushed.arg, flushed.cursor) == (Kind.FLUSHED, 400_000, sent * 40_000)
    assert anchor.cursor == 440_000


def test_a_bot_that_sends_too_much_or_out_of_order_is_refused() -> None:
    world = World()
    assert world.put("long", 1_500)
    assert not world.put("too much", 600)
    for cursor in (7, 1 << 63):
        frame = StreamFrame(Kind.MESSAGE, 1, cursor, 0, 1, memoryview(b"elsewhere"))
        assert not world.stream.take(frame)
    assert not world.stream.take(
        StreamFrame(Kind.MESSAGE, 1, world.written, 0, 1, memoryview(b"\xff"), TEXT)
    )


def test_what_the_server_sent_waits_for_the_bot_bounded() -> None:
    world = World()
    rooms: list[int] = []
    world.stream.on_room = lambda: rooms.append(1)
    while not world.stream.full:
        world.stream.put(bytes(100_000))
    assert not rooms
    frames = world.told()
    assert sum(len(frame.payload) for frame in frames) >= MAX_INCOMING_BYTES
    assert rooms == [1]
    world.stream.put("text")
    (frame,) = world.told()
    assert (frame.flags, bytes(frame.payload)) == (TEXT, b"text")


def test_a_receiver_that_does_not_read_is_given_up_after_a_while() -> None:
    world = World(stall_s=0.5)
    world.put("one", 40)
    world.link.unsent_bytes = 1 << 20
    world.beat(20)
    assert world.link.sent == []
    world.beat(10)
    assert world.link.ended == "slow_reader"


@pytest.mark.parametrize("how", ["full", "refuses"])
def test_after_a_server_that_took_nothing_the_pace_is_as_before(how: str) -> None:
    world = World()
    for _ in range(4):
        world.put("speech", 40)
    world.beat(4)
    world.link.forget()
    if how == "full":
        world.link.unsent_bytes = 1 << 20
    else:
        world.link.takes = False
    world.beat(100)
    assert world.link.sent == []
    world.link.unsent_bytes, world.link.takes = 0, True
    for _ in range(20):
        world.put("speech", 40)
    world.beat(10)
    # 200 ms, and the lead.
    assert 5 <= len(world.link.sent) <= 7
