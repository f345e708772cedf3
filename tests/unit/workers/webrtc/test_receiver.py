"""The receiver between frames and the mic ring, without a network."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from av import AudioFrame

from tests.fakes.audio import Samples, level_db, pitch_hz, tone
from tests.fakes.rings import rings
from workers.webrtc.receiver import Receiver

if TYPE_CHECKING:
    from ipc.clock import ManualClock


def frames_of(hz: int, channels: int, samples: Samples) -> list[AudioFrame]:
    made = []
    count = hz // 50
    for at in range(0, len(samples) - count + 1, count):
        frame = AudioFrame("s16", "mono" if channels == 1 else "stereo", count)
        frame.planes[0].update(np.repeat(samples[at : at + count], channels).tobytes())
        frame.sample_rate = hz
        frame.pts = at
        frame.time_base = Fraction(1, hz)
        made.append(frame)
    return made


@pytest.mark.parametrize("hz", [8_000, 12_000, 16_000, 24_000, 48_000])
def test_what_the_caller_says_reaches_the_ring_at_its_rate(clock: ManualClock, hz: int) -> None:
    grown: list[int] = []
    receiver = Receiver(clock, lambda: grown.append(1))
    receiver.ring, bot = rings(hz)
    for frame in frames_of(48_000, 2, tone(440, 24_000)):
        receiver._write(frame)
    heard = []
    while (read := bot.read_mic(hz // 50)) is not None:
        heard.append(np.frombuffer(read.pcm, np.int16))
    samples = np.concatenate(heard)[hz // 20 :]
    assert len(grown) == 25
    assert abs(len(samples) - hz * 9 // 20) <= hz // 50
    assert abs(pitch_hz(samples, hz) - 440) < 5
    assert abs(level_db(samples) + 12) < 0.5


def test_what_is_said_before_a_bot_came_is_dropped(clock: ManualClock) -> None:
    receiver = Receiver(clock, lambda: pytest.fail("no bell without a bot"))
    for frame in frames_of(48_000, 2, tone(440, 4_800)):
        receiver._write(frame)
    assert receiver.frames == 5


def test_frames_of_another_kind_in_the_middle_are_taken(clock: ManualClock) -> None:
    receiver = Receiver(clock, lambda: None)
    receiver.ring, bot = rings(16_000)
    for frame in frames_of(48_000, 2, tone(440, 9_600)):
        receiver._write(frame)
    for frame in frames_of(8_000, 1, tone(440, 1_600, hz=8_000)):
        receiver._write(frame)
    assert 16_000 * 2 // 5 - 400 < bot.mic_written <= 16_000 * 2 // 5
