"""`Pipeline`: processors in a row, which is a processor itself.

Frames enter by its source and leave by its sink. All processors are set up at one time, each
keeps the `StartFrame` until its own setup has returned, and all are cleaned up at one time
whatever became of their setup.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

from engine.transports.processors.faults import describe
from engine.transports.processors.processor import FrameProcessor
from engine.transports.processors.setup import FrameDirection, FrameProcessorSetup
from ipc.frames import Frame

log = logging.getLogger(__name__)

# How long one processor may take to clean up before the others are left alone with it.
CLEANUP_S = 20.0

Push = Callable[[Frame, FrameDirection], Awaitable[None]]


class PipelineSource(FrameProcessor):
    """The upstream end: what comes up to it is handed to `upstream_push_frame`."""

    def __init__(self, upstream_push_frame: Push, **kwargs: Any) -> None:
        super().__init__(enable_direct_mode=True, **kwargs)
        self._leave = upstream_push_frame

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Let a frame in, or out."""
        await super().process_frame(frame, direction)
        if direction is FrameDirection.UPSTREAM:
            await self._leave(frame, direction)
        else:
            await self.push_frame(frame, direction)


class PipelineSink(FrameProcessor):
    """The downstream end: what comes down to it is handed to `downstream_push_frame`."""

    def __init__(self, downstream_push_frame: Push, **kwargs: Any) -> None:
        super().__init__(enable_direct_mode=True, **kwargs)
        self._leave = downstream_push_frame

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Let a frame out, or in."""
        await super().process_frame(frame, direction)
        if direction is FrameDirection.DOWNSTREAM:
            await self._leave(frame, direction)
        else:
            await self.push_frame(frame, direction)


class BasePipeline(FrameProcessor):
    """Base of processors that are made of processors."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(enable_direct_mode=True, **kwargs)

    async def _setup_processors(
        self, processors: Sequence[FrameProcessor], setup: FrameProcessorSetup
    ) -> None:
        """Set all of them up at one time. A failure makes that processor unusable."""
        for processor in processors:
            processor._setup_started()
        tasks = [
            self.create_task(_set_up(processor, setup), f"setup::{processor}")
            for processor in processors
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                if not task.done():
                    await self.cancel_task(task)

    async def _cleanup_processors(self, processors: Sequence[FrameProcessor]) -> None:
        """Clean all of them up at one time. A failure is logged and stops no other."""
        await asyncio.gather(*map(_clean_up, processors))


class Pipeline(BasePipeline):
    """`processors` in a row, between a source and a sink."""

    def __init__(
        self,
        processors: Sequence[FrameProcessor],
        *,
        source: FrameProcessor | None = None,
        sink: FrameProcessor | None = None,
    ) -> None:
        super().__init__()
        self._source = source or PipelineSource(self.push_frame, name=f"{self}::Source")
        self._sink = sink or PipelineSink(self.push_frame, name=f"{self}::Sink")
        self._processors = [self._source, *processors, self._sink]
        self._link()

    @property
    def processors(self) -> list[FrameProcessor]:
        """The row, with its source and its sink."""
        return self._processors

    @property
    def entry_processors(self) -> list[FrameProcessor]:
        """The source."""
        return [self._source]

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Set up all processors at one time."""
        # Again, because another pipeline may have had the same processors in between.
        self._link()
        await super().setup(setup)
        self._setup_finished()
        await self._setup_processors(self._processors, setup)

    async def cleanup(self) -> None:
        """Clean up all processors at one time."""
        await super().cleanup()
        await self._cleanup_processors(self._processors)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Let a frame in at the end that it comes from."""
        await super().process_frame(frame, direction)
        inner = self._source if direction is FrameDirection.DOWNSTREAM else self._sink
        await inner.queue_frame(frame, direction)

    def _link(self) -> None:
        for left, right in pairwise(self._processors):
            left.link(right)


async def _set_up(processor: FrameProcessor, setup: FrameProcessorSetup) -> None:
    try:
        await processor.setup(setup)
    except Exception as error:
        await processor.push_error(
            f"Could not set up: {error}", error, force_treat_as_permanent=True
        )
    # Not in a finally: one whose setup was abandoned never starts.
    processor._setup_finished()


async def _clean_up(processor: FrameProcessor) -> None:
    # A pipeline within a pipeline limits each of its own.
    limit_s = None if isinstance(processor, BasePipeline) else CLEANUP_S
    try:
        async with asyncio.timeout(limit_s):
            await processor.cleanup()
    except Exception as error:
        log.error("%s: could not clean up: %s", processor, describe(error))
