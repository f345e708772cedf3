"""How speech leaves for a WebSocket server: in chunks, on the beat, as far ahead as was asked."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipc.audio_ring import BotRing, RingSpec, WorkerRing, size_bytes
from ipc.clock import NS_PER_MS, NS_PER_S, ManualClock
from ipc.frames import InputAudioRawFrame, InterruptionFrame
from ipc.serializers import ProtobufFrameSerializer
from ipc.websocket import Websocket
from tests.fakes.websocket_link import FakeLink
from tests.support import pattern, pcm
from workers.websocket.sender import Sender
from workers.websocket.wire import Wire

if TYPE_CHECKING:
    from ipc.frames import Frame

HZ = 16_000


class World:
    """A sender between rings and a fake connection, moved by beats."""

    def __init__(self, *, hz: int = HZ, channels: int = 1, **options: Any) -> None:
        self.clock = ManualClock()
        spec = RingSpec(key=bytes(16), epoch=1, speaker_hz=hz, speaker_channels=channels)
        memory = memoryview(bytearray(size_bytes(spec)))
        self.worker = WorkerRing.format(memory, spec, 1)
        self.bot = BotRing(memory)
        self.hz, self.channels = hz, channels
        websocket = Websocket(uri="ws://far/", **options)
        self.sender = Sender(self.clock, websocket, Wire(websocket))
        self.link = FakeLink(self.clock)
        self.sender.ring = self.worker
        self.sender.link = self.link.as_connection
        self._serializer = ProtobufFrameSerializer()

    def move_on(self, beats: int) -> None:
        """So many beats have passed, and as much speech: the ring and the clock are that far."""
        cursor = self.bot.speaker_sent + beats * self.hz // 50
        spec = RingSpec(
            key=bytes(16),
            epoch=2,
            speaker_hz=self.hz,
            speaker_channels=self.channels,
            speaker_base=cursor,
        )
        memory = memoryview(bytearray(size_bytes(spec)))
        self.worker = WorkerRing.format(memory, spec, 1)
        self.bot = BotRing(memory)
        self.sender.ring = self.worker
        self.clock.advance_ms(20 * beats)

    def say(self, ms: float, *, end: bool = False) -> None:
        """Queue the next so many ms of the pattern."""
        count = int(self.hz * ms / 1000)
        data = pcm(self.bot.speaker_written, count, self.channels)
        assert self.bot.write_speaker(data) == count
        if end:
            self.bot.end()

    def beat(self, beats: int = 1) -> None:
        for _ in range(beats):
            self.sender.send(self.clock.now_ns())
            self.clock.advance_ms(20)

    def keep_saying(self, beats: int) -> None:
        """So many beats with always half a second queued."""
        for _ in range(beats):
            while self.bot.speaker_written - self.bot.speaker_sent < self.hz // 2:
                self.say(20)
            self.beat()

    def frames(self) -> list[Frame | None]:
        return [self._serializer.decode(message) for message in self.link.sent]

    def audio(self) -> list[InputAudioRawFrame]:
        return [frame for frame in self.frames() if isinstance(frame, InputAudioRawFrame)]

    def pcm(self) -> bytes:
        return b"".join(frame.audio for frame in self.audio())

    def times_ms(self) -> list[float]:
        return [at - self.link.times_ms[0] for at in self.link.times_ms]


def test_the_receiver_has_one_chunk_in_hand_and_then_one_comes_each_40_ms() -> None:
    world = World()
    world.say(400)
    world.beat(20)
    assert world.times_ms() == [0, 0, 40, 80, 120, 160, 200, 240, 280, 320]
    assert world.pcm() == pattern(0, 6_400)


@pytest.mark.parametrize(
    ("lead_ms", "expected"), [(0, [0, 40, 80, 120]), (80, [0, 0, 0, 40]), (200, [0, 0, 0, 0])]
)
def test_the_lead_is_what_was_asked_for(lead_ms: int, expected: list[float]) -> None:
    world = World(lead_ms=lead_ms)
    world.say(160)
    world.beat(20)
    assert world.times_ms() == expected


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("hz", [8_000, 24_000, 48_000])
def test_mono_and_stereo_have_the_same_pace(hz: int, channels: int) -> None:
    world = World(hz=hz, channels=channels)
    world.keep_saying(100)
    frames = world.audio()
    assert len(frames) == 100 * 20 // 40 + 1
    assert {len(frame.audio) for frame in frames} == {hz * 40 // 1000 * 2 * channels}
    assert {(frame.sample_rate, frame.num_channels) for frame in frames} == {(hz, channels)}
    assert world.pcm() == pattern(0, len(frames) * hz * 40 // 1000, channels)


@pytest.mark.parametrize("chunk_ms", [10, 20, 30, 50, 70, 200])
def test_no_chunk_is_late_and_none_is_early_by_a_beat(chunk_ms: int) -> None:
    world = World(chunk_ms=chunk_ms)
    world.keep_saying(300)
    for number, at in enumerate(world.times_ms()):
        needed = (number - 1) * chunk_ms  # one chunk of lead
        assert needed - 20 < at <= needed or at == 0


@pytest.mark.parametrize("hz", [8_000, 12_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("chunk_ms", [10, 30, 40, 70, 110, 200])
def test_nothing_drifts_in_a_day(hz: int, chunk_ms: int) -> None:
    world = World(hz=hz, chunk_ms=chunk_ms)
    world.keep_saying(20)
    period_ms = math.lcm(20, chunk_ms)
    states = []
    for _ in range(3):
        world.link.forget()
        begun = world.clock.now_ns() / 1e6
        world.keep_saying(period_ms // 20)
        states.append(([at - begun for at in world.link.times_ms], world.sender.ahead))
    # Each period begins as the one before it did, to the sample: so do those of a whole day.
    assert states[0] == states[1] == states[2]
    assert len(states[0][0]) == period_ms // chunk_ms


@pytest.mark.parametrize("hz", [8_000, 48_000])
@pytest.mark.parametrize("chunk_ms", [10, 40, 70])
def test_in_24_hours_not_a_sample_is_gained_or_lost(hz: int, chunk_ms: int) -> None:
    world = World(hz=hz, chunk_ms=chunk_ms)
    period = math.lcm(20, chunk_ms) // 20
    hour = 180_000 // period * period
    begun_ns, beat = world.clock.now_ns(), hz // 50
    for _ in range(25):
        world.link.forget()
        first = world.bot.speaker_sent
        world.keep_saying(4 * period)
        beats = (world.clock.now_ns() - begun_ns) // (20 * NS_PER_MS)
        # The receiver began to play at the first beat, and has not stopped.
        assert world.bot.speaker_sent - world.sender.ahead == (beats - 1) * beat
        assert world.pcm() == pattern(first, world.bot.speaker_sent - first)
        # What the whole periods of the rest of the hour would change: see above.
        world.move_on(hour - 4 * period)
    assert world.clock.now_ns() - begun_ns > 24 * 3_600 * NS_PER_S


def test_frames_that_the_worker_missed_were_played_meanwhile() -> None:
    world = World()
    world.keep_saying(50)
    world.link.forget()
    world.sender.miss(10)
    world.clock.advance_ms(200)
    world.keep_saying(1)
    # It had 60 to 80 ms in hand and starves: it gets its lead again at once, and no burst.
    assert len(world.link.sent) == 2


def test_an_utterance_ends_where_it_ends() -> None:
    world = World()
    world.say(50, end=True)
    world.beat(10)
    assert [len(frame.audio) // 2 for frame in world.audio()] == [640, 160]
    assert world.pcm() == pattern(0, 800)
    assert world.bot.playback().cursor == 800


def test_the_rest_of_a_chunk_leaves_when_nothing_follows_for_a_chunk() -> None:
    world = World()
    world.say(50)
    world.beat(2)
    assert len(world.pcm()) == 2 * 640
    world.beat(3)
    assert world.pcm() == pattern(0, 800)
    assert world.sender.underruns == 1


def test_small_writes_become_whole_chunks() -> None:
    world = World()
    for _ in range(30):
        world.say(10)
        world.say(10)
        world.beat()
    assert {len(frame.audio) // 2 for frame in world.audio()} == {640}


def test_speech_after_a_pause_begins_with_its_lead_again() -> None:
    world = World()
    world.say(80, end=True)
    world.beat(50)
    world.link.forget()
    world.say(400)
    world.beat(10)
    assert world.times_ms() == [0, 0, 40, 80, 120, 160]


def test_the_position_is_what_has_left() -> None:
    world = World()
    world.say(400)
    assert world.bot.playback().cursor == 0
    begun = world.clock.now_ns()
    world.beat()
    anchor = world.bot.playback()
    assert (anchor.cursor, anchor.ns) == (2 * 640, begun)


def test_a_flush_takes_all_that_has_not_left_and_tells_the_receiver() -> None:
    world = World()
    world.say(800)
    world.beat(5)
    left = world.bot.playback().cursor
    flush_to = world.bot.flush()
    world.beat()
    answer = world.bot.flushed()
    assert (answer.flush_to, answer.sent) == (flush_to, left)
    assert isinstance(world.frames()[-1], InterruptionFrame)
    world.beat(20)
    assert world.pcm() == pattern(0, left)
    world.link.forget()
    world.say(400)
    world.beat(3)
    # The receiver has dropped what it had: it gets its lead anew, and no second interruption.
    assert world.times_ms() == [0, 0, 40]
    assert not any(isinstance(frame, InterruptionFrame) for frame in world.frames())


def test_a_receiver_that_is_not_told_of_a_flush_plays_on_what_it_has() -> None:
    world = World(interruptions=False, lead_ms=200)
    world.say(800)
    world.beat()
    world.bot.flush()
    world.link.forget()
    world.say(400)
    world.beat(5)
    assert not any(isinstance(frame, InterruptionFrame) for frame in world.frames())
    assert world.times_ms()[:2] == [0, 40]


def test_a_flush_in_silence_says_nothing() -> None:
    world = World()
    world.beat()
    world.bot.flush()
    world.beat(2)
    assert world.link.sent == []


def test_each_chunk_is_a_wav_file_if_asked() -> None:
    world = World(wav_header=True)
    world.say(80)
    world.beat()
    for frame in world.audio():
        assert frame.audio[:4] == b"RIFF"
        assert len(frame.audio) == 44 + 2 * 640
    assert world.audio()[0].audio[44:] == pattern(0, 640)


@pytest.mark.parametrize(("out_hz", "out_channels"), [(24_000, 1), (8_000, 1), (48_000, 2)])
def test_the_wire_may_have_another_rate(out_hz: int, out_channels: int) -> None:
    world = World(out_hz=out_hz, out_channels=out_channels)
    tone = (8_000 * np.sin(np.arange(HZ // 2) * 2 * np.pi * 440 / HZ)).astype(np.int16)
    world.bot.write_speaker(memoryview(tone.tobytes()))
    world.bot.end()
    world.beat(60)
    assert {(frame.sample_rate, frame.num_channels) for frame in world.audio()} == {
        (out_hz, out_channels)
    }
    made = np.frombuffer(world.pcm(), np.int16).reshape(-1, out_channels)
    assert abs(len(made) - out_hz // 2) <= out_hz // 1000
    there = np.sin(np.arange(len(made)) * 2 * np.pi * 440 / out_hz) * 8_000
    middle = slice(len(made) // 8, -len(made) // 8)
    for channel in range(out_channels):
        assert np.corrcoef(made[middle, channel], there[middle])[0, 1] > 0.999


def test_a_receiver_that_does_not_read_leaves_the_speech_in_the_ring() -> None:
    world = World(stall_s=1.0)
    world.say(900)
    world.beat()
    sent = len(world.link.sent)
    world.link.unsent_bytes = 1 << 20
    world.beat(25)
    assert len(world.link.sent) == sent
    assert world.link.is_open
    world.link.unsent_bytes = 0
    world.beat(10)
    gaps = [b - a for a, b in pairwise(world.times_ms()[sent:])]
    assert gaps == [0, 40, 40, 40, 40]
    world.link.unsent_bytes = 1 << 20
    world.beat(52)
    assert world.link.ended == "slow_reader"


def test_what_a_closing_connection_refuses_is_not_lost() -> None:
    world = World()
    world.say(200)
    world.link.takes = False
    world.beat(2)
    assert world.bot.playback().cursor == 0
    again = FakeLink(world.clock)
    world.sender.link, world.link = again.as_connection, again
    world.beat(12)
    assert world.pcm() == pattern(0, 3_200)


class Hum:
    """A mixer whose background is one value."""

    def __init__(self) -> None:
        self.spoken: list[bool] = []

    def sounds(self, _hz: int) -> bool:
        return True

    def mix(self, frame: Any, _channels: int, *, speaking: bool) -> None:
        self.spoken.append(speaking)
        frame += 1


def test_a_background_goes_on_under_the_speech_and_without_it() -> None:
    world = World()
    hum = Hum()
    world.sender.mixer = hum  # type: ignore[assignment]  # a fake
    world.beat(4)
    speech = np.full(640, 1_000, np.int16)
    world.bot.write_speaker(memoryview(speech.tobytes()))
    world.bot.end()
    world.beat(8)
    samples = np.frombuffer(world.pcm(), np.int16)
    assert set(np.unique(samples)) == {1, 1_001}
    assert np.count_nonzero(samples == 1_001) == 640
    assert hum.spoken.count(True) == 1
    assert world.times_ms() == [0, 0, *(40 * number for number in range(1, 6))]
    assert world.bot.playback().cursor == 640
