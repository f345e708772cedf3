"""Audio that is sent to hold the worker up: in countless messages, and in countless shapes."""

from __future__ import annotations

import pytest

from ipc.audio_ring import BotRing, RingSpec, WorkerRing, size_bytes
from ipc.clock import ManualClock
from ipc.serializers import audio_message
from ipc.websocket import Websocket
from tests.support import pattern
from workers.audio.convert import Converter
from workers.websocket import receiver as subject
from workers.websocket.receiver import MAX_MOVED, MAX_SHAPES_PER_S, MAX_WAITING, Receiver
from workers.websocket.wire import Wire

HZ = 16_000


class World:
    """A receiver whose bot reads when a test does."""

    def __init__(self, mic_ms: int = 1_000) -> None:
        self.clock = ManualClock()
        self.raw: list[tuple[str | bytes, int]] = []
        self.receiver = Receiver(
            self.clock,
            Wire(Websocket(uri="ws://far/")),
            lambda: None,
            lambda data, cursor: self.raw.append((data, cursor)),
        )
        spec = RingSpec(key=bytes(16), epoch=1, mic_hz=HZ, mic_ms=mic_ms)
        memory = memoryview(bytearray(size_bytes(spec)))
        self.worker = WorkerRing.format(memory, spec, 1)
        self.bot = BotRing(memory)
        self.bot.want_mic(0)
        self.receiver.ring = self.worker

    def hear(self, pcm: bytes, hz: int = HZ, channels: int = 1) -> None:
        self.receiver.take(audio_message.encode(pcm, hz, channels), self.clock.now_ns())

    def read(self) -> bytes:
        heard = b""
        while (found := self.bot.read_mic(160)) is not None:
            heard += bytes(found.pcm)
        return heard

    def beat(self) -> None:
        self.clock.advance_ms(20)
        self.receiver.feed(self.clock.now_ns())


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rates for which a converter was made."""
    made: list[int] = []

    class Counted(Converter):
        def __init__(self, from_hz: int, *shape: int) -> None:
            made.append(from_hz)
            super().__init__(from_hz, *shape)

    monkeypatch.setattr(subject, "Converter", Counted)
    return made


@pytest.mark.parametrize("size", [2, 640])
def test_so_many_messages_wait_however_short_they_are(world: World, size: int) -> None:
    count = 0
    while not world.receiver.is_full():
        world.hear(bytes(size))
        count += 1
        assert count <= MAX_WAITING + 2 * HZ // size
    assert len(world.receiver._waiting) == MAX_WAITING


def test_audio_without_samples_waits_for_nothing(world: World) -> None:
    for _ in range(3):
        world.hear(bytes(2 * HZ))
    waiting = len(world.receiver._waiting)
    for _ in range(1_000):
        world.hear(b"")
    assert len(world.receiver._waiting) == waiting


def test_when_there_is_room_again_a_beat_moves_only_so_many(world: World) -> None:
    sent, size = 0, 160
    while not world.receiver.is_full():
        world.hear(pattern(sent, size))
        sent += size
    heard = world.read()
    before = len(world.receiver._waiting)
    world.beat()
    assert before - len(world.receiver._waiting) == MAX_MOVED
    for _ in range(MAX_WAITING // MAX_MOVED):
        world.beat()
        heard += world.read()
    assert heard == pattern(0, sent)


def test_what_has_come_at_once_is_moved_a_second_a_beat() -> None:
    world = World(mic_ms=5_000)
    before = world.worker.mic_written
    world.hear(bytes(4 * 2 * 24_000), 24_000)
    for _ in range(4):
        assert world.worker.mic_written - before <= 1.21 * HZ  # and a piece
        before = world.worker.mic_written
        world.beat()
    assert not world.receiver._waiting


def test_a_message_behind_audio_that_waits_has_its_place(world: World) -> None:
    for _ in range(7):
        world.hear(bytes(2 * 24_000), 24_000)
    world.receiver.take("here", world.clock.now_ns())
    (_, cursor) = world.raw[0]
    assert abs(cursor - 7 * HZ) < HZ // 100
    for _ in range(20):
        world.read()
        world.beat()
    world.receiver.take("there", world.clock.now_ns())
    assert world.raw[1][1] == world.worker.mic_written


def test_shapes_that_change_all_the_time_are_made_only_so_often(
    world: World, made: list[int]
) -> None:
    for number in range(100):
        world.hear(bytes(2), (24_000, 44_100)[number % 2])
    assert len(made) == MAX_SHAPES_PER_S
    assert world.receiver.malformed == (100 - MAX_SHAPES_PER_S) / 2  # the last one stays
    world.clock.advance_ms(1_000)
    world.hear(bytes(2), 8_000)
    assert len(made) == MAX_SHAPES_PER_S + 1


@pytest.mark.parametrize("hz", [191_999, 96_001, 47_999])
def test_rates_whose_filters_take_long_to_make_are_refused(
    world: World, made: list[int], hz: int
) -> None:
    world.hear(bytes(2), hz)
    assert made == []
    assert world.receiver.malformed == 1


USED = [8_000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000]


@pytest.mark.parametrize("hz", USED)
@pytest.mark.parametrize("ring_hz", [8_000, 12_000, 16_000, 24_000, 48_000])
def test_all_rates_that_anybody_uses_are_taken(hz: int, ring_hz: int) -> None:
    assert subject.is_affordable(hz, ring_hz)
