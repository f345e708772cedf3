"""`Node`: a place in a pipeline, with its neighbours, its surroundings and its faults.

It pushes frames to its neighbours; how it takes what they push is `FrameProcessor`'s part.
"""

from __future__ import annotations

import dataclasses
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from engine.transports.processors.events import BaseObject
from engine.transports.processors.faults import place
from engine.transports.processors.observers import FramePushed
from engine.transports.processors.setup import FrameDirection
from ipc.errors import StateError
from ipc.frames import ErrorCategory, ErrorFrame, Frame

if TYPE_CHECKING:
    import asyncio

    from engine.transports.processors.clock import BaseClock
    from engine.transports.processors.processor import FrameProcessor
    from engine.transports.processors.runner import PipelineRunner
    from engine.transports.processors.setup import FrameCallback, FrameProcessorSetup
    from engine.transports.processors.task import PipelineTask

log = logging.getLogger(__name__)

_DOWN = FrameDirection.DOWNSTREAM
_UP = FrameDirection.UPSTREAM
_COPIED_ANEW = ("id", "name", "broadcast_sibling_id")


class Node(BaseObject, ABC):
    """Base of `FrameProcessor`. Events, all awaited in line except the last:

    on_before_push_frame(frame), on_after_push_frame(frame), on_error(error frame),
    on_usable_changed(usable).
    """

    def __init__(self, *, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self._setup: FrameProcessorSetup | None = None
        self._next: FrameProcessor | None = None
        self._prev: FrameProcessor | None = None
        self._usable = True
        for event in ("on_before_push_frame", "on_after_push_frame", "on_error"):
            self._register_event_handler(event, sync=True)
        self._register_event_handler("on_usable_changed")

    @abstractmethod
    async def queue_frame(
        self,
        frame: Frame,
        direction: FrameDirection = FrameDirection.DOWNSTREAM,
        callback: FrameCallback | None = None,
    ) -> None:
        """Give it a frame to handle."""

    # What it is part of.

    @property
    def processors(self) -> list[FrameProcessor]:
        """The processors inside of this one; only pipelines have any."""
        return []

    @property
    def entry_processors(self) -> list[FrameProcessor]:
        """Those of `processors` that frames enter by."""
        return []

    def processors_with_metrics(self) -> list[FrameProcessor]:
        """Those inside of this one, at any depth, that measure themselves."""
        return [
            one
            for inner in self.processors
            for one in (
                *([inner] if inner.can_generate_metrics() else []),
                *inner.processors_with_metrics(),
            )
        ]

    @property
    def next(self) -> FrameProcessor | None:
        """The processor downstream."""
        return self._next

    @property
    def previous(self) -> FrameProcessor | None:
        """The processor upstream."""
        return self._prev

    @property
    def processor_setup(self) -> FrameProcessorSetup:
        """What `setup` was given. StateError before."""
        if self._setup is None:
            raise StateError(f"{self} is not set up yet", code="not_set_up")
        return self._setup

    @property
    def pipeline_worker(self) -> PipelineTask:
        """The task that runs the pipeline. StateError without one."""
        worker = self.processor_setup.pipeline_worker
        if worker is None:
            raise StateError(f"{self} runs in no pipeline task", code="no_pipeline_task")
        return worker

    @property
    def pipeline_task(self) -> PipelineTask:
        """Older name of `pipeline_worker`."""
        return self.pipeline_worker

    @property
    def worker_runner(self) -> PipelineRunner:
        """The runner of that task. StateError without one."""
        runner = self.pipeline_worker.runner
        if runner is None:
            raise StateError(f"{self} runs in no runner", code="no_runner")
        return runner

    @property
    def is_usable(self) -> bool:
        """Whether it can still do its job: not after a permanent error."""
        return self._usable

    async def set_usable(self, is_usable: bool) -> None:
        """Say whether it can do its job."""
        if is_usable != self._usable:
            self._usable = is_usable
            await self._call_event_handler("on_usable_changed", is_usable)

    def get_clock(self) -> BaseClock:
        """The pipeline's clock. StateError before `setup`."""
        return self.processor_setup.clock

    def get_event_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it runs on. StateError before `setup`."""
        return self.task_manager.get_event_loop()

    # Pushing.

    async def push_frame(
        self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM
    ) -> None:
        """Hand a frame to the next processor that way. A fault there becomes an error frame."""
        await self._call_event_handler("on_before_push_frame", frame)
        target = self._next if direction is _DOWN else self._prev
        if target is not None:
            try:
                setup = self._setup
                if setup is not None and setup.observer:
                    now = setup.clock.get_time()
                    first = vars(frame).setdefault("_first_source", self) is self
                    await setup.observer.on_push_frame(
                        FramePushed(self, target, frame, direction, now, first)
                    )
                await target.queue_frame(frame, direction)
            except Exception as error:
                await self.push_error(f"Could not push {frame}: {error}", error)
        await self._call_event_handler("on_after_push_frame", frame)

    async def broadcast_frame(self, frame_cls: type[Frame], **kwargs: Any) -> None:
        """Make two frames of the class and push one each way; they know each other's id."""
        await self._push_pair(frame_cls(**kwargs), frame_cls(**kwargs))

    async def broadcast_frame_instance(self, frame: Frame) -> None:
        """Push a copy of `frame` each way, with ids and names of their own."""
        await self._push_pair(_copy(frame), _copy(frame))

    async def _push_pair(self, down: Frame, up: Frame) -> None:
        down.broadcast_sibling_id, up.broadcast_sibling_id = up.id, down.id
        await self.push_frame(down, _DOWN)
        await self.push_frame(up, _UP)

    # Errors.

    def _classify_error(self, exception: Exception) -> ErrorCategory | None:
        """Which category `exception` is of, for overrides that know; None: unknown."""
        return None

    async def push_error(
        self,
        error_msg: str,
        exception: Exception | None = None,
        fatal: bool = False,
        category: ErrorCategory | None = None,
        force_treat_as_permanent: bool = False,
    ) -> None:
        """Report a failure upstream and to the log. `fatal` cancels the pipeline."""
        error = ErrorFrame(error_msg, fatal, self, exception, category)
        await self.push_error_frame(error, force_treat_as_permanent)

    async def push_error_frame(
        self, error: ErrorFrame, force_treat_as_permanent: bool = False
    ) -> None:
        """Report `error` upstream; a permanent one makes its processor unusable."""
        if error.processor is None:
            error.processor = self
        if error.category is None and error.exception is not None:
            error.category = self._classify_error(error.exception)
        error.category = error.category or ErrorCategory.UNKNOWN
        if force_treat_as_permanent or error.category.is_permanent:
            await self.set_usable(False)
        await self._call_event_handler("on_error", error)
        where = place(error.exception) if error.exception is not None else ""
        log.error("%s: %s%s", error.processor, error.error, f" ({where})" if where else "")
        await self.push_frame(error, _UP)


def _copy(frame: Frame) -> Frame:
    fields = dataclasses.fields(frame)
    copy = type(frame)(**{one.name: getattr(frame, one.name) for one in fields if one.init})
    for one in fields:
        if not one.init and one.name not in _COPIED_ANEW:
            setattr(copy, one.name, getattr(frame, one.name))
    return copy
