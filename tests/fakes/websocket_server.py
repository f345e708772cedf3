"""A real WebSocket server on the loopback, as the far end of a bot that dials."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from ipc.clock import MonotonicClock
from ipc.frames import InputAudioRawFrame, OutputAudioRawFrame
from ipc.serializers import ProtobufFrameSerializer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from ipc.frames import Frame

Handler = "Callable[[FarServer, ServerConnection], Awaitable[None]]"


class FarServer:
    """Keeps all that it is sent, with its time. `handler` may do something of its own first."""

    def __init__(
        self,
        handler: Callable[[FarServer, ServerConnection], Awaitable[None]] | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
        **options: Any,
    ) -> None:
        self.connections: list[ServerConnection] = []
        self.messages: list[str | bytes] = []
        self.times_ns: list[int] = []
        self.closed: list[tuple[int | None, str | None]] = []
        self._handler = handler
        self._tls = tls
        self._port = port
        self._options = options
        self._server: Server | None = None
        self._kept: socket.socket | None = None
        self._clock = MonotonicClock()
        self._serializer = ProtobufFrameSerializer()

    @property
    def uri(self) -> str:
        """Where it listens."""
        scheme = "wss" if self._tls is not None else "ws"
        return f"{scheme}://localhost:{self.port}/bot"

    @property
    def port(self) -> int:
        """Its TCP port."""
        return self._port

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        """Listen, on the same port as before."""
        self._let_go()
        self._server = await serve(
            self._serve, "127.0.0.1", self._port, ssl=self._tls, **self._options
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Close all connections (1001) and listen no more; nobody else gets the port."""
        await self._end()
        if self._kept is None:
            self._kept = socket.socket()
            self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._kept.bind(("127.0.0.1", self._port))

    async def __aexit__(self, *_: object) -> None:
        self._let_go()
        await self._end()

    async def _end(self) -> None:
        if self._server is not None:
            if self._handler is deaf:  # one that does not read sees no end either
                for connection in self.connections:
                    connection.transport.abort()
            self._server.close()
            await self._server.wait_closed()

    def _let_go(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    async def _serve(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        with contextlib.suppress(ConnectionClosed):
            if self._handler is not None:
                await self._handler(self, connection)
            await self.hear(connection)
        await connection.wait_closed()
        self.closed.append((connection.close_code, connection.close_reason))

    async def hear(self, connection: ServerConnection) -> None:
        """Take what comes, until it ends."""
        async for message in connection:
            self.times_ns.append(self._clock.now_ns())
            self.messages.append(message)

    async def say(self, frame: Frame) -> None:
        """Send a frame to the newest connection."""
        data = self._serializer.encode(frame)
        assert data is not None
        await self.connections[-1].send(data)

    async def speak(self, pcm: bytes, hz: int, channels: int = 1) -> None:
        """Send audio to the newest connection."""
        await self.say(OutputAudioRawFrame(pcm, hz, channels))

    def frames(self) -> list[Frame | None]:
        """What it was sent, as frames."""
        return [self._serializer.decode(message) for message in self.messages]

    def audio(self) -> list[InputAudioRawFrame]:
        """The audio that it was sent."""
        return [frame for frame in self.frames() if isinstance(frame, InputAudioRawFrame)]

    def pcm(self) -> bytes:
        """All samples that it was sent."""
        return b"".join(frame.audio for frame in self.audio())


async def deaf(_server: FarServer, connection: ServerConnection) -> None:
    """A handler that reads nothing."""
    connection.transport.pause_reading()
    await connection.wait_closed()
