"""What the two ends of a transport to a WebSocket server do, whichever framework's pipeline it is.

Mixins, as those of `engine.transports.base.client_end`; the client is a `WebsocketClientSession`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from engine.transports import frames
from engine.transports.base.client_end import ClientEnd, InputEnd, OutputEnd
from ipc.errors import BackbeatError


class ServerEnd(ClientEnd):
    """One end, whose audio flows from the start on."""

    def __init__(self, transport: Any, session: Any, params: Any, **kwargs: Any) -> None:
        super().__init__(session, params, **kwargs)
        self._transport = transport

    async def _open(self) -> None:
        try:
            await self._client.open_media()
        except BackbeatError as error:
            await self.push_error(f"there is no audio: {error.message}", error)


class ServerInput(ServerEnd, InputEnd):
    """Audio, messages and whatever else a server's format has frames for.

    Without `audio_in_enabled` audio goes downstream as it comes, past filter and queue.
    """

    def __init__(self, transport: Any, session: Any, params: Any, **kwargs: Any) -> None:
        super().__init__(transport, session, params, **kwargs)
        # Whether it is part of a pipeline, which has started, and is over.
        self._is_used = self._over = False
        self._started = asyncio.Event()

    async def _prepare(self, setup: Any) -> None:
        self._is_used = True
        await super()._prepare(setup)

    async def start(self, frame: Any) -> None:
        """Pass on what the server says, from its first word."""
        await super().start(frame)
        self._over = False
        self._started.set()

    async def _let_go(self) -> None:
        self._over = True
        self._started.set()  # whatever waits for it is dropped
        await super()._let_go()

    def _read(self) -> None:
        if self._reader is None:
            self._reader = self.create_task(self._read_audio(), "server's audio")

    async def _read_audio(self) -> None:
        async for frame in self._client.read_audio_frame():
            await self._pass_on(frame)

    async def on_message(self, websocket: Any, message: str | bytes) -> None:
        """What the server sent, other than audio that a worker takes; waits for the start."""
        if not self._is_used:
            return
        await self._started.wait()
        frame = None if self._over else await self._client.frame_of(message)
        if isinstance(frame, self.frames.Frame) and not self._over:
            await self._pass_on(frame)

    async def _pass_on(self, frame: Any) -> None:
        is_audio = isinstance(frame, self.frames.InputAudioRawFrame)
        if is_audio and self._params.audio_in_enabled:
            await self.push_audio_frame(frame)
        elif isinstance(frame, self.frames.InputTransportMessageFrame):
            await self.push_app_message(frame.message)
        elif not (is_audio and self._paused):
            await self.push_frame(frame)


class ServerOutput(ServerEnd, OutputEnd):
    """Audio and messages toward a server, at the pace of a worker."""

    # The module of the frames that it looks for.
    frames: Any = frames

    async def process_frame(self, frame: Any, direction: Any) -> None:
        """Send, or pass on."""
        if isinstance(frame, self.frames.InterruptionFrame):
            self._client.interrupted()
        await super().process_frame(frame, direction)
