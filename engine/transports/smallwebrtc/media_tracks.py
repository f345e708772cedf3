"""Tracks of a connection: the caller's voice to be pulled, and a bot's track that we pull.

Only for those who work with tracks; the transport itself reads and writes the session's rings.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from ipc.errors import BackbeatError, SessionClosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from engine.sdk import AudioFrame, Mark, Session

log = logging.getLogger(__name__)

# Pulled ahead of what the caller hears: enough for a late turn of the loop and for what a
# resampler holds back, little to flush.
LEAD_MS = 80
MS_PER_S = 1000
FULL_SCALE = 32_767


class CallerTrack:
    """What the caller sends, as frames of av (`recv`), 20 ms each."""

    kind = "audio"

    def __init__(
        self,
        session: Session,
        open_media: Callable[[], Awaitable[None]],
        sends: Callable[[], bool],
    ) -> None:
        self.announced = False
        self._session = session
        self._open_media = open_media
        self._sends = sends
        self._enabled = True
        self._stopped = False
        self._frames: AsyncIterator[AudioFrame] | None = None

    def is_enabled(self) -> bool:
        """Whether it is wanted here and sent there."""
        return self._enabled and self._sends()

    def set_enabled(self, enabled: bool) -> None:
        """Want it, or not: then `recv` passes over what is said."""
        self._enabled = enabled

    async def discard_old_frames(self) -> None:
        """Forget what waits: the next `recv` gives what is said from now on."""
        await self._open_media()
        self._session.skip_audio()

    async def recv(self) -> Any:
        """The next `av.AudioFrame`; `pts` counts samples. MediaStreamError after the end."""
        from aiortc.mediastreams import MediaStreamError

        try:
            await self._open_media()
            if self._frames is None:
                self._frames = self._session.audio()
            while not self._stopped:
                frame = await anext(self._frames, None)
                if frame is None:
                    break
                if self._enabled:
                    return _as_av(frame)
        except SessionClosed as error:
            raise MediaStreamError from error
        raise MediaStreamError

    def stop(self) -> None:
        """Give nothing any more."""
        self._stopped = True


class TrackPlayer:
    """Pulls a track that somebody else made and plays it. `stop` or `end` gives it up."""

    def __init__(
        self, session: Session, open_media: Callable[[], Awaitable[None]], track: Any
    ) -> None:
        self._session = session
        self._open_media = open_media
        self._track = track
        self._task = asyncio.create_task(self._play(), name="track player")

    def stop(self) -> None:
        """Pull no more; the track is not stopped, it is not ours."""
        self._task.cancel()

    async def end(self) -> None:
        """Pull no more, and wait for it."""
        self.stop()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _play(self) -> None:
        session = self._session
        try:
            await self._open_media()
            ahead: deque[asyncio.Future[Mark]] = deque()
            while True:
                pcm, hz = _as_pcm(await self._track.recv(), session.speaker_channels)
                played = await session.play(pcm, hz=hz, mark="")
                if played.mark is not None:
                    ahead.append(played.mark)
                if len(ahead) * len(pcm) * MS_PER_S > LEAD_MS * hz:
                    await ahead.popleft()
        except BackbeatError as error:
            if not session.closed:
                log.warning("a track of session %s is not played: %s", session.id, error.message)
        except Exception as error:
            # Its end is an exception of aiortc, which this process need not have loaded.
            if type(error).__name__ != "MediaStreamError":
                log.exception("the track given to session %s failed", session.id)


def _as_av(frame: AudioFrame) -> Any:
    import av

    made = av.AudioFrame(
        format="s16", layout="mono" if frame.channels == 1 else "stereo", samples=frame.count
    )
    made.planes[0].update(bytes(frame.pcm))
    made.sample_rate = frame.hz
    made.pts = frame.cursor
    made.time_base = Fraction(1, frame.hz)
    return made


def _as_pcm(frame: Any, channels: int) -> tuple[np.ndarray[Any, np.dtype[np.int16]], int]:
    """Samples of shape (n,) or (n, 2) of an `av.AudioFrame`, and their rate."""
    samples = frame.to_ndarray()
    count = len(frame.layout.channels)
    by_channel = samples.reshape(-1, count) if not frame.format.is_planar else samples.T
    if by_channel.dtype != np.int16:
        scaled = by_channel.astype(np.float32)
        if np.issubdtype(by_channel.dtype, np.integer):
            scaled /= -float(np.iinfo(by_channel.dtype).min)
        by_channel = (np.clip(scaled, -1, 1) * FULL_SCALE).astype(np.int16)
    if count != channels:
        mixed = by_channel.mean(axis=1).astype(np.int16)
        by_channel = np.repeat(mixed[:, None], channels, axis=1)
    pcm = by_channel[:, 0] if channels == 1 else by_channel[:, :2]
    return np.ascontiguousarray(pcm), frame.sample_rate
