"""From the caller into the mic ring.

The seam: decoded samples are appended to the ring of the moment, and `on_mic` says that it
grew. Behind it, for now, aiortc's own jitter buffer and decoder.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame, AudioResampler

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipc.audio_ring import WorkerRing
    from ipc.clock import Clock


class Receiver:
    """Writes what one peer says into the mic ring of one session."""

    def __init__(self, clock: Clock, on_mic: Callable[[], None]) -> None:
        self._clock = clock
        self._on_mic = on_mic
        self.ring: WorkerRing | None = None
        self.frames = 0
        self._resampler: AudioResampler | None = None
        self._resampled: tuple[object, ...] = ()

    async def run(self, track: MediaStreamTrack) -> None:
        """Read the track until it ends."""
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                if isinstance(frame, AudioFrame):
                    self._write(frame)

    def _write(self, frame: AudioFrame) -> None:
        self.frames += 1
        ring = self.ring
        if ring is None:  # no bot yet: what is said before it attaches is dropped
            return
        # A caller may go over to another codec in the middle of the call.
        kind = (ring, frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or self._resampled != kind:
            layout = "mono" if ring.mic.channels == 1 else "stereo"
            self._resampler = AudioResampler("s16", layout, ring.mic.hz)
            self._resampled = kind
        for piece in self._resampler.resample(frame):
            pcm = memoryview(piece.planes[0]).cast("B")[: piece.samples * ring.mic.stride]
            ring.write_mic(pcm)
        ring.set_capture(self._clock.now_ns(), (frame.pts or 0) & 0xFFFFFFFF)
        self._on_mic()
