"""The input end of the transport: what the server says and sends enters the pipeline."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from engine.transports.base import BaseInputTransport
from engine.transports.frames import Frame, InputAudioRawFrame, InputTransportMessageFrame
from ipc.errors import BackbeatError

if TYPE_CHECKING:
    from engine.transports.base import BaseTransport
    from engine.transports.frames import CancelFrame, EndFrame, StartFrame
    from engine.transports.processors import FrameProcessorSetup
    from engine.transports.websocket.params import WebsocketClientParams
    from engine.transports.websocket.session import WebsocketClientSession

log = logging.getLogger(__name__)


class WebsocketClientInputTransport(BaseInputTransport):
    """Audio, messages and whatever else a server's format has frames for.

    Without `audio_in_enabled` audio goes downstream as it comes, past filter and queue.
    """

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
        self._started = asyncio.Event()
        self._over = False
        self._reader: asyncio.Task[None] | None = None

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Connect."""
        await super().setup(setup)
        await self._session.prepare(setup)
        if not self._attached:  # after a StopFrame it still is
            await self._session.connect()
            self._attached = True

    async def cleanup(self) -> None:
        """Let go of the connection. Safe to call twice."""
        await self._let_go()
        await super().cleanup()

    async def start(self, frame: StartFrame) -> None:
        """Pass on what the server says, from its first word."""
        await super().start(frame)
        try:
            await self._session.open_media()
        except BackbeatError as error:
            await self.push_error(f"there is no audio: {error.message}", error)
        await self.set_transport_ready(frame)
        self._over = False
        self._started.set()
        if self._reader is None:
            self._reader = self.create_task(self._read_audio(), "server's audio")

    async def stop(self, frame: EndFrame) -> None:
        """End; the output's end is the connection's."""
        await super().stop(frame)
        await self._let_go()

    async def cancel(self, frame: CancelFrame) -> None:
        """End at once."""
        await super().cancel(frame)
        await self._let_go()

    async def _let_go(self) -> None:
        self._over = True
        self._started.set()  # whatever waits for it is dropped
        reader, self._reader = self._reader, None
        if reader is not None:
            await self.cancel_task(reader)
        if self._attached:
            self._attached = False
            await self._session.disconnect()

    async def _read_audio(self) -> None:
        async for frame in self._session.read_audio_frame():
            await self._pass_on(frame)

    async def on_message(self, websocket: Any, message: str | bytes) -> None:
        """What the server sent, other than audio that a worker takes; waits for the start."""
        if not self._prepared:  # it is part of no pipeline
            return
        await self._started.wait()
        frame = None if self._over else await self._session.frame_of(message)
        if isinstance(frame, Frame) and not self._over:
            await self._pass_on(frame)

    async def _pass_on(self, frame: Frame) -> None:
        if isinstance(frame, InputAudioRawFrame) and self._params.audio_in_enabled:
            await self.push_audio_frame(frame)
        elif isinstance(frame, InputTransportMessageFrame):
            await self.broadcast_frame(InputTransportMessageFrame, message=frame.message)
        elif not (self._paused and isinstance(frame, InputAudioRawFrame)):
            await self.push_frame(frame)
