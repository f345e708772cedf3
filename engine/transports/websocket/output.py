"""The output end of the transport: what the bot says leaves for the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.transports.base import BaseOutputTransport
from engine.transports.frames import InterruptionFrame
from ipc.errors import BackbeatError

if TYPE_CHECKING:
    from engine.transports.base import BaseAudioMixer, BaseTransport, Playout
    from engine.transports.frames import (
        CancelFrame,
        EndFrame,
        Frame,
        OutputAudioRawFrame,
        OutputTransportMessageFrame,
        OutputTransportMessageUrgentFrame,
        StartFrame,
    )
    from engine.transports.processors import FrameDirection, FrameProcessorSetup
    from engine.transports.websocket.params import WebsocketClientParams
    from engine.transports.websocket.session import WebsocketClientSession


class WebsocketClientOutputTransport(BaseOutputTransport):
    """Audio and messages toward a server, each in its place; see `BaseOutputTransport`."""

    def __init__(
        self,
        transport: BaseTransport,
        session: WebsocketClientSession,
        params: WebsocketClientParams,
        **kwargs: Any,
    ) -> None:
        super().__init__(params, **kwargs)
        self._transport = transport
        self._session = session
        self._attached = False

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Connect."""
        await super().setup(setup)
        await self._session.prepare(setup)
        if not self._attached:  # after a StopFrame it still is
            await self._session.connect()
            self._attached = True

    async def cleanup(self) -> None:
        """Let go of the connection. Safe to call twice."""
        await super().cleanup()
        await self._let_go()

    async def start(self, frame: StartFrame) -> None:
        """Take frames."""
        await super().start(frame)
        try:
            await self._session.open_media()
        except BackbeatError as error:
            await self.push_error(f"no audio can be sent: {error.message}", error)
        await self.set_transport_ready(frame)

    async def stop(self, frame: EndFrame) -> None:
        """Send what is queued, wait until it has left, and end the connection."""
        await super().stop(frame)
        await self._let_go()

    async def cancel(self, frame: CancelFrame) -> None:
        """End the connection at once."""
        await super().cancel(frame)
        await self._let_go()

    async def _let_go(self) -> None:
        if self._attached:
            self._attached = False
            await self._session.disconnect()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Send, or pass on."""
        if isinstance(frame, InterruptionFrame):
            self._session.interrupted()
        await super().process_frame(frame, direction)

    def playout(self, destination: str | None) -> Playout | None:
        """The session's speaker ring or stream of messages, or a destination's part of it."""
        return self._session.playout(destination)

    async def take_mixer(self, mixer: BaseAudioMixer, destination: str | None) -> bool:
        """The worker plays the sound of a file, if it can read it; another mixer mixes here."""
        try:
            return await self._session.take_mixer(mixer, destination)
        except BackbeatError as error:
            await self.push_error(f"the background is not heard: {error.message}", error)
            return True

    async def send_message(
        self, frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame
    ) -> None:
        """Send an app message in the server's format. ProtocolError for what it cannot hold."""
        await self._session.send_message(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Send audio; see `WebsocketClientSession.write_audio_frame`."""
        return await self._session.write_audio_frame(frame)
