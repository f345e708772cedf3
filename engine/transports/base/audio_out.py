"""The audio task of one destination: filter, scale, mix, write, and hold what must follow.

What follows audio is held until the playout has passed it. Without a playout the write itself
takes the time, and written is played.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from engine.transports.base.chunks import scaled
from engine.transports.base.held import Held
from engine.transports.base.mixer import SoundfileMixer
from engine.transports.base.speaking import Speaking
from engine.transports.frames import (
    EndFrame,
    FilterControlFrame,
    Frame,
    MixerControlFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
    OutputImageRawFrame,
    OutputTransportMessageFrame,
    TTSStoppedFrame,
    VolumeFrame,
    VolumeGainFrame,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.transports.base.chunks import Chunker
    from engine.transports.base.frame_queue import FrameQueue
    from engine.transports.base.mixer import BaseAudioMixer
    from engine.transports.base.output import BaseOutputTransport
    from engine.transports.base.params import TransportParams
    from engine.transports.base.playout import Playout

log = logging.getLogger(__name__)

# How far a mixer of the user's may run ahead: what speech waits for at most when it begins.
MIX_LEAD_S = 0.1
# The rest of a sound follows when nothing came for so long and less than that is unsent; how
# often that is looked at.
QUIET_S, UNSENT_S, LOOK_S = 0.08, 0.1, 0.02


class AudioOut:
    """Takes frames from `queue` in order, and from `chunker` the rest that nothing follows."""

    def __init__(
        self,
        transport: BaseOutputTransport,
        destination: str | None,
        *,
        sample_rate: int,
        chunk_bytes: int,
        params: TransportParams,
        queue: FrameQueue,
        chunker: Chunker,
        show: Callable[[OutputImageRawFrame], None],
    ) -> None:
        self._transport = transport
        self._destination = destination
        self._hz = sample_rate
        self._chunk_bytes = chunk_bytes
        self._params = params
        self._queue = queue
        self._chunker = chunker
        self._show = show
        self.playout: Playout | None = None
        self.held: Held | None = None
        self.speaking = Speaking(transport.push_frame, destination)
        self._audible = params.sends_audio_to(destination)
        self._filter = params.audio_out_filter if destination is None else None
        # The mixer that mixes here, and the one that somebody else plays.
        self._mixer: BaseAudioMixer | None = None
        self._declared: BaseAudioMixer | None = None
        self._mixer_fails = False
        self._volume = params.audio_out_volume
        self._gain = 1.0
        # How often there was an interruption, and whether one is being cleaned up after.
        self._interruptions = 0
        self.cleaning = False
        # The frame that is being sent.
        self._current: Frame | None = None
        # When audio came last, and up to when the mixer has mixed.
        self._came_at = 0.0
        self._due = 0.0

    # -- the mixer --------------------------------------------------------------------------

    async def start(self) -> None:
        """Find the playout, start the mixer."""
        self.playout = self._transport.playout(self._destination)
        if self.playout is not None:
            self.held = Held(self.playout)
        mixer = self._params.mixer_of(self._destination)
        if mixer is None or not self._audible:
            return
        if await self._transport.take_mixer(mixer, self._destination):
            self._declared = mixer
            return
        if isinstance(mixer, SoundfileMixer):
            mixer.channels = self._params.audio_out_channels
        try:
            await mixer.start(self._hz)
        except Exception as error:
            await self._transport.push_error(f"the mixer cannot start: {error}", exception=error)
            return
        self._mixer = mixer

    async def stop(self) -> None:
        """Stop the mixer."""
        mixer, self._mixer = self._mixer, None
        if mixer is not None:
            await mixer.stop()

    async def control_mixer(self, frame: MixerControlFrame) -> None:
        """Tell the mixer, and whoever plays it instead."""
        mixer = self._mixer or self._declared
        if mixer is not None:
            await mixer.process_frame(frame)
            if mixer is self._declared:
                await self._transport.take_mixer(mixer, self._destination)

    # -- interruption -----------------------------------------------------------------------

    def interrupt(self) -> None:
        """Stop what may be interrupted, at once; until `cleaned` such audio is discarded."""
        self.cleaning = True
        self._interruptions += 1
        # The background goes on now, not where the lead that is flushed would have ended.
        self._due = 0.0
        if self.playout is not None:
            self.playout.flush()
        if self.held is not None:
            self.held.drop()

    async def interrupted(self) -> None:
        """Say that the bot stopped, unless something survived that it says."""
        current = self._current
        survives = isinstance(current, OutputAudioRawFrame) and not current.interruptible
        if self.held is not None:
            await self.held.wait_past()
            survives = survives or self.held.has_lasting_audio
        if not (survives or self._queue.has_audio or self._chunker.lasting):
            await self.speaking.stop()

    def cleaned(self) -> None:
        """Audio is taken again."""
        self.cleaning = False

    def discards(self, frame: Frame) -> bool:
        """Whether a frame comes while an interruption is being cleaned up after."""
        return self.cleaning and frame.interruptible

    # -- the task ---------------------------------------------------------------------------

    def came(self) -> None:
        """Audio was added."""
        self._came_at = _now()
        if self._chunker.waiting:
            self._queue.poke()  # so that the rest is not waited for without end

    def drain(self) -> None:
        """Queue what waits to fill a chunk: nothing follows it."""
        for chunk in self._chunker.drain(pad=self.playout is None):
            chunk.transport_destination = self._destination
            self._queue.put_now(chunk)

    async def run(self) -> None:
        """Send until an EndFrame comes; then the final silence, and wait until it has left."""
        while True:
            frame = await self._next()
            if frame is None:
                continue
            if isinstance(frame, EndFrame):
                break
            self._current = frame
            try:
                await self._take(frame)
            except Exception as error:
                await self._failed(frame, error)
            self._current = None
        await self._finish()

    async def _next(self) -> Frame | None:
        """The next frame, or None after something else was done."""
        if self._mixer is None:
            frame = await self._queue.get(self._patience_s())
        else:
            frame = self._queue.get_now()
        if frame is not None:
            return frame
        if self._chunker.waiting and self._tail_is_due():
            self.drain()
            return None
        overdue_s = self.speaking.overdue_s
        if overdue_s is not None and overdue_s <= 0 and (self.held is None or self.held.empty):
            await self.speaking.stop()
        if self._mixer is not None:
            await self._background(self._mixer)
        return None

    def _patience_s(self) -> float | None:
        """How long nothing may come before something is to be done about it."""
        if self._chunker.waiting:
            rest_s = max(0.0, self._came_at + self._tail_after_s() - _now())
            return rest_s if self.playout is None else min(rest_s, LOOK_S)
        overdue_s = self.speaking.overdue_s
        return None if overdue_s is None else max(0.05, overdue_s)

    def _tail_is_due(self) -> bool:
        """Whether what waits to fill a chunk is the end: before a hole would be heard."""
        quiet_s = _now() - self._came_at
        if self.playout is None or quiet_s >= self._tail_after_s():
            return quiet_s >= self._tail_after_s()
        unsent = round(UNSENT_S * self._hz)
        return quiet_s >= QUIET_S and self.playout.has_left(self.playout.written - unsent)

    def _tail_after_s(self) -> float:
        """After how long without more the rest of the audio is its end: all else has left."""
        lead_ms = self._params.audio_out_lead_ms if self.playout is not None else 0
        return (lead_ms + 2 * 10 * self._params.audio_out_10ms_chunks) / 1000

    async def _take(self, frame: Frame) -> None:
        if isinstance(frame, OutputAudioRawFrame):
            await self._play(frame)
            return
        if isinstance(frame, FilterControlFrame):
            if self._filter is not None:
                await self._filter.process_frame(frame)
        elif isinstance(frame, VolumeFrame):
            self._volume = frame.volume
        elif isinstance(frame, VolumeGainFrame):
            self._gain = frame.gain
        elif isinstance(frame, OutputDTMFFrame) and not self._transport._supports_native_dtmf():
            await self._transport.write_dtmf(frame)
        elif isinstance(frame, TTSStoppedFrame) and self.playout is not None:
            self.playout.end()
        if self.held is None or self.playout is None:
            await self._let_go(frame)
        else:
            await self.held.add(
                self.playout.written,
                partial(self._let_go, frame),
                interruptible=frame.interruptible,
            )

    async def _let_go(self, frame: Frame) -> None:
        """The audio before a frame has left: what it asks for happens, and it goes on."""
        try:
            await self._do(frame)
        except Exception as error:
            await self._failed(frame, error)
        else:
            await self._transport.push_frame(frame)

    async def _failed(self, frame: Frame, error: Exception) -> None:
        await self._transport.push_error(f"Could not send {frame}: {error}", error)

    async def _do(self, frame: Frame) -> None:
        if isinstance(frame, OutputTransportMessageFrame):
            await self._transport.send_message(frame)
        elif isinstance(frame, OutputDTMFFrame):
            if self._transport._supports_native_dtmf():
                await self._transport.write_dtmf(frame)
        elif isinstance(frame, OutputImageRawFrame):
            if frame.sync_with_audio:
                self._show(frame)
        elif isinstance(frame, TTSStoppedFrame):
            await self.speaking.utterance_ended()
        elif not isinstance(frame, FilterControlFrame | VolumeFrame | VolumeGainFrame):
            await self._transport.write_transport_frame(frame)

    async def _play(self, frame: OutputAudioRawFrame) -> None:
        interruptions = self._interruptions
        if self._filter is not None:
            frame.audio = await self._filter.filter(frame.audio)
            if not frame.audio:
                return
        if (volume := self._volume * self._gain) != 1.0:
            frame.audio = scaled(frame.audio, volume)
        if self._mixer is not None:
            frame.audio = await self._mixed(self._mixer, frame.audio)
        if frame.interruptible and (self.cleaning or interruptions != self._interruptions):
            return
        await self._write_and_follow(frame)

    async def _mixed(self, mixer: BaseAudioMixer, audio: bytes) -> bytes:
        """Audio with the background in it; without it from a mixer that fails, which is told."""
        try:
            mixed = await mixer.mix(audio)
        except Exception as error:
            if not self._mixer_fails:
                self._mixer_fails = True
                await self._transport.push_error(f"the mixer failed: {error}", error)
            return audio
        self._mixer_fails = False
        return mixed

    async def _background(self, mixer: BaseAudioMixer) -> None:
        """A chunk of the mixer's own."""
        silence = self._silence(self._chunk_bytes)
        try:
            silence.audio = await self._mixed(mixer, silence.audio)
            await self._write_and_follow(silence)
        except Exception:
            log.exception("%s: the background could not be written", self._transport)
            await self._keep_pace(silence)
        # A mixer and a write that never wait must not keep the loop from everything else.
        await asyncio.sleep(0)

    async def _write_and_follow(self, frame: OutputAudioRawFrame) -> None:
        """Write audio; what follows from it happens once it has left."""
        playout, held = self.playout, self.held
        begin = playout.written if playout is not None else 0
        taken = await self._write(frame)
        if self._mixer is not None and (playout is None or not taken):
            await self._keep_pace(frame)
        if not taken:
            return
        if playout is None or held is None:
            await self._left(frame)
            return
        end = playout.written
        if self.speaking.is_speech(frame):
            begins = partial(self._begins, frame)
            await held.add(begin + 1, begins, interruptible=frame.interruptible, audio=True)
        left = partial(self._left, frame)
        await held.add(end, left, interruptible=frame.interruptible, audio=True)

    async def _begins(self, frame: OutputAudioRawFrame) -> None:
        spoke = self.speaking.active
        await self.speaking.begins(frame)
        if self.speaking.active and not spoke:
            self._queue.poke()  # so that its end is looked for

    async def _left(self, frame: OutputAudioRawFrame) -> None:
        await self.speaking.heard(frame)
        await self._transport.push_frame(frame)

    async def _write(self, frame: OutputAudioRawFrame) -> bool:
        """Whether the transport took the frame in time. A peer that reads no more is told once."""
        if not self._transport.is_usable:
            return False
        limit_s = self._params.audio_out_write_timeout_secs
        try:
            async with asyncio.timeout(limit_s) as limit:
                return await self._transport.write_audio_frame(frame)
        except TimeoutError as error:
            if not limit.expired():
                raise
            await self._transport.push_error(
                f"a write of audio did not end in {limit_s} s: the peer has stopped reading",
                exception=error,
                force_treat_as_permanent=True,
            )
            return False

    async def _keep_pace(self, frame: OutputAudioRawFrame) -> None:
        """Real time, where neither the write nor a playout keeps it."""
        now = _now()
        self._due = max(self._due, now) + frame.num_frames / self._hz
        if self._due - now > MIX_LEAD_S:
            await asyncio.sleep(self._due - now - MIX_LEAD_S)

    async def _finish(self) -> None:
        """The final silence, in chunks, and the end of the utterance."""
        rest = 2 * self._params.audio_out_channels * self._hz
        rest *= self._params.audio_out_end_silence_secs if self._audible else 0
        while rest > 0:
            silence = self._silence(min(rest, self._chunk_bytes))
            rest -= len(silence.audio)
            if self._mixer is not None:
                silence.audio = await self._mixed(self._mixer, silence.audio)
            try:
                if not await self._write(silence):
                    break
            except Exception as error:
                await self._failed(silence, error)
                break
        if self.playout is not None:
            self.playout.end()
            await self.playout.wait(self.playout.written)

    def _silence(self, count_bytes: int) -> OutputAudioRawFrame:
        channels = self._params.audio_out_channels
        silence = OutputAudioRawFrame(bytes(count_bytes), self._hz, channels)
        silence.transport_destination = self._destination
        return silence


def _now() -> float:
    return asyncio.get_running_loop().time()
