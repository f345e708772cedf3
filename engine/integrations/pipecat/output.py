"""The output end of a transport: what the bot says leaves.

An interruption works when it arrives here, before anything of it is awaited.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pipecat.frames.frames import (
    CancelFrame,
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
from engine.transports.base.urgent_keys import UrgentKeys
from engine.transports.smallwebrtc.attachment import Attachment
from ipc.errors import BackbeatError

if TYPE_CHECKING:
    from pipecat.processors.frame_processor import FrameProcessorSetup

    from engine.integrations.pipecat.client import Client, PipecatClient
    from engine.transports.base import Playout, SoundfileMixer


class OutputTransport(BaseOutputTransport):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """Audio and messages toward one client, each in its place; the input shares the client.

    Audio goes on downstream once it has left, and what follows it waits for that.
    """

    def __init__(self, client: Client, params: Any, **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        self._client = client
        self._attachment = Attachment(client)
        self._media_senders: dict[str | None, Sender] = {}
        # The background that a worker plays.
        self._background: SoundfileMixer | None = None
        self._urgent_keys = UrgentKeys(self, self.write_dtmf)

    # -- life -------------------------------------------------------------------------------

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Connect."""
        await super().setup(setup)
        await self._client.prepare(setup)
        await self._attachment.take()

    async def cleanup(self) -> None:
        """Let go of the client. Safe to call twice."""
        await super().cleanup()
        await self._urgent_keys.end()
        await self._attachment.let_go()

    async def start(self, frame: StartFrame) -> None:
        """Take frames."""
        await super().start(frame)
        await self.set_transport_ready(frame)

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
        await self._attachment.let_go()

    async def cancel(self, frame: CancelFrame) -> None:
        """End the call at once."""
        await super().cancel(frame)
        await self._attachment.let_go()

    # -- what the senders ask ---------------------------------------------------------------

    def playout(self, destination: str | None) -> Playout | None:
        """The session's speaker ring, or a destination's part of it."""
        return self._client.playout(destination)

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
            if not await self._play_background():
                self._background = None

    async def _play_background(self) -> bool:
        """Whether the background is the worker's, even if it cannot play it."""
        assert self._background is not None  # noqa: S101 - whoever calls has looked
        try:
            return await self._client.take_mixer(self._background, None)
        except BackbeatError as error:
            await self.push_error(f"the background is not heard: {error.message}", error)
            return True

    async def control_background(self, frame: MixerControlFrame) -> None:
        """A frame for the mixer of the default destination, when a worker plays it."""
        ours = as_ours(frame)
        if self._background is not None and ours is not None:
            await self._background.process_frame(ours)
            await self._play_background()

    # -- what leaves ------------------------------------------------------------------------

    async def send_message(self, frame: Any) -> None:
        """Send an app message. Raises ProtocolError for what JSON cannot hold."""
        await self._client.send_message(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Send audio; returns when unsent audio is within the lead.

        While the caller is away it holds, up to a second less than a write may take; after that,
        and until the caller is back, it takes a frame's real time and is False. False at once
        while an interruption is being cleaned up after, and when the call is over.
        """
        sender = self._media_senders.get(frame.transport_destination)
        if sender is not None and sender.discards(frame):
            return False
        return await self._client.write_audio_frame(frame)

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

    def __init__(self, client: PipecatClient, params: Any, **kwargs: Any) -> None:
        super().__init__(client, params, **kwargs)
