"""Sound files to play, in shapes that tests choose."""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.audio import Samples


def write_sound(path: Path, samples: Samples, *, hz: int = 48_000, channels: int = 1) -> str:
    """16-bit PCM, interleaved when there are more channels; its path as text."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(hz)
        file.writeframes(samples.tobytes())
    return str(path)


def clicks_db(samples: Samples, *, above_hz: float = 6_000, hz: int = 48_000) -> float:
    """The loudest millisecond of what lies above the tones of a test, in dBFS.

    A click is broadband; tones below `above_hz` are taken out in 20 ms windows that overlap.
    """
    size = hz // 50
    window = np.hanning(size)
    worst = 1e-9
    for start in range(0, len(samples) - size, size // 4):
        spectrum = np.fft.rfft(samples[start : start + size] * window)
        spectrum[: int(above_hz * size / hz)] = 0
        rest = np.fft.irfft(spectrum, size)
        step = hz // 1000
        levels = np.sqrt((rest[: size // step * step].reshape(-1, step) ** 2).mean(axis=1))
        worst = max(worst, float(levels.max()))
    return 20 * float(np.log10(worst / 32_767 * np.sqrt(2)))
