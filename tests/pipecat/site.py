"""A user's application with a Pipecat pipeline for each caller, on our transport or another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import FastAPI, Request
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from engine.integrations.pipecat import (
    IceCandidate,
    SmallWebRTCPatchRequest,
    SmallWebRTCRequest,
    SmallWebRTCRequestHandler,
    SmallWebRTCTransport,
    TransportParams,
)
from engine.transports import home
from tests.fakes.audio import tone
from tests.fakes.user_app import serving_app
from tests.support import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.integrations.pipecat import SmallWebRTCConnection
    from tests.fakes.audio import Samples

OUT_HZ = 24_000
EVENTS = ("on_client_connected", "on_client_disconnected", "on_app_message")
DOWN = FrameDirection.DOWNSTREAM


def said(
    hertz: float,
    seconds: float,
    kind: type[OutputAudioRawFrame] = TTSAudioRawFrame,
    *,
    hz: int = OUT_HZ,
    interruptible: bool = True,
) -> OutputAudioRawFrame:
    """A tone in one frame."""
    samples = tone(hertz, round(seconds * hz), hz=hz)
    frame = kind(samples.astype(np.int16).tobytes(), hz, 1)
    frame.interruptible = interruptible
    return frame


def loud_s(samples: Samples, hz: int) -> float:
    """Seconds, of 10 ms pieces, in which something is heard."""
    size = hz // 100
    pieces = samples[: len(samples) // size * size].reshape(-1, size).astype(float)
    return float((np.sqrt((pieces**2).mean(axis=1)) > 500).sum()) / 100


class Tap(FrameProcessor):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """Keeps what passes, and passes it on; what is heard is said again where `echoes`."""

    def __init__(self, *, echoes: bool = False) -> None:
        super().__init__()
        self.seen: list[Frame] = []
        self.echoes = echoes

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.seen.append(frame)
        if self.echoes and isinstance(frame, InputAudioRawFrame):
            frame = OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
        await self.push_frame(frame, direction)

    def of(self, *kinds: type[Frame]) -> list[Any]:
        return [frame for frame in self.seen if isinstance(frame, kinds)]

    def samples(self, kind: type[Frame]) -> Samples:
        """Those of the frames of a kind; all of one rate."""
        return np.frombuffer(b"".join(frame.audio for frame in self.of(kind)), np.int16)


class Running:
    """A pipeline on a transport: input, `before`, output, `after`, and what else is wanted."""

    def __init__(
        self,
        transport: Any,
        *,
        echoes: bool = False,
        more: Callable[[], list[FrameProcessor]] | None = None,
        events: tuple[str, ...] = EVENTS,
        rtvi: bool = True,
    ) -> None:
        self.transport = transport
        self.before, self.after = Tap(echoes=echoes), Tap()
        self.told: list[tuple[str, Any]] = []
        self.more = more() if more is not None else []
        ends = (transport.input(), self.before, transport.output(), self.after)
        self.worker = PipelineWorker(
            Pipeline([*ends, *self.more]),
            params=PipelineParams(audio_out_sample_rate=OUT_HZ),
            idle_timeout_secs=None,
            enable_rtvi=rtvi,
        )
        for event in events:
            transport.add_event_handler(event, self._listener(event))
        self.running = asyncio.create_task(self._run(), name="pipeline")

    async def _run(self) -> None:
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self.worker)
        await runner.run()

    def _listener(self, event: str) -> Callable[..., Any]:
        async def heard(_transport: Any, *arguments: Any) -> None:
            self.told.append((event, *arguments[:1]))

        return heard

    def events(self) -> list[str]:
        """What was told, but for messages."""
        return [event for event, *_ in self.told if event != "on_app_message"]

    async def say(self, *frames: Frame) -> None:
        await self.worker.queue_frames(list(frames))

    async def interrupt(self) -> None:
        """As a processor before the output would."""
        await self.before.push_frame(InterruptionFrame(), DOWN)

    async def stop(self) -> None:
        """Let the pipeline end when what is queued has been said."""
        await self.say(EndFrame())

    async def end(self) -> None:
        if not self.running.done():
            await self.worker.cancel()
        await asyncio.wait((self.running,), timeout=DEADLINE_S)
        self.running.result()


class Call(Running):
    """One caller's pipeline."""

    def __init__(self, connection: SmallWebRTCConnection, site: Site) -> None:
        self.connection = connection
        transport = site.transport_class(connection, TransportParams(**site.params))
        super().__init__(transport, echoes=site.echoes, more=site.more)


class Site:
    """`async with Site(audio_out_lead_ms=200, ...) as site`; `site.url` for callers.

    Its transports find the engine of the environment: see the fixture `found_serve`.
    """

    def __init__(
        self,
        transport_class: Any = SmallWebRTCTransport,
        *,
        echoes: bool = False,
        more: Callable[[], list[FrameProcessor]] | None = None,
        **params: Any,
    ) -> None:
        self.transport_class = transport_class
        self.echoes = echoes
        self.more = more
        self.params = {"audio_in_enabled": True, "audio_out_enabled": True, **params}
        self.calls: list[Call] = []
        self.handler = SmallWebRTCRequestHandler()
        self.url = ""
        self._app = FastAPI()
        self._app.post("/api/offer")(self._offer)
        self._app.patch("/api/offer")(self._candidates)
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
        self.calls.append(Call(connection, self))

    async def __aenter__(self) -> Site:
        self.url = await self._served.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for call in self.calls:
            await call.end()
        await self._served.__aexit__(None, None, None)
        await self.handler.close()
        await home.end_all()
