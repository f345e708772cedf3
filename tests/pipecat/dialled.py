"""Pipelines that dial a WebSocket server, and the server: a Pipecat application of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from fastapi import FastAPI, WebSocket
from pipecat.frames.frames import InputAudioRawFrame
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.websocket.client import WebsocketClientParams as PipecatParams
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport

from engine.integrations.pipecat import WebsocketClientTransport
from engine.transports import home
from tests.fakes.audio import pitch_hz
from tests.fakes.user_app import serving_app
from tests.pipecat import site
from tests.pipecat.site import Running, Tap

if TYPE_CHECKING:
    from tests.fakes.audio import Samples

OURS = ("on_connected", "on_disconnected", "on_reconnecting", "on_reconnected")


class FarCall(Running):
    """The server's pipeline for one connection."""

    def __init__(self, websocket: WebSocket, *, echoes: bool) -> None:
        params = FastAPIWebsocketParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            audio_out_end_silence_secs=0,
            serializer=ProtobufFrameSerializer(),
        )
        super().__init__(
            FastAPIWebsocketTransport(websocket, params),
            echoes=echoes,
            events=("on_client_connected", "on_client_disconnected"),
        )


class Far:
    """`async with Far() as far`: a server with a Pipecat pipeline for each that dials `far.uri`."""

    def __init__(self, *, echoes: bool = False) -> None:
        self.calls: list[FarCall] = []
        self.uri = ""
        self._echoes = echoes
        self._app = FastAPI()
        self._app.websocket("/bot")(self._came)
        self._served = serving_app(self._app)

    @property
    def call(self) -> FarCall:
        return self.calls[-1]

    async def _came(self, websocket: WebSocket) -> None:
        await websocket.accept()
        call = FarCall(websocket, echoes=self._echoes)
        self.calls.append(call)
        await call.running

    async def __aenter__(self) -> Self:
        url = await self._served.__aenter__()
        self.uri = url.replace("http", "ws", 1) + "/bot"
        return self

    async def __aexit__(self, *_: object) -> None:
        for call in self.calls:
            await call.end()
        await self._served.__aexit__(None, None, None)


class Dialled(Running):
    """`async with Dialled(uri, WebsocketClientTransport, ...)`: a pipeline that has dialled."""

    def __init__(
        self,
        uri: str,
        kind: Any = WebsocketClientTransport,
        *,
        echoes: bool = False,
        params: type = PipecatParams,
        **options: Any,
    ) -> None:
        # Pipecat's own parameters by default: whoever changes one import has those.
        given = {"audio_in_enabled": True, "audio_out_enabled": True, "add_wav_header": False}
        events = OURS if kind is WebsocketClientTransport else OURS[:2]
        transport = kind(uri, params(**{**given, **options}))
        # Two servers of RTVI would answer each other's errors without end.
        super().__init__(transport, echoes=echoes, events=events, rtvi=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()
        await home.end_all()


def heard(tap: Tap) -> Samples:
    """The samples that have come to a pipeline; all of one rate."""
    return tap.samples(InputAudioRawFrame)


def loud_s(tap: Tap) -> float:
    """Seconds of what came in which something is heard."""
    frames = tap.of(InputAudioRawFrame)
    return site.loud_s(heard(tap), frames[0].sample_rate) if frames else 0.0


def hears(tap: Tap, hertz: float) -> bool:
    """Whether the last half second that came has that pitch."""
    frames = tap.of(InputAudioRawFrame)
    if not frames:
        return False
    hz = frames[-1].sample_rate
    last = heard(tap)[-hz // 2 :]
    return len(last) == hz // 2 and abs(pitch_hz(last, hz) - hertz) < 0.02 * hertz
