"""A caller over WebSocket for Pipecat: for our transport, and for Pipecat's own `FastAPI…` one.

The socket is a worker's, which has made audio and messages of what the caller sent. Pipecat's
transport wants messages of a serializer, so they are made again here, with protobuf.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Self

from starlette.datastructures import Headers
from starlette.websockets import WebSocketState

from engine.transports.base.chunks import channelled
from engine.transports.smallwebrtc.connection import SmallWebRTCConnection
from ipc.errors import BackbeatError
from ipc.frames import (
    InputAudioRawFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
)
from ipc.serializers import ProtobufFrameSerializer

if TYPE_CHECKING:
    from engine.sdk import Session
    from ipc.frames import Frame

log = logging.getLogger(__name__)

# What may wait for Pipecat's transport to read it: then the ring holds what else is said.
MAX_WAITING = 64
# How often it looks whether anybody will.
LOOK_S = 1.0
# How long an end waits for what was written: Pipecat's transport leads by two chunks.
PLAYED_S = 1.0
# How long audio waits for a caller who is away: after ten seconds Pipecat would give the transport
# up for good, though the caller may come back within thirty.
ROOM_S = 8.0


class CallerWebsocket:
    """In the place of starlette's `WebSocket`: as much of it as Pipecat and its users ask for.

    `connection` is the caller as our transports know it, `session` the SDK's session beneath.
    """

    def __init__(self, connection: SmallWebRTCConnection) -> None:
        self.connection = connection
        # What the caller's request said stays with the engine, which has judged it.
        self.headers = Headers()
        self._serializer = ProtobufFrameSerializer()
        self._arrived: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_WAITING)
        self._reading: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    def of(cls, session: Session) -> Self:
        """The socket of a caller that an engine has offered to this bot."""
        return cls(SmallWebRTCConnection.of(session))

    @property
    def session(self) -> Session:
        """The session of the bot SDK."""
        return self.connection.session

    @property
    def client_state(self) -> WebSocketState:
        """Whether the call is under way; a caller may be away for a while."""
        over = self._closed or self.session.closed
        return WebSocketState.DISCONNECTED if over else WebSocketState.CONNECTED

    @property
    def application_state(self) -> WebSocketState:
        """The same."""
        return self.client_state

    async def accept(self, *_: Any, **__: Any) -> None:
        """Nothing: a worker has."""

    async def receive(self) -> dict[str, Any]:
        """The next message as ASGI has it, and `websocket.disconnect` at the end."""
        if self._reading is None and not self._closed:
            await self.connection.connect()
            self._reading = asyncio.create_task(self._read(), name="caller")
        data = await self._arrived.get()
        if data is None:
            return {"type": "websocket.disconnect", "code": 1000}
        return {"type": "websocket.receive", "bytes": data}

    async def send_bytes(self, data: bytes) -> None:
        """Play, send or do what a protobuf message holds; what it cannot is logged."""
        try:
            frame = self._serializer.decode(data)
            if isinstance(frame, InputAudioRawFrame):
                await self._play(frame)
            elif isinstance(frame, InputTransportMessageFrame):
                self.connection.send_app_message(frame.message)
            elif isinstance(frame, InterruptionFrame):
                self.session.flush()
        except BackbeatError as error:
            log.warning("%s: not sent: %s", self.session.id, error.message)

    async def send_text(self, data: str) -> None:
        """Nothing that a caller would understand: they speak protobuf. It is logged."""
        log.warning("%s: a text message is not sent: callers speak protobuf", self.session.id)

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """End the call, behind what is still to be heard."""
        if self._closed:
            return
        self._closed = True
        session = self.session
        try:
            session.end_of_speech()
            async with asyncio.timeout(PLAYED_S):
                await session.wait_played()
        except (BackbeatError, TimeoutError):
            log.debug("%s ended while something was still to be heard", session.id)
        await self._end_reading()
        await self.connection.disconnect()

    async def _play(self, frame: InputAudioRawFrame) -> None:
        pcm = channelled(frame, self.session.speaker_channels)
        with contextlib.suppress(TimeoutError):  # nobody is there to hear it
            async with asyncio.timeout(ROOM_S):
                await self.session.play(pcm, hz=frame.sample_rate)

    async def _read(self) -> None:
        """What the caller says and sends, until the end of the call."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read_audio(), name="caller's audio")
                group.create_task(self._read_messages(), name="caller's messages")
        except* BackbeatError as faults:
            log.warning("%s: the caller is heard no more: %s", self.session.id, faults.exceptions)
        await self._put(None)

    async def _read_audio(self) -> None:
        async for heard in self.session.audio():
            await self._say(OutputAudioRawFrame(bytes(heard.pcm), heard.hz, heard.channels))

    async def _read_messages(self) -> None:
        async for message in self.session.messages():
            await self._say(OutputTransportMessageFrame(message=message))

    async def _say(self, frame: Frame) -> None:
        await self._put(self._serializer.encode(frame))

    async def _put(self, data: bytes | None) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._arrived.put(data)
                    return
            if self.session.closed:  # and nobody reads its end
                return

    async def _end_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait((reading,))
