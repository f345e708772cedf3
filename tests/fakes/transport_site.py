"""A user's application with a pipeline on the documented transport for each caller."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import FastAPI, Request

from engine.transports import home
from engine.transports.base import TransportParams
from engine.transports.frames import (
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    TTSAudioRawFrame,
)
from engine.transports.processors import (
    FrameDirection,
    FrameProcessor,
    Pipeline,
    PipelineParams,
    PipelineTask,
)
from engine.transports.smallwebrtc.request_handler import (
    IceCandidate,
    SmallWebRTCPatchRequest,
    SmallWebRTCRequest,
    SmallWebRTCRequestHandler,
)
from engine.transports.smallwebrtc.transport import SmallWebRTCTransport
from tests.fakes.audio import tone
from tests.fakes.user_app import serving_app
from tests.support import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine import Engine
    from engine.transports.smallwebrtc.connection import SmallWebRTCConnection

OUT_HZ = 24_000
DOWN = FrameDirection.DOWNSTREAM


def speech(
    hertz: float, seconds: float, *, hz: int = OUT_HZ, channels: int = 1
) -> np.ndarray[Any, Any]:
    """A tone as samples, for `said`."""
    return np.repeat(tone(hertz, round(seconds * hz), hz=hz), channels)


def said(
    samples: np.ndarray[Any, Any],
    kind: type[OutputAudioRawFrame] = TTSAudioRawFrame,
    *,
    hz: int = OUT_HZ,
    channels: int = 1,
    destination: str | None = None,
    interruptible: bool = True,
) -> OutputAudioRawFrame:
    frame = kind(samples.astype(np.int16).tobytes(), hz, channels)
    frame.transport_destination = destination
    frame.interruptible = interruptible
    return frame


class Tap(FrameProcessor):
    """Keeps what passes, and passes it on; what is heard is said again where `echoes`.

    In `came` all stands in the order in which it was pushed here, in `seen` as it was processed:
    what is of the system overtakes there what waits.
    """

    def __init__(self, *, echoes: bool = False) -> None:
        super().__init__()
        self.came: list[Frame] = []
        self.seen: list[Frame] = []
        self.echoes = echoes

    async def queue_frame(self, frame: Frame, *arguments: Any, **options: Any) -> None:
        self.came.append(frame)
        await super().queue_frame(frame, *arguments, **options)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.seen.append(frame)
        if self.echoes and isinstance(frame, InputAudioRawFrame):
            frame = OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
        await self.push_frame(frame, direction)

    def of(self, kind: type[Frame]) -> list[Any]:
        return [frame for frame in self.seen if isinstance(frame, kind)]


class Call:
    """One caller's pipeline: input, `before`, output, `after`."""

    def __init__(
        self, connection: SmallWebRTCConnection, params: TransportParams, *, echoes: bool
    ) -> None:
        self.connection = connection
        self.transport = SmallWebRTCTransport(connection, params)
        self.before, self.after = Tap(echoes=echoes), Tap()
        self.told: list[tuple[str, Any]] = []
        ends = (self.transport.input(), self.before, self.transport.output(), self.after)
        self.task = PipelineTask(
            Pipeline(list(ends)), params=PipelineParams(audio_out_sample_rate=OUT_HZ)
        )
        for event in ("on_client_connected", "on_client_disconnected"):
            self.transport.add_event_handler(event, self._listener(event))
        for event in ("on_app_message", "on_client_message"):
            self.transport.add_event_handler(event, self._listener(event))
        self.running = asyncio.create_task(self.task.run(), name="pipeline")

    def _listener(self, event: str) -> Callable[..., None]:
        def heard(_transport: Any, *arguments: Any) -> None:
            self.told.append((event, *arguments[:1]))

        return heard

    def events(self) -> list[str]:
        return [event for event, *_ in self.told if event.startswith("on_client_")]

    def messages(self, event: str = "on_app_message") -> list[Any]:
        return [what for name, what in self.told if name == event]

    async def say(self, *frames: Frame) -> None:
        await self.task.queue_frames(list(frames))

    async def interrupt(self) -> None:
        await self.transport.output().process_frame(InterruptionFrame(), DOWN)

    async def end(self) -> None:
        if not self.running.done():
            await self.task.cancel()
        await asyncio.wait((self.running,), timeout=DEADLINE_S)


class TransportSite:
    """`async with TransportSite(audio_in_enabled=True, ...) as site`; `site.url` for callers.

    Its transports find the engine of the environment (see the fixture `found_serve`), or `engine`.
    """

    def __init__(
        self, *, echoes: bool = False, engine: Engine | None = None, **params: Any
    ) -> None:
        self.calls: list[Call] = []
        self.handler = SmallWebRTCRequestHandler()
        self.url = ""
        self._echoes = echoes
        self._params = {"audio_in_enabled": True, "audio_out_enabled": True, **params}
        self._app = FastAPI()
        self._app.post("/api/offer")(self._offer)
        self._app.patch("/api/offer")(self._candidates)
        self._engine = engine
        self._served = serving_app(self._app)

    @property
    def call(self) -> Call:
        return self.calls[-1]

    async def _offer(self, request: Request) -> Any:
        return await self.handler.handle_web_request(
            SmallWebRTCRequest.from_dict(await request.json()), self._came
        )

    async def _candidates(self, request: Request) -> dict[str, str]:
        body = await request.json()
        candidates = [IceCandidate(**candidate) for candidate in body["candidates"]]
        await self.handler.handle_patch_request(SmallWebRTCPatchRequest(body["pc_id"], candidates))
        return {"status": "success"}

    async def _came(self, connection: SmallWebRTCConnection) -> None:
        params = TransportParams(**self._params)
        self.calls.append(Call(connection, params, echoes=self._echoes))

    async def __aenter__(self) -> TransportSite:
        if self._engine is not None:
            await self._engine.__aenter__()
        self.url = await self._served.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for call in self.calls:
            await call.end()
        await self._served.__aexit__(None, None, None)
        await self.handler.close()
        if self._engine is not None:
            await self._engine.__aexit__(None, None, None)
        await home.end_all()
