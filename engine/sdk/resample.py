"""Speech of another rate on its way into the ring: soxr, streaming, in the bot's process.

Of the usual rates only 22.05, 44.1 and 32 kHz need it; 11.025 kHz cannot be had, since 20 ms of
it are no whole number of samples. What the filter holds back (10 to 35 ms) comes out
with what follows, or when it is drained.
"""

from __future__ import annotations

import numpy as np

from ipc.audio_ring import FRAME_MS
from ipc.errors import ConfigError

MIN_HZ, MAX_HZ = 8_000, 192_000
CHUNK_MS = 100


def check_rate(hz: int) -> None:
    """Raise ConfigError(`rate`) for a rate that cannot be played."""
    if not MIN_HZ <= hz <= MAX_HZ:
        raise ConfigError(f"a rate is {MIN_HZ} to {MAX_HZ} Hz, not {hz}", code="rate")
    if hz * FRAME_MS % 1000:
        raise ConfigError(
            f"{hz} Hz cannot be played: {FRAME_MS} ms of it, an Opus frame, are "
            f"{hz * FRAME_MS / 1000:g} samples; resample it to 16000, 24000 or 48000 Hz",
            code="rate",
        )


class Resampler:
    """One stream of int16 PCM from `hz` to the ring's rate."""

    def __init__(self, hz: int, ring_hz: int, channels: int) -> None:
        import soxr  # here, because most bots speak at their ring's rate and never need it

        self.hz = hz
        self._ring_hz = ring_hz
        self._channels = channels
        # Not as int16: soxr then dithers, and its silence would be no silence any more.
        self._stream = soxr.ResampleStream(hz, ring_hz, channels, dtype="float32", quality="HQ")
        self._fed = self._given = 0

    def feed(self, pcm: memoryview) -> memoryview:
        """Whole samples in; those that are ready out, at the ring's rate."""
        samples = np.frombuffer(pcm, np.int16).astype(np.float32)
        if self._channels > 1:
            samples = samples.reshape(-1, self._channels)
        self._fed += len(samples)
        return self._bytes(self._stream.resample_chunk(samples))

    def drain(self) -> memoryview:
        """What is held back; the stream begins anew."""
        shape = (0,) if self._channels == 1 else (0, self._channels)
        rest = self._bytes(self._stream.resample_chunk(np.zeros(shape, np.float32), last=True))
        self.clear()
        return rest

    def clear(self) -> None:
        """Forget what is held back."""
        self._stream.clear()
        self._fed = self._given = 0

    @property
    def held(self) -> int:
        """Samples at the ring's rate that are still to come for what was fed."""
        return max(0, self._fed * self._ring_hz // self.hz - self._given)

    def _bytes(self, samples: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> memoryview:
        self._given += len(samples)
        whole = np.clip(np.rint(samples), -32_768, 32_767).astype(np.int16)
        return memoryview(whole.tobytes())
