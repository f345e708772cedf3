"""The noise of a telephone whose speaker pauses, at the level that it tells (RFC 3389).

White up to the end of the telephone band; the spectrum that a packet may also describe is left
out. The same second of noise is heard by everybody. Numbers in, samples out; no clock.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BAND_HZ = (100, 3_800)
# The level of a byte of 0: a square wave of the highest samples (RFC 3389 section 3).
OVERLOAD = 32_767.0
FADE_MS = 20


@lru_cache
def _noise(hz: int) -> NDArray[np.float32]:
    """A second of noise whose RMS is 1, and whose end fits its beginning."""
    first, last = BAND_HZ
    spectrum = np.zeros(hz // 2 + 1, np.complex128)
    phases = np.random.default_rng(hz).uniform(0, 2 * np.pi, last - first)
    spectrum[first:last] = np.exp(1j * phases)
    noise = np.fft.irfft(spectrum, hz)
    noise /= np.sqrt(np.mean(noise**2))
    made: NDArray[np.float32] = noise.astype(np.float32)
    return made


class ComfortNoise:
    """The background of one stream. Its level moves within 20 ms, also from and to silence."""

    def __init__(self, hz: int, channels: int) -> None:
        self._noise = _noise(hz)
        self._channels = channels
        self._fade = hz * FADE_MS // 1000
        self._at = 0
        self._gain = self._wanted = 0.0

    @property
    def heard(self) -> bool:
        """Whether a pause is going on."""
        return self._gain > 0

    def tell(self, level: int) -> None:
        """What a packet says: so many dB below the overload, in the lower seven bits."""
        self._wanted = OVERLOAD * 10 ** (-(level & 0x7F) / 20)

    def fill(self, pcm: NDArray[np.int16], samples: int) -> int:
        """Write noise to the start of `pcm`; how many samples per channel, 0 before any level."""
        if not self._wanted:
            return 0
        count = min(samples, len(pcm) // self._channels, len(self._noise))
        noise = self._next(count) * self._wanted
        if self._gain != self._wanted:
            moving = noise[: self._fade]
            moving *= np.linspace(self._gain / self._wanted, 1, len(moving))
            self._gain = self._wanted
        sound = noise.clip(-OVERLOAD, OVERLOAD).astype(np.int16)
        pcm[: count * self._channels] = np.repeat(sound, self._channels)
        return count

    def end(self, pcm: NDArray[np.int16]) -> None:
        """Speech goes on with `pcm`, into which the noise fades."""
        count = min(len(pcm) // self._channels, self._fade)
        noise = self._next(count) * np.linspace(self._gain, 0, count)
        self._gain = 0.0
        if self._channels > 1:
            noise = np.repeat(noise, self._channels)
        begin = pcm[: len(noise)]
        begin[:] = (begin + noise).clip(-OVERLOAD, OVERLOAD)

    def _next(self, count: int) -> NDArray[np.float32]:
        if self._at + count > len(self._noise):
            self._at = 0
        start = self._at
        self._at += count
        return self._noise[start : start + count]
