"""Tones and speech to send, and what to say of what came back. All int16 mono at 48 kHz."""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HZ = 48_000
FRAME = HZ // 50
Samples = np.ndarray[tuple[int, ...], np.dtype[np.int16]]
SILENCE_DB = -60.0


def tone(hertz: float, count: int, *, start: int = 0, hz: int = HZ, db: float = -12.0) -> Samples:
    """A sine of `db` dBFS (RMS of a full-scale sine is 0), continuous over `start`."""
    peak = 32767 * 10 ** (db / 20)
    at = np.arange(start, start + count)
    samples: Samples = np.round(peak * np.sin(2 * np.pi * hertz * at / hz)).astype(np.int16)
    return samples


def tone_source(hertz: float, db: float = -12.0) -> Callable[[int, int], Samples]:
    """An endless tone for a caller's microphone."""
    return lambda start, count: tone(hertz, count, start=start, db=db)


def silence_source() -> Callable[[int, int], Samples]:
    """A caller who says nothing."""
    return lambda _start, count: np.zeros(count, np.int16)


def pcm_source(samples: Samples) -> Callable[[int, int], Samples]:
    """These samples once, then silence."""

    def source(start: int, count: int) -> Samples:
        piece = samples[start : start + count]
        return np.pad(piece, (0, count - len(piece)))

    return source


def read_wav(path: Path) -> Samples:
    """A 16-bit WAV file as mono at 48 kHz (linear interpolation: good enough for envelopes)."""
    with wave.open(str(path), "rb") as file:
        hz, channels = file.getframerate(), file.getnchannels()
        raw = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    mono = raw.reshape(-1, channels).mean(axis=1)
    wanted = np.arange(0, len(mono) - 1, hz / HZ)
    samples: Samples = np.interp(wanted, np.arange(len(mono)), mono).astype(np.int16)
    return samples


def write_wav(path: Path, samples: Samples) -> None:
    """Mono 16-bit at 48 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(HZ)
        file.writeframes(samples.tobytes())


def level_db(samples: Samples) -> float:
    """Loudness in dB, on the scale of `tone`: a sine of peak 32767 has 0."""
    if not len(samples):
        return -200.0
    power = float(np.mean(np.square(samples.astype(np.float64)))) / (32767**2 / 2)
    return 10 * float(np.log10(max(power, 1e-20)))


def pitch_hz(samples: Samples, hz: int = HZ) -> float:
    """The strongest frequency, to a fraction of an FFT bin; 0 for silence."""
    if len(samples) < 512 or level_db(samples) < SILENCE_DB:
        return 0.0
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    peak = int(np.argmax(spectrum[1:-1])) + 1
    left, middle, right = np.log(spectrum[peak - 1 : peak + 2] + 1e-9)
    bend = left - 2 * middle + right
    offset = 0.5 * (left - right) / bend if bend else 0.0
    return float((peak + offset) * hz / len(samples))


def loud_frames(samples: Samples, threshold_db: float = -40.0) -> int:
    """How many 20 ms frames are louder than the threshold."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    return sum(level_db(frame) > threshold_db for frame in frames)
