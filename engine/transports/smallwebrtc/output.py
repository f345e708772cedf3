"""The output end of the transport: what the bot says leaves for the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.transports.base import BaseOutputTransport
from engine.transports.smallwebrtc.attachment import Attachment
from ipc.errors import BackbeatError

if TYPE_CHECKING:
    from engine.transports.base import BaseAudioMixer, Playout, TransportParams
    from engine.transports.frames import (
        CancelFrame,
        EndFrame,
        OutputAudioRawFrame,
        OutputImageRawFrame,
        OutputTransportMessageFrame,
        OutputTransportMessageUrgentFrame,
        StartFrame,
    )
    from engine.transports.processors import FrameProcessorSetup
    from engine.transports.smallwebrtc.client import SmallWebRTCClient


class SmallWebRTCOutputTransport(BaseOutputTransport):
    """Audio and messages toward one caller, each in its place; see `BaseOutputTransport`."""

    def __init__(self, client: SmallWebRTCClient, params: TransportParams, **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        self._client = client
        self._attachment = Attachment(client)

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Connect."""
        await super().setup(setup)
        await self._client.setup(self._params, setup)
        await self._attachment.take()  # after a StopFrame it still is

    async def cleanup(self) -> None:
        """Let go of the caller. Safe to call twice."""
        await super().cleanup()
        await self._attachment.let_go()

    async def start(self, frame: StartFrame) -> None:
        """Take frames."""
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def stop(self, frame: EndFrame) -> None:
        """Send what is queued, wait until it has left, and end the call."""
        await super().stop(frame)
        await self._attachment.let_go()

    async def cancel(self, frame: CancelFrame) -> None:
        """End the call at once."""
        await super().cancel(frame)
        await self._attachment.let_go()

    def playout(self, destination: str | None) -> Playout | None:
        """The session's speaker ring, or a destination's part of it."""
        return self._client.playout(destination)

    async def take_mixer(self, mixer: BaseAudioMixer, destination: str | None) -> bool:
        """The worker plays the sound of a file, if it can read it; another mixer mixes here."""
        try:
            return await self._client.take_mixer(mixer, destination)
        except BackbeatError as error:
            await self.push_error(f"the background is not heard: {error.message}", error)
            return True

    async def send_message(
        self, frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame
    ) -> None:
        """Send an app message. Raises ProtocolError for what JSON cannot hold."""
        await self._client.send_message(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Send audio; see `SmallWebRTCClient.write_audio_frame`."""
        return await self._client.write_audio_frame(frame)

    async def write_video_frame(self, frame: OutputImageRawFrame) -> bool:
        """Send an image; see `SmallWebRTCClient.write_video_frame`."""
        return await self._client.write_video_frame(frame)
