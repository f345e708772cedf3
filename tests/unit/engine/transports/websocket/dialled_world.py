"""A documented WebSocket session on a server that the test plays: no engine, no socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from engine.sdk.websocket import WebsocketSession
from engine.transports.home import Home
from engine.transports.processors import FrameProcessorSetup, SystemClock, TaskManager
from engine.transports.websocket import session as session_module
from engine.transports.websocket.client import (
    WebsocketClientCallbacks,
    WebsocketClientParams,
    WebsocketClientSession,
)
from ipc.errors import StateError
from ipc.media_stream import Kind, StreamFrame, unpack
from ipc.messages import CloseSession, Message, Ok, OpenMedia, SendRaw
from ipc.serializers import ProtobufFrameSerializer
from tests.support import DEADLINE_S
from tests.unit.engine.sdk.test_session import MemoryMedia

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from ipc.media_stream import StreamLink
    from ipc.messages import OfferSession

URI = "ws://far:8765/"
CALLBACKS = (
    "on_connected",
    "on_disconnected",
    "on_message",
    "on_reconnecting",
    "on_reconnected",
)


class FakeStream:
    """The worker's end of a stream of messages."""

    def __init__(self) -> None:
        self.frames: list[StreamFrame] = []
        self.tell: Callable[[StreamFrame], None] = lambda _frame: None
        self.sent = 0

    def watch_messages(self, _number: int, on_frame: Callable[[StreamFrame], None]) -> None:
        self.tell = on_frame

    def detach(self, _number: int) -> None:
        pass

    def send(self, frame: bytes) -> bool:
        found = unpack(frame)
        assert found is not None
        self.frames.append(found)
        if found.kind == Kind.FLUSH:
            self._say(Kind.FLUSHED, self.sent, found.cursor)
        return True

    def of(self, kind: Kind) -> list[StreamFrame]:
        return [frame for frame in self.frames if frame.kind == kind]

    def plays(self) -> None:
        """All that is queued leaves."""
        last = self.of(Kind.MESSAGE)[-1]
        self.sent = last.cursor + last.arg
        self._say(Kind.ANCHOR, self.sent, 0)

    def _say(self, kind: Kind, cursor: int, arg: int) -> None:
        frame = StreamFrame(kind, 1, cursor, 0, arg, memoryview(b""))
        asyncio.get_running_loop().call_soon(self.tell, frame)


class Line:
    """The way to an engine that does what it is asked."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: list[Message] = []
        self.notified: list[Message] = []
        self.session: WebsocketSession | None = None

    async def request(self, message: Message, *, timeout_s: float) -> Message:
        self.asked.append(message)
        session = self.session
        assert session is not None
        if isinstance(message, SendRaw) and not self.world.takes:
            raise StateError("no connection", code="not_connected")
        if isinstance(message, CloseSession):
            session.ended(message.reason)
        if isinstance(message, OpenMedia) and message.messages:
            offer: Any = type("Offer", (), {"stream": 1, "token": "t"})
            session.attach_messages(
                cast("OfferSession", offer), cast("StreamLink", self.world.stream)
            )
        elif isinstance(message, OpenMedia):
            session.attach(self.world.media)
        return Ok()

    def notify(self, message: Message) -> bool:
        self.notified.append(message)
        return True


class World:
    """`Home`, bot and engine; `session` is what was dialled last."""

    def __init__(self) -> None:
        self.dials: list[dict[str, Any]] = []
        self.fails: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.takes = True
        self.homes = 0
        self.sessions: list[WebsocketSession] = []
        self.stream = FakeStream()
        self.media = MemoryMedia(1000)
        self.told: list[tuple[Any, ...]] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def acquire() -> World:
            self.homes += 1
            return self

        monkeypatch.setattr(Home, "acquire", acquire)
        # What a test has come back comes in time, however long the machine stands still.
        monkeypatch.setattr(session_module, "ANSWER_S", 2 * DEADLINE_S)

    # A home.

    async def bot(self) -> World:
        return self

    def release(self) -> None:
        self.homes -= 1

    # A bot.

    async def open_websocket(self, uri: str, **options: Any) -> WebsocketSession:
        self.dials.append({"uri": uri, **options})
        await self.answers.wait()
        if self.fails is not None:
            raise self.fails
        line = Line(self)
        session = WebsocketSession(f"s_{len(self.sessions)}", line, None)
        line.session = session
        self.sessions.append(session)
        session.remote_address = ("127.0.0.1", 8765)
        session.response_headers = [("Server", "far")]
        if options["serializer"] is None:
            await session.open_messages()
        session.caller_connected(False)
        return session

    # What the test asks for and says.

    @property
    def session(self) -> WebsocketSession:
        return self.sessions[-1]

    @property
    def line(self) -> Line:
        return cast("Line", self.session._line)

    def names(self) -> list[str]:
        return [call[0] for call in self.told]

    def messages(self) -> list[str | bytes]:
        return [call[2] for call in self.told if call[0] == "on_message"]

    def says(self, *messages: str | bytes) -> None:
        for message in messages:
            self.session.raw_arrived(message, 0)

    def leaves(self, reason: str = "server_left") -> None:
        self.session.caller_disconnected(reason)
        self.session.ended(reason)

    def end(self) -> None:
        for session in self.sessions:
            session.ended("test over")
            session.detach()

    def callbacks(self) -> WebsocketClientCallbacks:
        return WebsocketClientCallbacks(**{name: self._keep(name) for name in CALLBACKS})

    def _keep(self, name: str) -> Any:
        async def keep(*arguments: Any) -> None:
            self.told.append((name, *arguments))

        return keep

    async def alone(self, **params: Any) -> WebsocketClientSession:
        """A session that no transport uses."""
        client = WebsocketClientSession(
            URI, WebsocketClientParams(**params), self.callbacks(), "alone"
        )
        await client.setup(TaskManager())
        return client

    async def of_pipeline(self, **params: Any) -> WebsocketClientSession:
        """A session as a transport's ends use it, begun."""
        params = {
            "serializer": ProtobufFrameSerializer(),
            "audio_in_enabled": True,
            "audio_out_enabled": True,
            "audio_out_sample_rate": 16_000,
            **params,
        }
        client = WebsocketClientSession(
            URI, WebsocketClientParams(**params), self.callbacks(), "pipeline"
        )
        await client.prepare(FrameProcessorSetup(SystemClock(), TaskManager()))
        await client.connect()
        await client.open_media()
        return client
