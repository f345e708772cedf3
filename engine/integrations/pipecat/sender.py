"""One destination's way out: Pipecat's sender, with what follows audio held until it has left.

Pipecat's cuts audio into chunks and keeps the queue, the clock and the images. Here the chunks
lead by as much as the playout allows, so whatever must follow them in order (speaking events,
messages, the audio that goes on to recorders) is held at a cursor of the playout.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

import pipecat.frames.frames
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    FilterControlFrame,
    Frame,
    InterruptionFrame,
    MixerControlFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
    OutputImageRawFrame,
    OutputTransportMessageFrame,
    SpriteFrame,
    StartFrame,
    TTSStoppedFrame,
    VolumeFrame,
    VolumeGainFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_output import BaseOutputTransport

from engine.integrations.pipecat.mixer import SteadyMixer
from engine.integrations.pipecat.resampler import StreamResampler
from engine.transports.base.chunks import channelled
from engine.transports.base.held import Held
from engine.transports.base.speaking import Speaking

if TYPE_CHECKING:
    from engine.integrations.pipecat.output import OutputTransport
    from engine.transports.base import Playout

log = logging.getLogger(__name__)

# What an end waits beyond the audio and the longest write.
END_GRACE_S = 1.0
# How far a mixer may run ahead when nobody takes what it mixes.
MIX_LEAD_S = 0.1
DEFAULT_LEAD_MS = 400


class PipecatSpeaking(Speaking):
    """Whether the bot speaks, in Pipecat's frames."""

    frames = pipecat.frames.frames
    directions = FrameDirection


class Sender(BaseOutputTransport.MediaSender):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """Sends what is queued for one destination of a transport; None is the default one."""

    _transport: OutputTransport
    _audio_runs: deque[tuple[bytearray, bool]]

    def __init__(
        self,
        transport: OutputTransport,
        *,
        destination: str | None,
        sample_rate: int,
        audio_chunk_size: int,
        params: Any,
    ) -> None:
        # The background that a worker plays is none of Pipecat's business.
        mixer = transport.mixer(destination)
        mixers = {destination: SteadyMixer(mixer)} if mixer is not None else {}
        super().__init__(
            transport,
            destination=destination,
            sample_rate=sample_rate,
            audio_chunk_size=audio_chunk_size,
            params=params.model_copy(update={"audio_out_mixer": mixers}),
        )
        self._resampler = StreamResampler(params.audio_out_channels)
        self._playout: Playout | None = transport.playout(destination)
        self._held = Held(self._playout) if self._playout is not None else None
        self._holding: asyncio.Task[None] | None = None
        self._speaking = PipecatSpeaking(transport.push_frame, destination)
        # Interruptions that have come and are not cleaned up after, and how many there were.
        self._interrupting: set[int] = set()
        self._interruptions = self._dequeued_at = 0
        self._dequeued: Frame | None = None
        self._clean = asyncio.Event()
        self._clean.set()
        self._current: Frame | None = None
        # When the rest of the audio counts as its end, and whether a flush may take that rest.
        self._tail: asyncio.TimerHandle | None = None
        self._tail_interruptible = True
        self._due = 0.0

    # -- life -------------------------------------------------------------------------------

    async def start(self, frame: StartFrame) -> None:
        """Begin to send."""
        await super().start(frame)
        if self._held is not None:
            self._holding = self._transport.create_task(self._held.run(), "held")

    async def stop(self, frame: EndFrame) -> None:
        """Send what is queued and the final silence, and wait until all has left.

        At most for as long as that takes in real time and one write more.
        """
        await self._enqueue_flushed_audio_buffer()
        params = self._params
        limit_s = (
            self._queued_s()
            + params.audio_out_end_silence_secs
            + 2 * self._lead_s
            + params.audio_out_write_timeout_secs
            + END_GRACE_S
        )
        try:
            async with asyncio.timeout(limit_s):
                await super().stop(frame)
        except TimeoutError:
            log.error("%s: the end waited %.1f s for audio that did not leave", self, limit_s)
        await self._speaking.stop()
        await self.cleanup()

    async def cancel(self, frame: CancelFrame) -> None:
        """End at once: what is queued is dropped."""
        self._flush()
        await super().cancel(frame)

    async def cleanup(self) -> None:
        """End whatever still runs. Safe to call twice."""
        if self._tail is not None:
            self._tail.cancel()
        holding, self._holding = self._holding, None
        if holding is not None:
            await self._transport.cancel_task(holding)
        await super().cleanup()

    @property
    def _lead_s(self) -> float:
        lead_ms: int = getattr(self._params, "audio_out_lead_ms", DEFAULT_LEAD_MS)
        return lead_ms / 1000

    def _queued_s(self) -> float:
        """How long the audio lasts that waits to be written."""
        if self._audio_task is None:
            return 0.0
        waiting: list[Frame] = list(self._audio_queue._queue)
        audio = [frame for frame in waiting if isinstance(frame, OutputAudioRawFrame)]
        return float(sum(frame.num_frames / frame.sample_rate for frame in audio))

    # -- what comes -------------------------------------------------------------------------

    async def handle_audio_frame(self, frame: OutputAudioRawFrame) -> None:
        """Cut audio into chunks and queue them. Raises ConfigError for what is no audio."""
        if not self._params.audio_out_enabled or self.discards(frame):
            return
        channels = self._params.audio_out_channels
        if frame.num_channels != channels:
            pcm = channelled(frame, channels)
            frame = copy.copy(frame)
            frame.audio, frame.num_channels = pcm, channels
        self._tail_interruptible = frame.interruptible
        await super().handle_audio_frame(frame)
        self._expect_more()

    async def handle_sync_frame(self, frame: Frame) -> None:
        """Handle a frame behind the audio before it."""
        if not self.discards(frame):
            await super().handle_sync_frame(frame)

    async def handle_tts_stopped(self, frame: TTSStoppedFrame) -> None:
        """An utterance ends: none of its audio waits for more."""
        if not self.discards(frame):
            await super().handle_tts_stopped(frame)

    async def handle_mixer_control_frame(self, frame: MixerControlFrame) -> None:
        """Tell the mixer, at once, wherever it runs."""
        await super().handle_mixer_control_frame(frame)
        if self._destination is None and self._mixer is None:
            await self._transport.control_background(frame)

    def _expect_more(self) -> None:
        """A rest of audio that nothing follows is the end of it, once all else has left."""
        if self._tail is not None:
            self._tail.cancel()
            self._tail = None
        if self._audio_runs or self._resampler.holds:
            after_s = self._lead_s + 2 * self._audio_chunk_size / self._bytes_a_second
            self._tail = asyncio.get_running_loop().call_later(after_s, self._flush_tail)

    def _flush_tail(self) -> None:
        self._tail = None
        if self._audio_runs or self._resampler.holds:
            self._transport.create_task(self._enqueue_flushed_audio_buffer(), "rest of audio")

    @property
    def _bytes_a_second(self) -> int:
        return 2 * int(self._params.audio_out_channels) * int(self._sample_rate)

    # -- interruption -----------------------------------------------------------------------

    def interrupt(self, frame: InterruptionFrame) -> None:
        """Stop what may be interrupted, at once; until `cleaned` such audio is discarded."""
        if frame.id not in self._interrupting:
            self._interrupting.add(frame.id)
            self._clean.clear()
            self._interruptions += 1
            self._flush()

    def cleaned(self, frame: InterruptionFrame) -> None:
        """The interruption is over: audio is taken again."""
        self._drop()
        self._interrupting.discard(frame.id)
        if not self._interrupting:
            self._clean.set()

    def discards(self, frame: Frame) -> bool:
        """Whether a frame comes while an interruption is being cleaned up after."""
        return bool(self._interrupting) and bool(frame.interruptible)

    def _flush(self) -> None:
        self._due = 0.0
        if self._playout is not None:
            self._playout.flush()
        if self._held is not None:
            self._held.drop()
        self._drop()

    def _drop(self) -> None:
        if self._audio_task is not None:
            self._audio_queue.reset()
        self._audio_runs = deque(run for run in self._audio_runs if run[1])
        if self._tail_interruptible:
            self._resampler.clear()
        self._clock_queue.reset()

    async def _bot_stopped_speaking(self) -> None:
        """Pipecat's sender finds that the bot is silent: by an interruption, or for 3 s.

        It looks at what is to be written; what was written and has not left counts as well.
        """
        current, held = self._current, self._held
        speaks = isinstance(current, OutputAudioRawFrame) and not current.interruptible
        if held is not None:
            if self._interrupting:
                await held.wait_past()
                speaks = speaks or held.has_lasting_audio
            else:
                speaks = speaks or held.has_audio
        if not speaks:
            await self._speaking.stop()

    # -- the audio task ---------------------------------------------------------------------

    async def _filter_audio(self, frame: Frame) -> None:
        # The first that happens to a frame once it is out of the queue.
        self._dequeued, self._dequeued_at = frame, self._interruptions
        try:
            await super()._filter_audio(frame)
        except Exception:  # or the task would end, and the bot were mute
            log.exception("%s: the filter failed: %s is not sent", self._transport, frame)
            frame.audio = b""

    async def _audio_task_handler(self) -> None:
        """Send until an EndFrame comes; then the final silence, and wait until it has left."""
        async for frame in self._next_frame():
            if isinstance(frame, EndFrame):
                break
            self._current = frame
            try:
                await self._take(frame)
            except Exception:
                log.exception("%s: %s could not be sent", self._transport, frame)
            self._current = None
            if self._mixer is not None:
                # A mixer and a write that never wait must not keep the loop from all else.
                await asyncio.sleep(0)
        await self._finish()

    async def _take(self, frame: Frame) -> None:
        if isinstance(frame, OutputAudioRawFrame):
            if frame.audio:  # not what a filter keeps to itself
                await self._play(frame)
            return
        if isinstance(frame, FilterControlFrame):
            if self._filter is not None:
                await self._filter.process_frame(frame)
        elif isinstance(frame, VolumeFrame):
            self._volume = frame.volume
        elif isinstance(frame, VolumeGainFrame):
            self._volume_gain = frame.gain
        elif isinstance(frame, OutputDTMFFrame) and not self._transport._supports_native_dtmf():
            await self._transport.write_dtmf(frame)
        elif isinstance(frame, TTSStoppedFrame) and self._playout is not None:
            self._playout.end()
        if self._held is None or self._playout is None:
            await self._let_go(frame)
        else:
            await self._held.add(
                self._playout.written,
                partial(self._let_go, frame),
                interruptible=frame.interruptible,
            )

    async def _let_go(self, frame: Frame) -> None:
        """The audio before a frame has left: what it asks for happens, and it goes on."""
        if isinstance(frame, OutputTransportMessageFrame):
            await self._transport.send_message(frame)
        elif isinstance(frame, OutputDTMFFrame):
            if self._transport._supports_native_dtmf():
                await self._transport.write_dtmf(frame)
        elif isinstance(frame, OutputImageRawFrame):
            await self._set_video_image(frame)
        elif isinstance(frame, SpriteFrame):
            await self._set_video_images(frame.images)
        elif isinstance(frame, TTSStoppedFrame):
            await self._speaking.utterance_ended()
        elif not isinstance(frame, FilterControlFrame | VolumeFrame | VolumeGainFrame):
            await self._transport.write_transport_frame(frame)
        await self._transport.push_frame(frame)

    async def _play(self, frame: OutputAudioRawFrame) -> None:
        """Write audio; what follows from it happens once it has left."""
        # A mixer's own chunks were in no queue.
        interrupted = frame is self._dequeued and self._dequeued_at != self._interruptions
        if (interrupted and bool(frame.interruptible)) or self.discards(frame):
            if self._mixer is not None:
                await self._clean.wait()  # or its background would run on unheard
            return
        playout, held = self._playout, self._held
        begin = playout.written if playout is not None else 0
        taken = await self._internal_write_audio_frame(frame)
        if not taken:
            if self._mixer is not None:
                await self._keep_pace(frame)
            return
        if playout is None or held is None:
            await self._left(frame)
            return
        end = playout.written
        if self._speaking.is_speech(frame):
            begins = partial(self._speaking.begins, frame)
            await held.add(begin + 1, begins, interruptible=frame.interruptible, audio=True)
        left = partial(self._left, frame)
        await held.add(end, left, interruptible=frame.interruptible, audio=True)

    async def _left(self, frame: OutputAudioRawFrame) -> None:
        await self._speaking.heard(frame)
        await self._transport.push_frame(frame)

    async def _keep_pace(self, frame: OutputAudioRawFrame) -> None:
        """Real time, where nobody takes what a mixer gives without end."""
        now = asyncio.get_running_loop().time()
        self._due = max(self._due, now) + frame.num_frames / frame.sample_rate
        if self._due - now > MIX_LEAD_S:
            await asyncio.sleep(self._due - now - MIX_LEAD_S)

    async def _finish(self) -> None:
        """The final silence, and the end of the utterance."""
        params = self._params
        # Not where only images go.
        if params.audio_out_enabled and self._destination in (None, *params.audio_out_destinations):
            try:
                await self._send_silence(params.audio_out_end_silence_secs)
            except Exception:
                log.exception("%s: the final silence could not be sent", self._transport)
        if self._playout is not None and self._held is not None:
            self._playout.end()
            await self._playout.wait(self._playout.written)
            await self._held.wait_empty()
