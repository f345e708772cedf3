"""A running pipeline for tests, and processors that note what they handle."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from engine.transports.processors import (
    FrameDirection,
    FrameProcessor,
    Pipeline,
    PipelineTask,
)
from tests.support import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from engine.transports.processors import FrameProcessorSetup
    from ipc.frames import Frame

DOWN = FrameDirection.DOWNSTREAM
UP = FrameDirection.UPSTREAM


class Noting(FrameProcessor):
    """Notes each frame and pushes it on. A frame of type `held` waits for `gate` first."""

    def __init__(self, held: type[Frame] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.began: list[Frame] = []
        self.seen: list[Frame] = []
        self.calls: list[str] = []
        self.gate = asyncio.Event()
        self._held = held

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        await super().setup(setup)
        self.calls.append("setup")

    async def cleanup(self) -> None:
        await super().cleanup()
        self.calls.append("cleanup")

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.began.append(frame)
        if self._held is not None and isinstance(frame, self._held):
            await self.gate.wait()
        self.seen.append(frame)
        await self.push_frame(frame, direction)

    def kinds(self) -> list[str]:
        return [type(frame).__name__ for frame in self.seen]

    def texts(self) -> list[str]:
        return [text for frame in self.seen if (text := getattr(frame, "text", None))]


@asynccontextmanager
async def running(
    *processors: FrameProcessor, ends: bool = True, **kwargs: Any
) -> AsyncIterator[PipelineTask]:
    """The task of a pipeline that has started; with `ends` it is cancelled behind the body."""
    task = PipelineTask(Pipeline(processors), **kwargs)
    started = asyncio.Event()
    task.add_event_handler("on_pipeline_started", started.set)
    run = asyncio.create_task(task.run())
    try:
        await until(lambda: started.is_set() or run.done(), what="the start")
        yield task
        if ends:
            await task.cancel()
        await asyncio.wait_for(run, 30)
    finally:
        if not run.done():
            run.cancel()
            await asyncio.wait({run})
