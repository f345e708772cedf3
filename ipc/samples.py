"""The audio frame of the bot SDK: samples with their place in the caller's stream.

`AudioFrame` is what `Session.audio` yields. It is no pipeline frame: it has no number, no
name and cannot be changed, because one is made for each 20 ms of each caller.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Pcm = np.ndarray[tuple[int, ...], np.dtype[np.int16]]


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """int16 PCM of a caller. `cursor` is its first sample, `lost` samples went before it."""

    pcm: bytes | memoryview
    hz: int
    channels: int
    cursor: int
    lost: int = 0

    @property
    def samples(self) -> Pcm:
        """The samples without a copy: shape (n,) for mono, (n, 2) for stereo."""
        flat = np.frombuffer(self.pcm, np.int16)
        return flat if self.channels == 1 else flat.reshape(-1, self.channels)

    @property
    def count(self) -> int:
        """Samples per channel."""
        return len(self.pcm) // (2 * self.channels)

    @property
    def duration_ms(self) -> float:
        """Length in ms."""
        return self.count * 1000 / self.hz
