"""The output end of a transport: frames find the sender of their destination.

Subclasses write: `write_audio_frame`, `write_video_frame`, `send_message`. One whose writes of
audio return ahead of real time offers a `playout` as well, so that nothing overtakes the audio.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from engine.transports.base import dtmf
from engine.transports.base.params import BotCapabilities, TransportParams
from engine.transports.base.sender import MediaSender as Sender
from engine.transports.base.urgent_keys import UrgentKeys
from engine.transports.frames import (
    AssistantImageRawFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    MixerControlFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
    OutputDTMFUrgentFrame,
    OutputImageRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    OutputTransportReadyFrame,
    SpriteFrame,
    StartFrame,
    StopFrame,
    SystemFrame,
    TTSStoppedFrame,
)
from engine.transports.processors import FrameDirection, FrameProcessor, FrameProcessorSetup
from ipc.errors import StateError

if TYPE_CHECKING:
    from engine.transports.base.mixer import BaseAudioMixer
    from engine.transports.base.playout import Playout

log = logging.getLogger(__name__)


class BaseOutputTransport(FrameProcessor):
    """Sends the caller what reaches it: audio, images, messages, keys.

    Audio frames go on downstream once they have been played, all else once the audio before it
    has. A frame for a destination that `params` does not name is logged and dropped.
    """

    MediaSender = Sender

    def __init__(self, params: TransportParams, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._params = params
        self._sample_rate = 0
        self._audio_chunk_size = 0
        self._media_senders: dict[str | None, Sender] = {}
        self._prepared = False
        # Whether a StopFrame has left it set up for another task.
        self._kept = False
        self._urgent_keys = UrgentKeys(self, self.write_dtmf)

    @property
    def sample_rate(self) -> int:
        """Rate of what is written, in Hz; 0 before `setup`."""
        return self._sample_rate

    @property
    def audio_chunk_size(self) -> int:
        """Bytes of a write; 0 before `setup`."""
        return self._audio_chunk_size

    @property
    def capabilities(self) -> BotCapabilities:
        """Which media it sends."""
        params = self._params
        return BotCapabilities(
            audio_out=params.audio_out_enabled, video_out=params.video_out_enabled
        )

    # -- life -------------------------------------------------------------------------------

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Take the rates. Raises StateError(`set_up`) when that was done and not cleaned up.

        After a StopFrame another task takes it over as it is.
        """
        if self._prepared and not self._kept:
            raise StateError(f"{self} is set up already", code="set_up")
        self._prepared = True
        await super().setup(setup)
        if self._kept:
            self._kept = False
            return
        params = self._params
        self._sample_rate = params.audio_out_sample_rate or setup.audio_out_sample_rate
        samples = self._sample_rate // 100 * params.audio_out_10ms_chunks
        self._audio_chunk_size = 2 * samples * params.audio_out_channels
        if params.audio_out_filter is not None:
            await params.audio_out_filter.start(self._sample_rate)

    async def cleanup(self) -> None:
        """End the senders and stop the filter. Safe to call twice."""
        await super().cleanup()
        await self._urgent_keys.end()
        for sender in self._media_senders.values():
            await sender.cleanup()
        self._media_senders.clear()
        if self._prepared and self._params.audio_out_filter is not None:
            await self._params.audio_out_filter.stop()
        self._prepared = self._kept = False

    async def start(self, frame: StartFrame) -> None:
        """The pipeline starts. Subclasses call `set_transport_ready` here."""

    async def stop(self, frame: EndFrame) -> None:
        """Send what is queued and the final silence; returns when it has left."""
        await asyncio.gather(*(sender.stop(frame) for sender in self._media_senders.values()))

    async def cancel(self, frame: CancelFrame) -> None:
        """Drop what is queued and end."""
        for sender in list(self._media_senders.values()):
            await sender.cancel(frame)

    async def set_transport_ready(self, frame: StartFrame) -> None:
        """The transport can send from now on. A second call changes nothing."""
        if self._media_senders:
            return
        params = self._params
        for destination in dict.fromkeys(params.audio_out_destinations):
            await self.register_audio_destination(destination)
        for destination in dict.fromkeys(params.video_out_destinations):
            await self.register_video_destination(destination)
        names = [None, *params.audio_out_destinations, *params.video_out_destinations]
        for name in dict.fromkeys(names):
            self._media_senders[name] = Sender(
                self,
                destination=name,
                sample_rate=self.sample_rate,
                audio_chunk_size=self.audio_chunk_size,
                params=params,
            )
            await self._media_senders[name].start(frame)
        await self.push_frame(OutputTransportReadyFrame(), FrameDirection.UPSTREAM)

    # -- what subclasses implement ----------------------------------------------------------

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Send audio; whether it was taken. Returns when there is room for more.

        Without a `playout` that is about when the frame has been played.
        """
        return False

    async def write_video_frame(self, frame: OutputImageRawFrame) -> bool:
        """Send an image; whether it was taken."""
        return False

    async def write_transport_frame(self, frame: Frame) -> None:
        """A frame of the transport's own kind, behind the audio before it."""

    async def send_message(
        self, frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame
    ) -> None:
        """Send an app message."""

    async def register_audio_destination(self, destination: str) -> None:
        """An audio destination is about to be used."""

    async def register_video_destination(self, destination: str) -> None:
        """A video destination is about to be used."""

    def playout(self, destination: str | None) -> Playout | None:
        """What tells when a destination's audio has left; None: what is written is played."""
        return None

    async def take_mixer(self, mixer: BaseAudioMixer, destination: str | None) -> bool:
        """Whether the transport has the background played elsewhere, such as in a worker.

        Called at the start and after each change of a mixer that was taken. Where it is not,
        the mixer runs here, and writes may lead by at most 100 ms.
        """
        return False

    # -- keys -------------------------------------------------------------------------------

    async def write_dtmf(self, frame: OutputDTMFFrame | OutputDTMFUrgentFrame) -> None:
        """Press keys: by the transport's own means, else as their tones."""
        if self._supports_native_dtmf():
            await self._write_dtmf_native(frame)
        else:
            await self._write_dtmf_audio(frame)

    def _supports_native_dtmf(self) -> bool:
        """Whether the transport can press keys other than by tones."""
        return False

    async def _write_dtmf_native(self, frame: OutputDTMFFrame | OutputDTMFUrgentFrame) -> None:
        """Press keys by the transport's own means, for those that have any."""
        raise NotImplementedError("a transport with keys of its own must press them")

    async def _write_dtmf_audio(self, frame: OutputDTMFFrame | OutputDTMFUrgentFrame) -> None:
        channels = self._params.audio_out_channels
        for key in frame.buttons or ():
            audio = OutputAudioRawFrame(
                dtmf.tone(key, self._sample_rate, channels), self._sample_rate, channels
            )
            audio.transport_destination = frame.transport_destination
            await self.write_audio_frame(audio)

    async def _press_now(self, frame: OutputDTMFUrgentFrame) -> None:
        if self._supports_native_dtmf():
            await self.write_dtmf(frame)
        else:
            self._urgent_keys.add(frame)

    # -- frames -----------------------------------------------------------------------------

    async def send_audio(self, frame: OutputAudioRawFrame) -> None:
        """Send audio as if it had come through the pipeline."""
        await self.queue_frame(frame, FrameDirection.DOWNSTREAM)

    async def send_image(self, frame: OutputImageRawFrame | SpriteFrame) -> None:
        """Show an image as if it had come through the pipeline."""
        await self.queue_frame(frame, FrameDirection.DOWNSTREAM)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Send, or pass on."""
        if isinstance(frame, InterruptionFrame) and (sender := self._sender_of(frame)):
            # Before anything is awaited: from here on nothing old leaves.
            sender.interrupt()
        await super().process_frame(frame, direction)
        if isinstance(frame, StartFrame):
            # On first: every processor handles the start before anything else.
            await self.push_frame(frame, direction)
            await self.start(frame)
        elif isinstance(frame, EndFrame):
            await self.stop(frame)
            await self.push_frame(frame, direction)
        elif isinstance(frame, CancelFrame):
            await self.cancel(frame)
            await self.push_frame(frame, direction)
        elif isinstance(frame, InterruptionFrame):
            await self.push_frame(frame, direction)
            await self._handle_frame(frame)
        elif isinstance(frame, OutputTransportMessageUrgentFrame):
            await self.send_message(frame)
        elif isinstance(frame, OutputDTMFUrgentFrame):
            await self._press_now(frame)
        elif isinstance(frame, SystemFrame) or direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
        else:
            self._kept = self._kept or isinstance(frame, StopFrame)
            await self._handle_frame(frame)

    def _sender_of(self, frame: Frame) -> Sender | None:
        return self._media_senders.get(frame.transport_destination)

    async def _handle_frame(self, frame: Frame) -> None:
        """To the sender of its destination."""
        sender = self._sender_of(frame)
        if sender is None:
            log.warning(
                "%s: %s is for %s, which is no destination",
                self,
                frame,
                frame.transport_destination,
            )
        elif isinstance(frame, InterruptionFrame):
            await sender.handle_interruptions(frame)
        elif isinstance(frame, OutputAudioRawFrame):
            await sender.handle_audio_frame(frame)
        elif isinstance(frame, OutputImageRawFrame | SpriteFrame):
            await sender.handle_image_frame(frame)
            if isinstance(frame, AssistantImageRawFrame) and not frame.sync_with_audio:
                await sender.handle_sync_frame(frame)
        elif isinstance(frame, MixerControlFrame):
            await sender.handle_mixer_control_frame(frame)
        elif isinstance(frame, TTSStoppedFrame):
            await sender.handle_tts_stopped(frame)
        elif frame.pts:
            await sender.handle_timed_frame(frame)
        else:
            await sender.handle_sync_frame(frame)
