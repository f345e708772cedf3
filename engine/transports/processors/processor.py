"""`FrameProcessor`: a link of a pipeline.

Two tasks handle what arrives. One takes system frames, at once; the other takes the queued
frames, in order, and may be held up or interrupted without holding up the first. Neither
begins before the processor is set up and the `StartFrame` has come, which is handled first.
How much may wait is the rule of `frame_queue`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from engine.transports.processors.events import BaseObject
from engine.transports.processors.faults import place
from engine.transports.processors.frame_queue import FrameQueue
from engine.transports.processors.observers import FrameProcessed, FramePushed
from engine.transports.processors.setup import (
    FrameCallback,
    FrameDirection,
    FrameProcessorSetup,
)
from ipc.errors import StateError
from ipc.frames import (
    CancelFrame,
    ErrorCategory,
    ErrorFrame,
    Frame,
    FrameProcessorPauseFrame,
    FrameProcessorPauseUrgentFrame,
    FrameProcessorResumeFrame,
    FrameProcessorResumeUrgentFrame,
    InterruptionFrame,
    StartFrame,
    SystemFrame,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.transports.processors.clock import BaseClock
    from engine.transports.processors.task import PipelineTask

log = logging.getLogger(__name__)

# How long a handler that ignores its cancellation may delay an interruption.
INTERRUPT_S = 1.0

_DOWN = FrameDirection.DOWNSTREAM
_UP = FrameDirection.UPSTREAM
_PAUSES = FrameProcessorPauseFrame | FrameProcessorPauseUrgentFrame
_RESUMES = FrameProcessorResumeFrame | FrameProcessorResumeUrgentFrame
_COPIED_ANEW = ("id", "name", "broadcast_sibling_id")


class FrameProcessor(BaseObject):
    """Handles frames that travel through a pipeline, and pushes them on.

    Subclasses override `process_frame`, call `super().process_frame` first, and push on what
    they do not keep. With `enable_direct_mode` frames are handled by whoever queues them.
    Events, all awaited in line except the last: on_before_process_frame(frame),
    on_after_process_frame(frame), on_before_push_frame(frame), on_after_push_frame(frame),
    on_error(error frame), on_usable_changed(usable).
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        enable_direct_mode: bool = False,
        metrics: Any | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self._direct = enable_direct_mode
        self._metrics = metrics
        self._setup: FrameProcessorSetup | None = None
        self._next: FrameProcessor | None = None
        self._prev: FrameProcessor | None = None
        self._usable = True
        self._cancelling = False

        self._system = FrameQueue()
        self._queued = FrameQueue()
        self._system_task: asyncio.Task[None] | None = None
        self._queued_task: asyncio.Task[None] | None = None
        self._current: Frame | None = None
        # Set while frames of that kind may be handled.
        self._system_goes = asyncio.Event()
        self._queued_goes = asyncio.Event()
        self._system_goes.set()
        self._queued_goes.set()
        self._pause_task: asyncio.Task[None] | None = None
        self._set_up = asyncio.Event()
        self._set_up.set()
        self._start_came = False

        for event in ("before_process", "after_process", "before_push", "after_push"):
            self._register_event_handler(f"on_{event}_frame", sync=True)
        self._register_event_handler("on_error", sync=True)
        self._register_event_handler("on_usable_changed")

    # What it is part of.

    @property
    def processors(self) -> list[FrameProcessor]:
        """The processors inside of this one; only pipelines have any."""
        return []

    @property
    def entry_processors(self) -> list[FrameProcessor]:
        """Those of `processors` that frames enter by."""
        return []

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
    def is_usable(self) -> bool:
        """Whether it can still do its job: not after a permanent error."""
        return self._usable

    async def set_usable(self, is_usable: bool) -> None:
        """Say whether it can do its job."""
        if is_usable != self._usable:
            self._usable = is_usable
            await self._call_event_handler("on_usable_changed", is_usable)

    def link(self, processor: FrameProcessor) -> None:
        """Make `processor` the next one."""
        self._next = processor
        processor._prev = self

    def get_clock(self) -> BaseClock:
        """The pipeline's clock. StateError before `setup`."""
        return self.processor_setup.clock

    def get_event_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it runs on. StateError before `setup`."""
        return self.task_manager.get_event_loop()

    # Begin and end.

    # BaseObject.setup takes the task manager alone; a processor needs more.
    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Connect, and do all else that takes long; every processor does so at one time."""
        await super().setup(setup.task_manager)
        self._setup = setup
        self._cancelling = False

    async def cleanup(self) -> None:
        """Release everything; called once the pipeline is over, however it ended."""
        await super().cleanup()
        await self._end_pause()
        self._system.clear()
        self._queued.clear()
        for task in (self._system_task, self._queued_task):
            if task is not None:
                await self.cancel_task(task)
        self._system_task = self._queued_task = None
        self._start_came = False
        self._system.clear()
        self._queued.clear()

    def _setup_started(self) -> None:
        """The pipeline is about to call `setup`: the start waits."""
        self._set_up.clear()

    def _setup_finished(self) -> None:
        """`setup` has returned: the start may come."""
        self._set_up.set()
        self._begin()

    def _begin(self) -> None:
        ready = self._start_came and self._set_up.is_set() and self._task_manager is not None
        if ready and self._system_task is None and not self._direct:
            self._system_task = self.create_task(self._handle_system(), "system_frames")

    # Frames.

    async def queue_frame(
        self,
        frame: Frame,
        direction: FrameDirection = FrameDirection.DOWNSTREAM,
        callback: FrameCallback | None = None,
    ) -> None:
        """Give it a frame to handle; `callback` is awaited once it has.

        Queued frames wait for room, see `frame_queue`: LimitError(queue_full) after 20 s.
        After a `CancelFrame` nothing is taken any more.
        """
        if self._cancelling:
            return
        if self._direct:
            if isinstance(frame, StartFrame):
                await self._set_up.wait()
            await self._process(frame, direction, callback)
        elif isinstance(frame, StartFrame):
            self._system.put_first((frame, direction, callback))
            self._start_came = True
            self._begin()
        elif isinstance(frame, SystemFrame):
            self._system.put_now((frame, direction, callback))
        else:
            await self._queued.put((frame, direction, callback))

    def has_queued_frame(self, frame_type: type[Frame]) -> bool:
        """Whether a queued frame of that type waits."""
        return self._queued.has(frame_type)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Handle a frame. Overrides call this first; it pushes nothing on."""
        setup = self._setup
        if setup is not None and setup.observer:
            now = setup.clock.get_time()
            await setup.observer.on_process_frame(FrameProcessed(self, frame, direction, now))
        if not isinstance(frame, SystemFrame | FrameProcessorPauseFrame):
            return
        if isinstance(frame, InterruptionFrame):
            await self._start_interruption()
        elif isinstance(frame, CancelFrame):
            self._cancelling = True
            await self._end_queued()
        elif isinstance(frame, _PAUSES) and frame.processor is self:
            await self.pause_processing_frames()
        elif isinstance(frame, _RESUMES) and frame.processor is self:
            await self.resume_processing_frames()

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
                    await setup.observer.on_push_frame(
                        FramePushed(self, target, frame, direction, now)
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

    async def broadcast_interruption(self) -> None:
        """Interrupt the pipeline both ways, and drop what waits here."""
        self._queued.drop_interruptible()
        self._queued_goes.set()
        await self.broadcast_frame(InterruptionFrame)

    async def push_interruption_task_frame_and_wait(self, *, timeout: float = 5.0) -> None:
        """Older name of `broadcast_interruption`."""
        await self.broadcast_interruption()

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

    # Pauses.

    async def pause_processing_frames(self) -> None:
        """Keep queued frames from the next one on."""
        self._queued_goes.clear()

    async def pause_processing_system_frames(self) -> None:
        """Keep system frames from the next one on, also those that would end the processor."""
        self._system_goes.clear()

    async def resume_processing_frames(self) -> None:
        """Go on with queued frames."""
        self._queued_goes.set()

    async def resume_processing_system_frames(self) -> None:
        """Go on with system frames."""
        self._system_goes.set()

    async def pause_processing_all_frames_until(
        self, ready: Callable[[], Awaitable[Any]], *, timeout: float = 5.0
    ) -> None:
        """Keep all frames from the next one on, until `ready()` returns or `timeout` s pass."""
        if self._direct:
            log.warning("%s cannot hold frames: it has no queue", self)
            return
        await self._end_pause()
        self._system_goes.clear()
        self._queued_goes.clear()
        self._pause_task = self.create_task(self._pause_until(ready, timeout), "pause")

    async def _pause_until(self, ready: Callable[[], Awaitable[Any]], timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await ready()
        except TimeoutError:
            log.warning("%s: not ready after %.1f s, frames go on", self, timeout_s)
        finally:
            self._system_goes.set()
            self._queued_goes.set()

    async def _end_pause(self) -> None:
        task, self._pause_task = self._pause_task, None
        if task is not None and not task.done():
            await self.cancel_task(task)

    # The two tasks.

    async def _handle_system(self) -> None:
        while True:
            item = await self._system.get()
            if not self._system_goes.is_set():
                self._system.put_first(item)
                await self._system_goes.wait()
                continue
            await self._process(*item)
            if isinstance(item[0], StartFrame) and not self._cancelling:
                self._begin_queued()

    async def _handle_queued(self) -> None:
        me = asyncio.current_task()
        # A handler that outlived its cancellation finds another task in this one's place.
        while self._queued_task is me:
            item = await self._queued.get()
            if not self._queued_goes.is_set():
                self._queued.put_first(item)
                await self._queued_goes.wait()
                continue
            self._current = item[0]
            try:
                await self._process(*item)
            finally:
                if self._queued_task is me or self._queued_task is None:
                    self._current = None

    async def _process(
        self, frame: Frame, direction: FrameDirection, callback: FrameCallback | None
    ) -> None:
        try:
            await self._call_event_handler("on_before_process_frame", frame)
            await self.process_frame(frame, direction)
            if callback is not None:
                await callback(self, frame, direction)
            await self._call_event_handler("on_after_process_frame", frame)
        except Exception as error:
            await self.push_error(f"Could not process {frame}: {error}", error)

    def _begin_queued(self) -> None:
        if self._queued_task is None and not self._direct:
            self._queued_task = self.create_task(self._handle_queued(), "queued_frames")

    async def _end_queued(self) -> None:
        task, self._queued_task = self._queued_task, None
        if task is not None:
            await self.cancel_task(task, INTERRUPT_S)

    async def _start_interruption(self) -> None:
        """Drop what waits and end what is being handled, except the uninterruptible."""
        # Dropped before anything is awaited: frames that come after the interruption stay.
        self._queued.drop_interruptible()
        self._queued_goes.set()
        task = self._queued_task
        if task is None or task is asyncio.current_task():
            return
        if self._current is not None and self._current.interruptible:
            await self._end_queued()
            if not self._cancelling:
                self._begin_queued()


def _copy(frame: Frame) -> Frame:
    fields = dataclasses.fields(frame)
    copy = type(frame)(**{one.name: getattr(frame, one.name) for one in fields if one.init})
    for one in fields:
        if not one.init and one.name not in _COPIED_ANEW:
            setattr(copy, one.name, getattr(frame, one.name))
    return copy
