"""A caller over WebSocket who says nothing is heard as silence; what comes late is not lost."""

from __future__ import annotations

import pytest

from ipc.clock import ManualClock
from ipc.websocket import Websocket
from tests.fakes.rings import rings
from tests.support import pattern
from workers.websocket.caller_receiver import FILL_AFTER_NS, MAX_AHEAD_NS, CallerReceiver
from workers.websocket.receiver import Receiver
from workers.websocket.wire import Wire

HZ = 16_000
MS = HZ // 1000
FILL_AFTER_MS = FILL_AFTER_NS // 1_000_000


class World:
    """A receiver between a caller and a bot; a beat each 20 ms."""

    def __init__(self, kind: type[Receiver] = CallerReceiver, channels: int = 1) -> None:
        self.clock = ManualClock()
        self.bells = 0
        self.wire = Websocket(uri="ws://caller/", wire="raw_pcm", in_hz=HZ, in_channels=channels)
        self.receiver = kind(self.clock, Wire(self.wire), self._rung, lambda *_: None)
        self.worker, self.bot = rings(HZ, channels)
        self._said = 0

    def _rung(self) -> None:
        self.bells += 1

    def attach(self) -> None:
        self.receiver.ring = self.worker
        self.receiver.feed(self.clock.now_ns())

    def say(self, ms: int) -> bytes:
        """So much speech comes at once; what it was."""
        pcm = pattern(self._said, ms * MS)
        self._said += ms * MS
        self.receiver.take(pcm, self.clock.now_ns())
        return pcm

    def beats(self, ms: int) -> None:
        for _ in range(ms // 20):
            self.clock.advance_ms(20)
            self.receiver.feed(self.clock.now_ns())

    def talk(self, ms: int) -> bytes:
        """Speech in real time, 20 ms at a time."""
        said = b""
        for _ in range(ms // 20):
            self.beats(20)
            said += self.say(20)
        return said

    def heard(self) -> bytes:
        found = b""
        while (read := self.bot.read_mic(MS)) is not None:
            assert not read.lost
            found += bytes(read.pcm)
        return found

    def heard_ms(self) -> float:
        return len(self.heard()) / 2 / self.wire.in_channels / MS


@pytest.fixture
def world() -> World:
    made = World()
    made.attach()
    return made


def test_who_is_muted_is_heard_as_silence_at_the_pace_of_time(world: World) -> None:
    said = world.talk(400)
    assert world.heard() == said
    world.beats(FILL_AFTER_MS - 20)
    assert world.heard() == b""
    world.beats(1_020 - FILL_AFTER_MS)
    assert world.heard() == bytes(2 * 980 * MS), "from the end of the last word"
    bells = world.bells
    for _ in range(50):
        world.beats(20)
        assert world.heard_ms() == 20
    assert world.bells == bells + 50
    assert world.worker.mic_filled == world.worker.mic_written - 400 * MS


def test_who_never_says_a_word_is_silence_from_the_beginning(world: World) -> None:
    world.beats(2_000)
    assert world.heard() == bytes(2 * 2_000 * MS)


def test_speech_after_a_pause_is_heard_at_once_and_whole(world: World) -> None:
    world.beats(1_000)
    world.heard()
    said = world.talk(1_000)
    assert world.heard() == bytes(2 * 20 * MS) + said, "20 ms passed before its first word"


@pytest.mark.parametrize("chunk_ms", [10, 40, 100, 250, 400])
def test_speech_without_a_pause_has_no_silence_in_it_however_it_is_cut(chunk_ms: int) -> None:
    world = World()
    world.attach()
    said = b""
    for now_ms in range(10, 4_010, 10):
        world.clock.advance_ms(10)
        if now_ms % chunk_ms == 0:
            said += world.say(chunk_ms)
        if now_ms % 20 == 0:
            world.receiver.feed(world.clock.now_ns())
    heard = world.heard()
    begin = max(0, chunk_ms - FILL_AFTER_MS) and len(heard) - len(said)
    assert heard[begin:] == said


def test_what_a_network_held_up_is_heard_and_taken_out_of_the_next_silence(world: World) -> None:
    said = world.talk(400)
    world.beats(2_000)
    late = world.say(2_000)
    more = world.talk(200)
    assert world.heard() == said + bytes(2 * 1_980 * MS) + late + more
    world.beats(2_000 + FILL_AFTER_MS - 20)
    assert world.heard() == b""
    world.beats(20)
    assert world.heard_ms() > 0


def test_what_is_sent_in_advance_delays_silence_only_so_long(world: World) -> None:
    for _ in range(20):
        world.say(1_000)
        world.heard()
    world.beats(MAX_AHEAD_NS // 1_000_000 + FILL_AFTER_MS - 20)
    world.heard()
    world.beats(20)
    assert world.heard_ms() > 0


def test_a_bot_that_does_not_read_loses_no_speech_for_silence(world: World) -> None:
    said = world.talk(1_000)
    world.beats(20_000)
    said_then = world.talk(1_000)
    heard = world.heard()
    assert heard.startswith(said)
    assert heard.endswith(said_then)
    world.beats(1_000)
    assert world.heard_ms() > 900


def test_nothing_is_owed_for_the_time_in_which_there_was_no_bot() -> None:
    world = World()
    world.beats(10_000)
    world.attach()
    world.beats(FILL_AFTER_MS - 20)
    assert world.heard() == b""
    world.beats(20)
    assert world.heard_ms() <= FILL_AFTER_MS
    world.receiver.ring = None
    world.beats(5_000)
    world.attach()
    world.beats(FILL_AFTER_MS)
    assert world.heard_ms() <= FILL_AFTER_MS


def test_a_beat_fills_only_so_much_after_the_worker_stood_still(world: World) -> None:
    world.clock.advance_ms(1_000)
    world.receiver.feed(world.clock.now_ns())
    assert world.heard_ms() == 200
    world.beats(1_000)
    assert world.heard_ms() == 1_800


def test_silence_has_the_channels_of_the_ring() -> None:
    world = World(channels=2)
    world.attach()
    world.beats(1_000)
    assert world.heard() == bytes(4 * 1_000 * MS)


def test_a_server_that_we_dialled_is_heard_as_it_comes() -> None:
    world = World(Receiver)
    world.attach()
    said = world.talk(400)
    world.beats(5_000)
    assert world.heard() == said
