"""The output end of a transport: what the bot says leaves.

An interruption works when it arrives here, before anything of it is awaited.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InterruptionFrame,
    MixerControlFrame,
    OutputAudioRawFrame,
    OutputDTMFUrgentFrame,
    OutputImageRawFrame,
    OutputTransportReadyFrame,
    StartFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_output import BaseOutputTransport

from engine.integrations.pipecat.mixer import as_ours, declared
from engine.integrations.pipecat.params import mixer_of
from engine.integrations.pipecat.sender import Sender
from engine.transports.base.client_end import Client, OutputEnd
from engine.transports.base.urgent_keys import UrgentKeys

if TYPE_CHECKING:
    from engine.transports.base import SoundfileMixer


class OutputTransport(OutputEnd, BaseOutputTransport):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """Audio and messages toward one client, each in its place; the input shares the client.

    Audio goes on downstream once it has left, and what follows it waits for that.
    """

    def __init__(self, client: Client, params: Any, **kwargs: Any) -> None:
        super().__init__(client, params, **kwargs)
        self._media_senders: dict[str | None, Sender] = {}
        # The background that a worker plays.
        self._background: SoundfileMixer | None = None
        self._urgent_keys = UrgentKeys(self, self.write_dtmf)

    # -- life -------------------------------------------------------------------------------

    async def cleanup(self) -> None:
        """Let go of the client. Safe to call twice."""
        await self._urgent_keys.end()
        await super().cleanup()

    async def set_transport_ready(self, frame: StartFrame) -> None:
        """Make the senders, and say so upstream. A second call changes nothing."""
        if self._media_senders:
            return
        params = self._params
        for name in params.audio_out_destinations:
            await self.register_audio_destination(name)
        for name in params.video_out_destinations:
            await self.register_video_destination(name)
        await self._take_background()
        names = [None, *params.audio_out_destinations, *params.video_out_destinations]
        for name in dict.fromkeys(names):
            sender = Sender(
                self,
                destination=name,
                sample_rate=self.sample_rate,
                audio_chunk_size=self.audio_chunk_size,
                params=params,
            )
            self._media_senders[name] = sender
            await sender.start(frame)
        await self.push_frame(OutputTransportReadyFrame(), FrameDirection.UPSTREAM)

    async def stop(self, frame: EndFrame) -> None:
        """Send what is queued, wait until it has left, and end the call."""
        await asyncio.gather(*(sender.stop(frame) for sender in self._media_senders.values()))
        await self._let_go()

    # -- what the senders ask ---------------------------------------------------------------

    def mixer(self, destination: str | None) -> Any:
        """The mixer that runs here for a destination, or None."""
        if destination is None and self._background is not None:
            return None
        return mixer_of(self._params, destination)

    async def _take_background(self) -> None:
        mixer = mixer_of(self._params, None)
        background = declared(mixer) if mixer is not None else None
        if background is not None and self._params.audio_out_enabled:
            self._background = background
            if not await self.take_mixer(background, None):
                self._background = None

    async def control_background(self, frame: MixerControlFrame) -> None:
        """A frame for the mixer of the default destination, when a worker plays it."""
        ours = as_ours(frame)
        if self._background is not None and ours is not None:
            await self._background.process_frame(ours)
            await self.take_mixer(self._background, None)

    # -- what leaves ------------------------------------------------------------------------

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Send audio; returns when unsent audio is within the lead.

        While the caller is away it holds, up to a second less than a write may take; after that,
        and until the caller is back, it takes a frame's real time and is False. False at once
        while an interruption is being cleaned up after, and when the call is over.
        """
        sender = self._media_senders.get(frame.transport_destination)
        if sender is not None and sender.discards(frame):
            return False
        return await super().write_audio_frame(frame)

    async def write_video_frame(self, frame: OutputImageRawFrame) -> bool:
        """Send an image. This engine carries no video yet: False."""
        return False

    # -- frames -----------------------------------------------------------------------------

    async def queue_frame(
        self,
        frame: Frame,
        direction: FrameDirection = FrameDirection.DOWNSTREAM,
        callback: Any = None,
    ) -> None:
        """Queue a frame. An interruption stops the speech here and now."""
        if isinstance(frame, InterruptionFrame) and not self._cancelling:
            self._interrupt(frame)
        await super().queue_frame(frame, direction, callback)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Send, or pass on."""
        if isinstance(frame, InterruptionFrame):
            self._interrupt(frame)
            try:
                await super().process_frame(frame, direction)
            finally:
                sender = self._media_senders.get(frame.transport_destination)
                if sender is not None:
                    sender.cleaned(frame)
        elif isinstance(frame, OutputDTMFUrgentFrame) and not self._supports_native_dtmf():
            await super(BaseOutputTransport, self).process_frame(frame, direction)
            self._urgent_keys.add(frame)
        else:
            await super().process_frame(frame, direction)

    def _interrupt(self, frame: InterruptionFrame) -> None:
        sender = self._media_senders.get(frame.transport_destination)
        if sender is not None:
            sender.interrupt(frame)


class SmallWebRTCOutputTransport(OutputTransport):
    """Audio and messages toward one caller; see `OutputTransport`."""
