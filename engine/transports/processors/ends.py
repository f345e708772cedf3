"""What comes out at the two ends of a pipeline, and what follows from it.

Errors and requests come out upstream: to end, to stop, to cancel, to interrupt. Downstream
come the frames that say how far the pipeline is: the start, a heartbeat, the end.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from engine.transports.processors.events import BaseObject
from engine.transports.processors.observers import Observers
from engine.transports.processors.params import ProcessorUnusablePolicy
from engine.transports.processors.pipeline import Pipeline, PipelineSink, PipelineSource
from engine.transports.processors.processor import FrameProcessor
from engine.transports.processors.setup import FrameDirection
from ipc.frames import (
    CancelFrame,
    CancelWorkerFrame,
    EndFrame,
    EndWorkerFrame,
    ErrorFrame,
    Frame,
    HeartbeatFrame,
    InterruptionFrame,
    InterruptionWorkerFrame,
    PipelineFlushFrame,
    StartFrame,
    StopFrame,
    StopWorkerFrame,
    WorkerFrame,
    WorkerSystemFrame,
)

if TYPE_CHECKING:
    from engine.transports.processors.pipeline import BasePipeline
    from engine.transports.processors.task_manager import BaseTaskManager

_UP = FrameDirection.UPSTREAM


class PipelineEnds(BaseObject, ABC):
    """Base of `PipelineTask`: `pipeline` between a source and a sink of its own.

    Events: on_pipeline_started(frame), on_pipeline_error(error frame), and for the types that
    are asked for on_frame_reached_upstream(frame) and on_frame_reached_downstream(frame).
    """

    def __init__(
        self,
        pipeline: BasePipeline,
        *,
        name: str | None = None,
        task_manager: BaseTaskManager | None = None,
    ) -> None:
        super().__init__(name=name, task_manager=task_manager)
        self._observers = Observers()
        self._policy = ProcessorUnusablePolicy.CONTINUE
        self._unusable: set[int] = set()
        self._finished = False
        self._started = asyncio.Event()
        # The frame that came out at the far end last.
        self._over = asyncio.Event()
        self._over_frame: Frame | None = None
        self._cancelled = asyncio.Event()
        self._cancel_frame: CancelFrame | None = None
        self._reached_up: tuple[type[Frame], ...] = ()
        self._reached_down: tuple[type[Frame], ...] = ()

        source = PipelineSource(self._came_up, name=f"{self}::Source")
        self._sink = PipelineSink(self._came_down, name=f"{self}::Sink")
        self._pipeline = Pipeline([pipeline], source=source, sink=self._sink)
        for event in (
            "on_frame_reached_upstream",
            "on_frame_reached_downstream",
            "on_heartbeat_timeout",
            "on_idle_timeout",
            "on_pipeline_started",
            "on_pipeline_finished",
            "on_pipeline_timeout",
            "on_setup_timeout",
            "on_pipeline_error",
        ):
            self._register_event_handler(event)

    @abstractmethod
    async def queue_frame(
        self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM
    ) -> None:
        """Put a frame in line for the pipeline."""

    @abstractmethod
    def _beat_came(self, frame: HeartbeatFrame) -> None:
        """A heartbeat came through."""

    def ask_cancel(self, reason: str | None = None) -> None:
        """What `cancel` does, for those who cannot await."""
        self._ask_cancel(CancelFrame(reason=reason))

    def _ask_cancel(self, frame: CancelFrame) -> None:
        if self._cancel_frame is None and not self._finished:
            self._cancel_frame = frame
            self._cancelled.set()

    @property
    def reached_upstream_types(self) -> tuple[type[Frame], ...]:
        """Frames that fire on_frame_reached_upstream."""
        return self._reached_up

    @property
    def reached_downstream_types(self) -> tuple[type[Frame], ...]:
        """Frames that fire on_frame_reached_downstream."""
        return self._reached_down

    def set_reached_upstream_filter(self, types: tuple[type[Frame], ...]) -> None:
        """Fire on_frame_reached_upstream for these types only."""
        self._reached_up = tuple(types)

    def set_reached_downstream_filter(self, types: tuple[type[Frame], ...]) -> None:
        """Fire on_frame_reached_downstream for these types only."""
        self._reached_down = tuple(types)

    def add_reached_upstream_filter(self, types: tuple[type[Frame], ...]) -> None:
        """Fire on_frame_reached_upstream for these types too."""
        self._reached_up += tuple(types)

    def add_reached_downstream_filter(self, types: tuple[type[Frame], ...]) -> None:
        """Fire on_frame_reached_downstream for these types too."""
        self._reached_down += tuple(types)

    # What comes out at the ends.

    async def _came_up(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, self._reached_up):
            await self._call_event_handler("on_frame_reached_upstream", frame)
        if isinstance(frame, ErrorFrame):
            await self._failed(frame)
        elif isinstance(frame, EndWorkerFrame):
            await self.queue_frame(EndFrame(reason=frame.reason))
        elif isinstance(frame, StopWorkerFrame):
            await self.queue_frame(StopFrame())
        elif isinstance(frame, CancelWorkerFrame):
            self._ask_cancel(CancelFrame(reason=frame.reason))
        elif isinstance(frame, InterruptionWorkerFrame):
            await self._pipeline.queue_frame(InterruptionFrame())
        elif isinstance(frame, PipelineFlushFrame) and frame.event and frame.origin == self.name:
            frame.event.set()

    async def _came_down(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, self._reached_down):
            await self._call_event_handler("on_frame_reached_downstream", frame)
        if isinstance(frame, StartFrame):
            self._started.set()
            await self._call_event_handler("on_pipeline_started", frame)
            await self._observers.on_pipeline_started()
        elif isinstance(frame, EndFrame | StopFrame | CancelFrame):
            self._over_frame = frame
            self._over.set()
        elif isinstance(frame, HeartbeatFrame):
            self._beat_came(frame)
        elif isinstance(frame, WorkerFrame | WorkerSystemFrame):
            await self._sink.queue_frame(frame, _UP)
        elif isinstance(frame, PipelineFlushFrame) and not frame.returning:
            frame.returning = True
            await self._sink.queue_frame(frame, _UP)

    async def _failed(self, error: ErrorFrame) -> None:
        await self._call_event_handler("on_pipeline_error", error)
        if error.fatal:
            self._ask_cancel(CancelFrame(reason=f"fatal error: {error.error}"))
            return
        processor = error.processor
        if not isinstance(processor, FrameProcessor) or processor.is_usable:
            return
        if processor.id in self._unusable:
            return
        self._unusable.add(processor.id)
        if self._policy is ProcessorUnusablePolicy.END:
            await self.queue_frame(EndFrame(reason=f"{processor} can no longer do its job"))
        elif self._policy is ProcessorUnusablePolicy.CANCEL:
            self._ask_cancel(CancelFrame(reason=f"{processor} can no longer do its job"))
