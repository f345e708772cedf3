"""A caller who comes over WebSocket, with a real client: speaks a tone, keeps what it hears."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Self

import httpx
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ipc.frames import InputAudioRawFrame, InputTransportMessageFrame, OutputAudioRawFrame
from ipc.frames import OutputTransportMessageFrame as Outgoing
from ipc.serializers import ProtobufFrameSerializer
from tests.fakes.audio import Samples, pitch_hz, tone
from tests.fakes.serve import NO_TLS
from tests.support import DEADLINE_S, until

if TYPE_CHECKING:
    from ipc.serializers import FrameSerializer

MIC_HZ = 16_000
CHUNK = MIC_HZ // 50


async def start(url: str, body: Any = None, **fields: Any) -> dict[str, Any]:
    """The answer of `POST /start` for a WebSocket."""
    async with httpx.AsyncClient(
        base_url=url, trust_env=False, verify=NO_TLS, timeout=DEADLINE_S
    ) as client:
        asked = {"transport": "websocket", "body": body, **fields}
        answer = await client.post("/start", json=asked)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


class WebsocketCaller:
    """Comes with a token, as Pipecat's client or with raw PCM. Use as an async context manager."""

    def __init__(self, url: str, token: str = "", **options: Any) -> None:
        """`url` is what `/start` has said; for raw PCM end it with `/ws?rate=…&channels=…`."""
        self.messages: list[Any] = []
        self.audio: list[InputAudioRawFrame] = []
        self.raw: list[str | bytes] = []
        self.ended: asyncio.Event = asyncio.Event()
        self._uri = f"{url}{'&' if '?' in url else '?'}token={token}" if token else url
        # Its own limits are those of a machine that does not stand still.
        patient = dict.fromkeys(("open_timeout", "close_timeout", "ping_timeout"), DEADLINE_S)
        self._options = {"compression": None, "proxy": None, **patient, **options}
        self._serializer: FrameSerializer = ProtobufFrameSerializer()
        self._protobuf = "ws-client" in url
        self._tasks: list[asyncio.Task[None]] = []
        self._socket: ClientConnection | None = None

    @classmethod
    async def through(cls, url: str, body: Any = None) -> Self:
        """One who has asked `/start` of the engine at `url`."""
        found = await start(url, body)
        return cls(found["wsUrl"], found["token"])

    async def __aenter__(self) -> Self:
        self._socket = await connect(self._uri, **self._options)
        self._tasks.append(asyncio.create_task(self._hear(), name="caller hears"))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks[1:], return_exceptions=True)
        await self.socket.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def socket(self) -> ClientConnection:
        """The connection."""
        assert self._socket is not None
        return self._socket

    def speak(self, hertz: float, seconds: float = 60.0) -> None:
        """Say a tone, in real time."""
        self._tasks.append(asyncio.create_task(self._speak(hertz, seconds), name="caller speaks"))

    async def say(self, message: Any) -> None:
        """Send an app message."""
        if self._protobuf:
            data = self._serializer.encode(Outgoing(message=message))
            assert data is not None
            await self.socket.send(data)
        else:
            await self.socket.send(json.dumps(message))

    async def send_audio(self, pcm: bytes, hz: int = MIC_HZ, channels: int = 1) -> None:
        """Send samples at once."""
        data: str | bytes | None = pcm
        if self._protobuf:
            data = self._serializer.encode(OutputAudioRawFrame(pcm, hz, channels))
        assert data is not None
        await self.socket.send(data)

    def vanish(self) -> None:
        """Break the connection without a word."""
        self.socket.transport.abort()

    # -- what was heard ---------------------------------------------------------------------------

    def heard(self) -> bytes:
        """All samples that came, as they came."""
        if not self._protobuf:
            return b"".join(data for data in self.raw if isinstance(data, bytes))
        return b"".join(frame.audio for frame in self.audio)

    def rates(self) -> set[tuple[int, int]]:
        """Rate and channels of what came."""
        return {(frame.sample_rate, frame.num_channels) for frame in self.audio}

    async def hears_tone(self, hertz: float, hz: int = 24_000, seconds: float = 0.5) -> None:
        """Wait until the last of what came is a tone of that frequency."""

        def good() -> bool:
            samples: Samples = np.frombuffer(self.heard(), np.int16)
            wanted = round(seconds * hz)
            if len(samples) < wanted:
                return False
            return abs(pitch_hz(samples[-wanted:], hz) - hertz) < 0.01 * hertz

        await until(good, DEADLINE_S, what=f"a tone of {hertz} Hz")

    async def close_code(self) -> tuple[int | None, str | None]:
        """How the engine ended it, once it has."""
        async with asyncio.timeout(DEADLINE_S):
            await self.ended.wait()
        return self.socket.close_code, self.socket.close_reason

    async def _hear(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for data in self.socket:
                self.raw.append(data)
                if not self._protobuf:
                    if isinstance(data, str):
                        self.messages.append(json.loads(data))
                    continue
                frame = self._serializer.decode(data)
                if isinstance(frame, InputAudioRawFrame):
                    self.audio.append(frame)
                elif isinstance(frame, InputTransportMessageFrame):
                    self.messages.append(frame.message)
        self.ended.set()

    async def _speak(self, hertz: float, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with contextlib.suppress(ConnectionClosed):
            for number in range(round(50 * seconds)):
                due = asyncio.Event()
                timer = loop.call_at(began_s + number / 50, due.set)
                try:
                    await due.wait()
                finally:
                    timer.cancel()
                samples = tone(hertz, CHUNK, start=number * CHUNK, hz=MIC_HZ)
                await self.send_audio(samples.tobytes())


async def refused(url: str, token: str = "", **options: Any) -> tuple[int, dict[str, Any]]:
    """The status and the body with which this caller is turned away."""
    try:
        async with WebsocketCaller(url, token, **options):
            raise AssertionError("the caller was let in")
    except InvalidStatus as error:
        body: dict[str, Any] = json.loads(error.response.body or b"{}")
        return error.response.status_code, body
