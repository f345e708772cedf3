"""PCM of one shape to another: rate by libswresample, streaming, and mono or stereo.

One stream each way of a WebSocket, in the worker, for wires whose rate is not the ring's. It
holds back 1 to 2 ms of what it is given; soxr's streams would hold back 40 to 175.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from av import AudioFrame, AudioResampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_BYTES = 2


class Converter:
    """int16 from `from_hz` and `from_channels` to `to_hz` and `to_channels`, interleaved."""

    def __init__(self, from_hz: int, from_channels: int, to_hz: int, to_channels: int) -> None:
        self.shape = (from_hz, from_channels)
        self._from_hz, self._to_hz = from_hz, to_hz
        self._from_channels, self._to_channels = from_channels, to_channels
        # Down to one channel before the work, up to two behind it.
        self._channels = min(from_channels, to_channels)
        self._layout = "stereo" if self._channels == 2 else "mono"
        self._resampler: AudioResampler | None = None

    def feed(self, pcm: bytes | memoryview, *, last: bool = False) -> bytes:
        """Whole samples in; what is ready of them out, all of it if they are the `last`."""
        if self._channels < self._from_channels:
            both = np.frombuffer(pcm, np.int16).reshape(-1, self._from_channels)
            pcm = both.mean(axis=1).astype(np.int16).tobytes()
        made = bytes(pcm) if self._from_hz == self._to_hz else self._resample(pcm, last=last)
        if self._to_channels > self._channels:
            samples: NDArray[np.int16] = np.frombuffer(made, np.int16)
            made = samples.repeat(self._to_channels).tobytes()
        return made

    def _resample(self, pcm: bytes | memoryview, *, last: bool) -> bytes:
        if self._resampler is None:
            self._resampler = AudioResampler(format="s16", layout=self._layout, rate=self._to_hz)
        frames: list[AudioFrame] = []
        if len(pcm):
            count = len(pcm) // (SAMPLE_BYTES * self._channels)
            frame = AudioFrame(format="s16", layout=self._layout, samples=count)
            frame.sample_rate = self._from_hz
            # A plane is padded, and takes only all of its bytes.
            plane = memoryview(frame.planes[0])
            plane[: len(pcm)] = pcm
            frames = self._resampler.resample(frame)
        if last:
            frames += self._resampler.resample(None)
            self._resampler = None
        return b"".join(self._bytes(frame) for frame in frames)

    def _bytes(self, frame: AudioFrame) -> bytes:
        return bytes(memoryview(frame.planes[0])[: frame.samples * SAMPLE_BYTES * self._channels])

    def clear(self) -> None:
        """Forget what is held back."""
        self._resampler = None
