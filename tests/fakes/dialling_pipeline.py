"""A pipeline whose transport dials a server: input, `before`, output, `after`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from engine.transports import home
from engine.transports.processors import Pipeline, PipelineParams, PipelineTask
from engine.transports.websocket.client import WebsocketClientParams, WebsocketClientTransport
from tests.fakes.transport_site import DOWN, OUT_HZ, Tap
from tests.support import DEADLINE_S, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.transports.frames import ErrorFrame, Frame

EVENTS = ("on_connected", "on_disconnected", "on_reconnecting", "on_reconnected")


class DiallingPipeline:
    """`async with DiallingPipeline(uri, ...) as call`; it has begun when it is entered."""

    def __init__(self, uri: str, *, echoes: bool = False, **params: Any) -> None:
        given = {"audio_in_enabled": True, "audio_out_enabled": True, "add_wav_header": False}
        self.transport = WebsocketClientTransport(uri, WebsocketClientParams(**given | params))
        self.before, self.after = Tap(echoes=echoes), Tap()
        self.events: list[str] = []
        self.errors: list[ErrorFrame] = []
        for event in EVENTS:
            self.transport.add_event_handler(event, self._keeper(event))
        ends = (self.transport.input(), self.before, self.transport.output(), self.after)
        for end in (self.transport.input(), self.transport.output()):
            end.add_event_handler("on_error", lambda _end, error: self.errors.append(error))
        self.task = PipelineTask(
            Pipeline(list(ends)), params=PipelineParams(audio_out_sample_rate=OUT_HZ)
        )
        self.running: asyncio.Task[None] | None = None

    def _keeper(self, event: str) -> Callable[[], None]:
        return lambda: self.events.append(event)

    async def say(self, *frames: Frame) -> None:
        await self.task.queue_frames(list(frames))

    async def interrupt(self, frame: Frame) -> None:
        await self.transport.output().process_frame(frame, DOWN)

    async def ends(self, timeout_s: float = DEADLINE_S) -> None:
        assert self.running is not None
        await until(self.running.done, timeout_s, what="the end of the pipeline")

    async def __aenter__(self) -> DiallingPipeline:
        self.running = asyncio.create_task(self.task.run(), name="pipeline")
        await until(lambda: self.after.seen, what="the start of the pipeline")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.running is not None
        if not self.running.done():
            await self.task.cancel()
        await asyncio.wait((self.running,), timeout=DEADLINE_S)
        await home.end_all()
