"""PCM of one shape to another: rate by libswresample, streaming, and mono or stereo.

One stream each way of a WebSocket, in the worker, for wires whose rate is not the ring's. It
holds back 1 to 2 ms of what it is given; soxr's streams would hold back 40 to 175.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workers.audio.swresample import new_resampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.audio.swresample import Resampler


class Converter:
    """int16 from `from_hz` and `from_channels` to `to_hz` and `to_channels`, interleaved."""

    def __init__(self, from_hz: int, from_channels: int, to_hz: int, to_channels: int) -> None:
        self.shape = (from_hz, from_channels)
        self._from_hz, self._to_hz = from_hz, to_hz
        self._from_channels, self._to_channels = from_channels, to_channels
        # Down to one channel before the work, up to two behind it.
        self._channels = min(from_channels, to_channels)
        self._resampler: Resampler | None = None

    def feed(self, pcm: bytes | memoryview, *, last: bool = False) -> bytes:
        """Whole samples in; what is ready of them out, all of it if they are the `last`."""
        if self._channels < self._from_channels:
            both: NDArray[np.int16] = np.frombuffer(pcm, np.int16)
            sums = np.add(both[0::2], both[1::2], dtype=np.int32)
            pcm = (sums >> 1).astype(np.int16).tobytes()
        made = bytes(pcm) if self._from_hz == self._to_hz else self._resample(pcm, last=last)
        if self._to_channels > self._channels:
            samples: NDArray[np.int16] = np.frombuffer(made, np.int16)
            made = samples.repeat(self._to_channels).tobytes()
        return made

    def _resample(self, pcm: bytes | memoryview, *, last: bool) -> bytes:
        if self._resampler is None:
            self._resampler = new_resampler(self._from_hz, self._to_hz, self._channels)
        made = self._resampler.feed(pcm)
        if last:
            made += self._resampler.drain()
            self._resampler = None
        return made

    def clear(self) -> None:
        """Forget what is held back."""
        self._resampler = None
