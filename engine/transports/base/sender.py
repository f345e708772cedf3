"""One destination's way out: audio in chunks and whatever follows it, images, timed frames.

An interruption works at once and by plain calls; only its events and tasks are awaited.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from engine.transports.base.audio_out import AudioOut
from engine.transports.base.chunks import Chunker
from engine.transports.base.frame_queue import FrameQueue
from engine.transports.base.timed import TimedFrames
from engine.transports.base.video import Video
from engine.transports.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    MixerControlFrame,
    OutputAudioRawFrame,
    OutputImageRawFrame,
    SpriteFrame,
    StartFrame,
    TTSStoppedFrame,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from engine.transports.base.output import BaseOutputTransport
    from engine.transports.base.params import TransportParams

log = logging.getLogger(__name__)

# What an end waits beyond the audio and the longest write.
END_GRACE_S = 1.0
TIMED_GRACE_S = 30.0
# A minute of speech in one frame must not hold up the loop.
CHUNKS_A_TURN = 25


class MediaSender:
    """Sends what is queued for one destination of a transport; None is the default one.

    `audio_chunk_size` is in bytes, at `sample_rate` Hz and the channels of `params`.
    """

    def __init__(
        self,
        transport: BaseOutputTransport,
        *,
        destination: str | None,
        sample_rate: int,
        audio_chunk_size: int,
        params: TransportParams,
    ) -> None:
        self._transport = transport
        self._destination = destination
        self._sample_rate = sample_rate
        self._audio_chunk_size = audio_chunk_size
        self._params = params
        self._chunker = Chunker(sample_rate, params.audio_out_channels, audio_chunk_size)
        self._queue = FrameQueue()
        self._timed = TimedFrames(lambda: transport.get_clock().get_time(), transport.push_frame)
        self._video = Video(params, transport.write_video_frame)
        self._audio = AudioOut(
            transport,
            destination,
            sample_rate=sample_rate,
            chunk_bytes=audio_chunk_size,
            params=params,
            queue=self._queue,
            chunker=self._chunker,
            show=self._video.show,
        )
        self._tasks: list[asyncio.Task[Any]] = []
        self._audio_task: asyncio.Task[Any] | None = None

    @property
    def sample_rate(self) -> int:
        """Rate of what is written, in Hz."""
        return self._sample_rate

    @property
    def audio_chunk_size(self) -> int:
        """Size of a write in bytes."""
        return self._audio_chunk_size

    # -- life -------------------------------------------------------------------------------

    async def start(self, frame: StartFrame) -> None:
        """Begin to send."""
        await self._audio.start()
        if self._audio.held is not None:
            self._run(self._audio.held.run(), "held")
        self._run(self._timed.run(), "timed")
        if self._params.video_out_enabled:
            self._run(self._video.run(), "video")
        self._audio_task = self._run(self._audio.run(), "audio")

    async def stop(self, frame: EndFrame) -> None:
        """Send what is queued and the final silence, and wait until all has left.

        At most for as long as that takes in real time and one write more.
        """
        self._audio.drain()
        self._queue.put_now(frame)
        limit_s = (
            self._queue.audio_s
            + self._params.audio_out_end_silence_secs
            + 2 * self._params.audio_out_lead_ms / 1000
            + self._params.audio_out_write_timeout_secs
            + END_GRACE_S
        )
        await asyncio.gather(self._audio_end(limit_s), self._timed_end(limit_s))
        await self._audio.speaking.stop()
        await self._end()

    async def cancel(self, frame: CancelFrame) -> None:
        """End at once: what is queued is dropped."""
        self.interrupt()
        await self._end()

    async def cleanup(self) -> None:
        """End whatever still runs. Safe to call twice."""
        await self._end()

    async def _audio_end(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                if self._audio_task is not None:
                    await asyncio.wait((self._audio_task,))
                if self._audio.held is not None:
                    await self._audio.held.wait_empty()
        except TimeoutError:
            log.error("%s: the end waited %.1f s for audio that did not leave", self, limit_s)

    async def _timed_end(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s + TIMED_GRACE_S):
                await self._timed.wait_empty()
        except TimeoutError:
            log.error("%s: the end did not wait longer for timed frames", self)

    async def _end(self) -> None:
        tasks, self._tasks = self._tasks, []
        self._audio_task = None
        for task in tasks:
            await self._transport.cancel_task(task)
        await self._audio.stop()

    def _run(self, coroutine: Coroutine[Any, Any, Any], what: str) -> asyncio.Task[Any]:
        task = self._transport.create_task(coroutine, f"{what} of {self._destination or 'default'}")
        self._tasks.append(task)
        return task

    # -- what comes -------------------------------------------------------------------------

    async def handle_audio_frame(self, frame: OutputAudioRawFrame) -> None:
        """Cut audio into chunks and queue them. Raises ConfigError for what is no audio."""
        if not self._params.audio_out_enabled or self._audio.discards(frame):
            return
        for number, chunk in enumerate(self._chunker.add(frame), 1):
            chunk.transport_destination = self._destination
            await self._queue.put(chunk)
            if number % CHUNKS_A_TURN == 0:
                await asyncio.sleep(0)
            if self._audio.discards(frame):
                return
        self._audio.came()

    async def handle_image_frame(self, frame: OutputImageRawFrame | SpriteFrame) -> None:
        """Show an image now, or behind the audio before it with `sync_with_audio`."""
        if not self._params.video_out_enabled:
            return
        if isinstance(frame, OutputImageRawFrame) and frame.sync_with_audio:
            await self.handle_sync_frame(frame)
        else:
            self._video.show(frame)

    async def handle_timed_frame(self, frame: Frame) -> None:
        """Push a frame downstream at its presentation time."""
        await self._timed.put(frame)

    async def handle_sync_frame(self, frame: Frame) -> None:
        """Handle a frame behind the audio before it."""
        if self._audio.discards(frame):
            return
        if self._audio.playout is not None:
            # All audio that came is before it, not only whole chunks.
            for chunk in self._chunker.cut():
                chunk.transport_destination = self._destination
                self._queue.put_now(chunk)
        await self._queue.put(frame)

    async def handle_tts_stopped(self, frame: TTSStoppedFrame) -> None:
        """An utterance ends: none of its audio waits for more."""
        if not self._audio.discards(frame):
            self._audio.drain()
            await self._queue.put(frame)

    async def handle_mixer_control_frame(self, frame: MixerControlFrame) -> None:
        """Tell the mixer, at once."""
        await self._audio.control_mixer(frame)

    # -- interruption -----------------------------------------------------------------------

    def interrupt(self) -> None:
        """Stop what may be interrupted, at once. `handle_interruptions` tells of it."""
        self._audio.interrupt()
        self._drop()

    async def handle_interruptions(self, frame: InterruptionFrame) -> None:
        """Clean up after an interruption; what is written until it is done is discarded."""
        if not self._audio.cleaning:
            self.interrupt()
        try:
            await self._audio.interrupted()
        finally:
            self._drop()
            self._audio.cleaned()

    def _drop(self) -> None:
        self._queue.drop()
        self._chunker.drop()
        self._timed.drop()
        self._video.drop()

    def __str__(self) -> str:
        return f"{self._transport} [{self._destination or 'default'}]"
