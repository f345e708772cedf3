"""A frame that is put together before it is encoded: filled up, mixed down, faded, mirrored.

Whatever breaks off does so over 2.5 ms, never with a click. Samples in, samples in place; knows
no ring, encoder or packet.
"""

from __future__ import annotations

import numpy as np

FRAME_MS = 20
FADE_MS = 2.5


class WorkFrame:
    """20 ms of interleaved int16 samples at one place in memory."""

    def __init__(self, count: int, channels: int) -> None:
        """`count` samples of each channel."""
        self.channels = channels
        self.samples = np.zeros(count * channels, np.int16)
        self.address: int = self.samples.ctypes.data
        self.fade = int(count * FADE_MS / FRAME_MS)

    def fill(self, pcm: memoryview | bytes, channels: int, fade: int = 0) -> None:
        """Copy samples into it, the last `fade` of them faded out, then silence.

        Of another number of channels they are mixed down to one.
        """
        samples = np.frombuffer(pcm, np.int16)
        if channels != self.channels:
            samples = samples.reshape(-1, channels).mean(axis=1).astype(np.int16)
        work = self.samples
        work[: len(samples)] = samples
        work[len(samples) :] = 0
        faded = min(len(samples), fade * self.channels)
        if faded:
            end = work[len(samples) - faded : len(samples)]
            end[:] = (end * np.linspace(1, 0, faded)).astype(np.int16)

    def mirror(self, pcm: memoryview) -> None:
        """The samples backwards and faded out, then silence: an end for what ran dry."""
        tail = np.frombuffer(pcm, np.int16)[::-1]
        self.samples[:] = 0
        self.samples[: len(tail)] = (tail * np.linspace(1, 0, len(tail))).astype(np.int16)

    def clear(self) -> None:
        """Nothing but silence."""
        self.samples[:] = 0
