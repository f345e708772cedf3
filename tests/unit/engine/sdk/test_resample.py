"""Another rate: how late, how pure, how long, and the same however it is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine.sdk.resample import Resampler
from ipc.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

AMPLITUDE = 16_000
RATES = [
    (24_000, 16_000),
    (16_000, 24_000),
    (8_000, 48_000),
    (44_100, 48_000),
    (22_050, 24_000),
    (48_000, 8_000),
    (44_101, 24_000),
]


def sine(hertz: float, hz: int, count: int) -> NDArray[np.int16]:
    wave = AMPLITUDE * np.sin(2 * np.pi * hertz * np.arange(count) / hz)
    samples: NDArray[np.int16] = np.rint(wave).astype(np.int16)
    return samples


def fed(resampler: Resampler, samples: NDArray[np.int16], step: int) -> NDArray[np.int16]:
    """What comes of samples that are given `step` at a time, and of the end."""
    made = [
        bytes(resampler.feed(samples[at : at + step].data)) for at in range(0, len(samples), step)
    ]
    return np.frombuffer(b"".join(made) + bytes(resampler.drain()), np.int16)


def purity_db(samples: NDArray[np.int16], hertz: float, hz: int) -> float:
    """The sine of that pitch over everything else, in the middle of the samples."""
    middle = samples[len(samples) // 4 : -len(samples) // 4].astype(float)
    phase = 2 * np.pi * hertz * np.arange(len(middle)) / hz
    waves = np.stack((np.sin(phase), np.cos(phase)), axis=1)
    parts, *_ = np.linalg.lstsq(waves, middle, rcond=None)
    rest = middle - waves @ parts
    return float(10 * np.log10((parts**2).sum() / 2 / (rest**2).mean()))


@pytest.mark.parametrize(("hz", "ring_hz"), RATES)
def test_speech_is_pure_whole_and_only_a_few_ms_late(hz: int, ring_hz: int) -> None:
    hertz = 0.35 * min(hz, ring_hz)
    samples = sine(hertz, hz, hz // 2)
    resampler = Resampler(hz, ring_hz, 1)
    made = len(resampler.feed(samples.data)) // 2
    assert 0 < resampler.held <= 0.0041 * ring_hz
    assert made + resampler.held == round(len(samples) * ring_hz / hz)
    resampler.clear()
    heard = fed(resampler, samples, hz // 50)
    assert len(heard) == round(len(samples) * ring_hz / hz)
    assert purity_db(heard, hertz, ring_hz) > 70
    # In its place, too: not a sample early or late.
    wanted = sine(hertz, ring_hz, len(heard)).astype(int)
    assert np.abs(heard - wanted)[ring_hz // 10 : -ring_hz // 10].max() < AMPLITUDE // 100


@pytest.mark.parametrize("ring_hz", [8_000, 16_000, 24_000])
def test_what_the_ring_cannot_hold_is_not_heard_as_something_else(ring_hz: int) -> None:
    beyond = sine(0.6 * ring_hz, 48_000, 24_000)
    heard = fed(Resampler(48_000, ring_hz, 1), beyond, 960).astype(int)
    assert np.abs(heard[ring_hz // 20 : -ring_hz // 20]).max() <= 1


@pytest.mark.parametrize(("hz", "ring_hz"), RATES)
def test_however_it_is_cut_the_same_is_heard(hz: int, ring_hz: int) -> None:
    noise = np.random.default_rng(7).integers(-20_000, 20_000, 3_001).astype(np.int16)
    whole = fed(Resampler(hz, ring_hz, 1), noise, len(noise))
    for step in (1, 17, 480, 3_000):
        assert np.array_equal(fed(Resampler(hz, ring_hz, 1), noise, step), whole)


def test_channels_do_not_hear_each_other() -> None:
    left, right = sine(440, 24_000, 4_800), sine(700, 24_000, 4_800)
    both: NDArray[Any] = np.stack((left, right), axis=1)
    heard = fed(Resampler(24_000, 16_000, 2), both, 480).reshape(-1, 2)
    for channel, alone in enumerate((left, right)):
        assert np.array_equal(heard[:, channel], fed(Resampler(24_000, 16_000, 1), alone, 480))


def test_silence_stays_silence_and_a_stream_begins_anew_behind_its_end() -> None:
    resampler = Resampler(44_100, 48_000, 1)
    first = fed(resampler, sine(440, 44_100, 4_410), 441)
    assert np.array_equal(fed(resampler, sine(440, 44_100, 4_410), 441), first)
    assert not fed(resampler, np.zeros(4_410, np.int16), 441).any()
    assert len(resampler.drain()) == resampler.held == 0


@pytest.mark.parametrize("hz", [0, -1, 999, 768_001])
def test_a_rate_of_no_audio_is_refused(hz: int) -> None:
    with pytest.raises(ConfigError) as refused:
        Resampler(hz, 16_000, 1)
    assert refused.value.code == "rate"
