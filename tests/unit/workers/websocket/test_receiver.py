"""What a server sends: audio into the mic ring as the bot reads it, everything else to the bot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipc.audio_ring import NEVER, BotRing, RingSpec, WorkerRing, size_bytes
from ipc.clock import ManualClock
from ipc.frames import OutputAudioRawFrame, OutputTransportMessageFrame
from ipc.messages import RawMessage
from ipc.serializers import ProtobufFrameSerializer
from ipc.websocket import Websocket
from ipc.wire import encode
from tests.support import pattern
from workers.websocket.receiver import (
    DEAF_HOLD_NS,
    MAX_HOLD_NS,
    MAX_TOLD_BYTES,
    MAX_WAITING_BYTES,
    PER_S,
    Receiver,
)
from workers.websocket.wire import Wire

if TYPE_CHECKING:
    from ipc.frames import Frame

HZ = 16_000


class World:
    """A receiver, and rings when a test makes them."""

    def __init__(self, **shape: Any) -> None:
        self.clock = ManualClock()
        self.bells = 0
        self.rooms = 0
        self.raw: list[tuple[str | bytes, int]] = []
        self.receiver = Receiver(
            self.clock,
            Wire(Websocket(uri="ws://far/")),
            self._rung,
            lambda data, cursor: self.raw.append((data, cursor)),
        )
        self.receiver.on_room = self._room
        self._shape = {"mic_hz": HZ, **shape}
        self._serializer = ProtobufFrameSerializer()

    def _rung(self) -> None:
        self.bells += 1

    def _room(self) -> None:
        self.rooms += 1

    def attach(self) -> None:
        spec = RingSpec(key=bytes(16), epoch=1, **self._shape)
        memory = memoryview(bytearray(size_bytes(spec)))
        self.worker = WorkerRing.format(memory, spec, 1)
        self.bot = BotRing(memory)
        self.receiver.ring = self.worker

    def hear(self, frame: Frame) -> None:
        data = self._serializer.encode(frame)
        assert data is not None
        self.receiver.take(data, self.clock.now_ns())

    def hear_audio(self, pcm: bytes, hz: int = HZ, channels: int = 1) -> None:
        self.hear(OutputAudioRawFrame(pcm, hz, channels))

    def beat(self, ms: float = 20) -> None:
        self.clock.advance_ms(ms)
        self.receiver.feed(self.clock.now_ns())

    def read(self) -> bytes:
        heard = b""
        while (found := self.bot.read_mic(160)) is not None:
            assert not found.lost
            heard += bytes(found.pcm)
        return heard


def test_audio_goes_into_the_ring_at_once_and_rings() -> None:
    world = World()
    world.attach()
    world.hear_audio(pattern(0, 320))
    assert world.read() == pattern(0, 320)
    assert world.bells == 1
    assert world.bot.capture().ns == world.clock.now_ns()


def test_what_comes_before_the_rings_is_heard_from_its_first_sample() -> None:
    world = World()
    world.hear_audio(pattern(0, HZ))
    world.hear(OutputTransportMessageFrame(message="behind it"))
    assert len(world.raw) == 1
    world.attach()
    world.beat()
    assert world.read() == pattern(0, HZ)


def test_a_burst_of_many_seconds_waits_for_the_bot_that_listens() -> None:
    world = World(mic_ms=1_000)
    world.attach()
    world.bot.want_mic(0)
    for second in range(10):
        world.hear_audio(pattern(second * HZ, HZ))
    heard = world.read()
    for _ in range(40):
        world.beat()
        heard += world.read()
    assert heard == pattern(0, 10 * HZ)
    assert world.bot.mic_dropped == 0


def test_for_a_bot_that_does_not_listen_the_ring_keeps_the_newest() -> None:
    world = World(mic_ms=1_000)
    world.attach()
    world.bot.want_mic(NEVER)
    for second in range(5):
        world.hear_audio(pattern(second * HZ, HZ))
    assert world.receiver.waiting_bytes > 0  # it may only not have begun
    world.beat()
    world.beat(DEAF_HOLD_NS / 1e6)
    for _ in range(5):
        world.beat()
    assert world.receiver.waiting_bytes == 0
    assert world.bot.mic_written == 5 * HZ
    found = world.bot.read_mic(160)
    assert found is not None
    assert found.cursor == 4 * HZ


def test_a_bot_that_stops_reading_holds_the_server_back_for_a_while() -> None:
    world = World(mic_ms=1_000)
    world.attach()
    world.bot.want_mic(0)
    while not world.receiver.is_full():
        world.hear_audio(bytes(2 * HZ))
    assert world.receiver.waiting_bytes < MAX_WAITING_BYTES + 2 * HZ
    world.beat()
    assert world.receiver.is_full()
    assert world.rooms == 0
    world.beat(MAX_HOLD_NS / 1e6 + 20)
    assert not world.receiver.is_full()
    assert world.rooms == 1


def test_without_rings_the_oldest_goes_after_a_while() -> None:
    world = World()
    while not world.receiver.is_full():
        world.hear_audio(bytes(2 * HZ))
    world.beat()
    assert world.receiver.is_full()
    world.beat(MAX_HOLD_NS / 1e6 + 20)
    assert not world.receiver.is_full()
    assert world.receiver.dropped_bytes == 2 * HZ
    assert world.rooms == 1


def test_everything_else_is_passed_on_with_its_place() -> None:
    world = World()
    world.attach()
    world.hear_audio(pattern(0, 320))
    world.receiver.take("text", world.clock.now_ns())
    world.receiver.take(b"\xff\xff garbage", world.clock.now_ns())
    assert world.raw == [("text", 320), (b"\xff\xff garbage", 320)]
    assert world.receiver.malformed == 2
    world.hear_audio(pattern(320, 320))
    assert world.read() == pattern(0, 640)


def test_a_flood_of_messages_is_bounded_by_the_second() -> None:
    world = World()
    for _ in range(3):
        for _ in range(PER_S + 50):
            world.receiver.take("x", world.clock.now_ns())
        world.clock.advance_ms(1_000)
    assert len(world.raw) == 3 * PER_S
    assert world.receiver.dropped_messages == 150


@pytest.mark.parametrize("filling", ["x", "é", b"\xff"])
def test_what_no_control_message_can_hold_counts_as_dropped(filling: str | bytes) -> None:
    world = World()
    unit = len(filling.encode() if isinstance(filling, str) else filling)
    fits, too_long = MAX_TOLD_BYTES // unit, MAX_TOLD_BYTES // unit + 1
    for count in (fits, too_long):
        world.receiver.take(filling * count, world.clock.now_ns())
    assert [len(data) for data, _ in world.raw] == [fits]
    assert world.receiver.dropped_messages == 1
    (told,) = [data for data, _ in world.raw]
    raw = told.encode() if isinstance(told, str) else told
    encode(RawMessage(session="s_" + "0" * 32, data=raw, text=True, cursor=1 << 60))


@pytest.mark.parametrize(("hz", "channels"), [(24_000, 1), (44_100, 2), (8_000, 1), (16_000, 2)])
def test_another_shape_is_converted(hz: int, channels: int) -> None:
    world = World()
    world.attach()
    tone = (8_000 * np.sin(np.arange(hz) * 2 * np.pi * 300 / hz)).astype(np.int16)
    pcm = np.repeat(tone[:, None], channels, axis=1).tobytes()
    step = hz // 50 * 2 * channels
    for at in range(0, len(pcm), step):
        world.hear_audio(pcm[at : at + step], hz, channels)
    heard = np.frombuffer(world.read(), np.int16)
    assert HZ - HZ // 20 <= len(heard) <= HZ
    there = np.sin(np.arange(len(heard)) * 2 * np.pi * 300 / HZ)
    middle = slice(2_000, -2_000)
    assert np.corrcoef(heard[middle], there[middle])[0, 1] > 0.999


def test_audio_of_an_impossible_rate_is_counted_and_nothing_more() -> None:
    world = World()
    world.attach()
    world.hear_audio(bytes(320), 1)
    world.hear_audio(bytes(320), 4_000_000_000)
    assert world.receiver.malformed == 2
    assert world.raw == []
