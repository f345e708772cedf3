"""PCM of one shape to another: rate by soxr, streaming, and mono or stereo.

One stream each way of a WebSocket, in the worker, for wires whose rate is not the ring's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Converter:
    """int16 from `from_hz` and `from_channels` to `to_hz` and `to_channels`, interleaved."""

    def __init__(self, from_hz: int, from_channels: int, to_hz: int, to_channels: int) -> None:
        self.shape = (from_hz, from_channels)
        self._from_channels = from_channels
        self._to_channels = to_channels
        # Down to one channel before the work, up to two behind it.
        self._channels = min(from_channels, to_channels)
        self._stream = None
        if from_hz != to_hz:
            import soxr  # here, because most wires have the ring's rate

            # Not as int16: soxr then dithers, and its silence would be no silence any more.
            self._stream = soxr.ResampleStream(
                from_hz, to_hz, self._channels, dtype="float32", quality="HQ"
            )

    def feed(self, pcm: bytes | memoryview, *, last: bool = False) -> bytes:
        """Whole samples in; what is ready of them out, all of it if they are the `last`."""
        samples = np.frombuffer(pcm, np.int16).reshape(-1, self._from_channels)
        if self._channels < self._from_channels:
            samples = samples.mean(axis=1, keepdims=True).astype(np.int16)
        if self._stream is not None:
            made = self._resample(samples, last=last)
        else:
            made = samples
        if self._to_channels > self._channels:
            made = made.repeat(self._to_channels, axis=1)
        return made.tobytes()

    def _resample(self, samples: NDArray[np.int16], *, last: bool) -> NDArray[np.int16]:
        assert self._stream is not None  # noqa: S101 - the caller looked
        fed = samples.astype(np.float32)
        made = self._stream.resample_chunk(fed if self._channels > 1 else fed[:, 0], last=last)
        if last:
            self._stream.clear()
        whole: NDArray[np.int16] = np.clip(np.rint(made), -32_768, 32_767).astype(np.int16)
        return whole.reshape(-1, self._channels)

    def clear(self) -> None:
        """Forget what is held back."""
        if self._stream is not None:
            self._stream.clear()
