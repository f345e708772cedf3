"""Chunks: of any rate and channels, without a sample lost or invented."""

from __future__ import annotations

import time

import numpy as np
import pytest

from engine.transports.base.chunks import Chunker
from engine.transports.frames import OutputAudioRawFrame
from ipc.errors import ConfigError
from tests.fakes.audio import pitch_hz, tone

HZ = 16_000


def chunker(hz: int = HZ, channels: int = 1, ms: int = 40) -> Chunker:
    return Chunker(hz, channels, hz // 1000 * ms * 2 * channels)


def test_no_sample_is_lost_whatever_the_sizes() -> None:
    cut = chunker()
    samples = np.arange(10_000, dtype=np.int16)
    given: list[bytes] = []
    at = 0
    for size in (1, 639, 640, 641, 5000, 3, 2000):
        frame = OutputAudioRawFrame(samples[at : at + size].tobytes(), HZ, 1)
        given += [chunk.audio for chunk in cut.add(frame)]
        at += size
    assert {len(audio) for audio in given} == {1280}
    given += [chunk.audio for chunk in cut.drain(pad=False)]
    assert b"".join(given) == samples[:at].tobytes()
    assert not cut.waiting


def test_padding_fills_the_last_chunk_with_silence() -> None:
    cut = chunker()
    list(cut.add(OutputAudioRawFrame(b"\1\2" * 10, HZ, 1)))
    (last,) = cut.drain(pad=True)
    assert last.audio == b"\1\2" * 10 + bytes(1280 - 20)


@pytest.mark.parametrize("hz", [8_000, 11_025, 22_050, 24_000, 44_100, 48_000])
def test_another_rate_becomes_ours_to_the_last_sample(hz: int) -> None:
    cut = chunker()
    pcm = tone(440, hz, hz=hz).tobytes()
    given: list[bytes] = []
    for at in range(0, len(pcm), 2 * (hz // 50)):
        given += [
            c.audio for c in cut.add(OutputAudioRawFrame(pcm[at : at + 2 * (hz // 50)], hz, 1))
        ]
    given += [chunk.audio for chunk in cut.drain(pad=False)]
    samples = np.frombuffer(b"".join(given), np.int16)
    assert len(samples) == pytest.approx(HZ, abs=20)
    assert pitch_hz(np.repeat(samples, 3)) == pytest.approx(440, rel=0.01)


def test_a_change_of_rate_within_an_utterance_keeps_all_of_it() -> None:
    cut = chunker()
    given: list[OutputAudioRawFrame] = []
    for hz in (24_000, 16_000, 8_000):
        given += cut.add(OutputAudioRawFrame(tone(440, hz // 2, hz=hz).tobytes(), hz, 1))
    given += cut.drain(pad=False)
    assert sum(chunk.num_frames for chunk in given) == pytest.approx(3 * HZ // 2, abs=20)


def test_mono_becomes_stereo_and_stereo_mono() -> None:
    left, right = 100, 300
    stereo = np.array([[left, right]] * 640, np.int16)
    (chunk,) = chunker().add(OutputAudioRawFrame(stereo.tobytes(), HZ, 2))
    assert set(np.frombuffer(chunk.audio, np.int16)) == {200}
    (chunk,) = chunker(channels=2).add(OutputAudioRawFrame(b"\1\0" * 640, HZ, 1))
    assert (chunk.num_channels, chunk.num_frames) == (2, 640)
    (chunk,) = chunker(channels=2).add(OutputAudioRawFrame(stereo.tobytes(), HZ, 2))
    assert chunk.audio == stereo.tobytes()


def test_stereo_is_resampled_channel_by_channel() -> None:
    hz = 24_000
    stereo = np.stack((tone(440, hz, hz=hz), np.zeros(hz, np.int16)), axis=1)
    cut = chunker(channels=2)
    chunks = [*cut.add(OutputAudioRawFrame(stereo.tobytes(), hz, 2)), *cut.drain(pad=False)]
    samples = np.frombuffer(b"".join(c.audio for c in chunks), np.int16).reshape(-1, 2)
    assert len(samples) == pytest.approx(HZ, abs=20)
    assert np.abs(samples[:, 1]).max() <= 1
    assert pitch_hz(np.repeat(samples[:, 0], 3)) == pytest.approx(440, rel=0.01)


@pytest.mark.parametrize(("audio", "channels"), [(b"abc", 1), (b"abcdef", 2), (bytes(12), 3)])
def test_what_is_no_audio_is_refused_and_leaves_the_rest(audio: bytes, channels: int) -> None:
    cut = chunker(channels=2)
    list(cut.add(OutputAudioRawFrame(bytes(40), HZ, 2)))
    with pytest.raises(ConfigError):
        list(cut.add(OutputAudioRawFrame(audio, HZ, channels)))
    assert [chunk.audio for chunk in cut.drain(pad=False)] == [bytes(40)]


def test_a_drop_takes_what_may_be_interrupted_and_only_that() -> None:
    cut = chunker()
    kept = OutputAudioRawFrame(b"\2\0" * 10, HZ, 1)
    kept.interruptible = False
    for frame in (OutputAudioRawFrame(b"\1\0" * 10, HZ, 1), kept):
        assert not list(cut.add(frame))
    list(cut.add(OutputAudioRawFrame(tone(440, 480, hz=48_000).tobytes(), 48_000, 1)))
    cut.drop()
    assert [chunk.audio for chunk in cut.drain(pad=False)] == [b"\2\0" * 10]


def test_a_minute_in_one_frame_comes_out_piece_by_piece() -> None:
    cut = chunker()
    chunks = cut.add(OutputAudioRawFrame(bytes(2 * 60 * 24_000), 24_000, 1))
    began = time.process_time()
    next(chunks)
    first = time.process_time() - began
    began = time.process_time()
    assert len(list(chunks)) > 1400
    assert first < time.process_time() - began
