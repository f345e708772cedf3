"""The input end of a transport: what the other side says and sends enters the pipeline."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputTransportMessageFrame,
    StartFrame,
    UserImageRequestFrame,
)
from pipecat.transports.base_input import BaseInputTransport

from engine.transports.smallwebrtc.attachment import Attachment
from engine.transports.smallwebrtc.client import SOURCES, check_source

if TYPE_CHECKING:
    import asyncio

    from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup

    from engine.integrations.pipecat.client import Client, PipecatClient

log = logging.getLogger(__name__)

NO_VIDEO = "no video: the caller shows nothing that this engine carries"


class InputTransport(BaseInputTransport):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """Audio and messages of one client, which it shares with the output."""

    def __init__(self, client: Client, params: Any, **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        self._client = client
        self._reader: asyncio.Task[None] | None = None
        self._attachment = Attachment(client)

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Connect."""
        await super().setup(setup)
        await self._client.prepare(setup)
        await self._attachment.take()

    async def cleanup(self) -> None:
        """Let go of the client. Safe to call twice."""
        await super().cleanup()
        await self._let_go()

    async def start(self, frame: StartFrame) -> None:
        """Pass on what is said."""
        await super().start(frame)
        await self.set_transport_ready(frame)
        self._read()

    async def stop(self, frame: EndFrame) -> None:
        """End; the output's end is the call's."""
        await super().stop(frame)
        await self._let_go()

    async def cancel(self, frame: CancelFrame) -> None:
        """End at once."""
        await super().cancel(frame)
        await self._let_go()

    async def _let_go(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await self.cancel_task(reader)
        await self._attachment.let_go()

    def _read(self) -> None:
        if self._reader is None and self._params.audio_in_enabled:
            self._reader = self.create_task(self._read_audio(), "audio of the client")

    async def _read_audio(self) -> None:
        async for frame in self._client.read_audio_frame():
            await self.push_audio_frame(frame)

    async def push_app_message(self, message: Any) -> None:
        """Tell the pipeline, both ways, what the other side has sent."""
        await self.broadcast_frame(InputTransportMessageFrame, message=message)


class SmallWebRTCInputTransport(InputTransport):
    """Audio and messages of one caller. Images of it are asked for in vain, and told so."""

    _client: PipecatClient

    def _supports_video_in_source(self, video_source: str) -> bool:
        return video_source in SOURCES[1:]

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """As every input, and answer requests for images."""
        await super().process_frame(frame, direction)
        if isinstance(frame, UserImageRequestFrame):
            await self.request_participant_image(frame)

    async def request_participant_image(self, frame: UserImageRequestFrame) -> None:
        """Ask for an image of the caller: as there is no video, the answer says so at once."""
        await self._answer_image_requests([frame], NO_VIDEO)

    async def stop_video(self, video_source: str) -> None:
        """The caller shows nothing there any more. ValueError for what is no source."""
        check_source(video_source)

    async def remove_all_video(self) -> None:
        """The caller shows nothing any more."""

    async def capture_participant_media(
        self, source: str = "camera", framerate: int | None = None
    ) -> None:
        """Pass on a source of the caller: "microphone", "camera" or "screenVideo".

        The microphone is passed on anyway where `audio_in_enabled`; video is not carried yet,
        which is logged. Raises ValueError for another source.
        """
        if source == SOURCES[0]:
            if self._attachment.held:
                self._read()
            return
        check_source(source)
        log.warning("%s: %s is not captured: %s", self, source, NO_VIDEO)
