"""`FrameProcessor`: a link of a pipeline.

Two tasks handle what arrives. One takes system frames, at once; the other takes the queued
frames, in order, and may be held up or interrupted without holding up the first. A queued
frame never overtakes a system frame that came before it, so what is sent behind an
interruption survives it. Neither task begins before the processor is set up and the
`StartFrame` has come, which is handled first. How much may wait: see `frame_queue`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import TYPE_CHECKING, Any

from engine.transports.processors.frame_queue import FrameQueue, Item
from engine.transports.processors.metered import Metered
from engine.transports.processors.observers import FrameProcessed
from engine.transports.processors.setup import (
    FrameCallback,
    FrameDirection,
    FrameProcessorSetup,
)
from ipc.frames import (
    CancelFrame,
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

    from engine.transports.processors.metrics import FrameProcessorMetrics


log = logging.getLogger(__name__)

# How long a handler that ignores its cancellation may delay an interruption.
INTERRUPT_S = 1.0

_PAUSES = FrameProcessorPauseFrame | FrameProcessorPauseUrgentFrame
_RESUMES = FrameProcessorResumeFrame | FrameProcessorResumeUrgentFrame


class FrameProcessor(Metered):
    """Handles frames that travel through a pipeline, and pushes them on.

    Subclasses override `process_frame`, call `super().process_frame` first, and push on what
    they do not keep. With `enable_direct_mode` frames are handled by whoever queues them.
    Events beside those of `Node`, awaited in line: on_before_process_frame(frame),
    on_after_process_frame(frame).
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        enable_direct_mode: bool = False,
        metrics: FrameProcessorMetrics | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, metrics=metrics, **kwargs)
        self._direct = enable_direct_mode
        self._cancelling = False

        self._system = FrameQueue(owner=self)
        self._queued = FrameQueue(owner=self)
        self._system_task: asyncio.Task[None] | None = None
        self._queued_task: asyncio.Task[None] | None = None
        # Frames are numbered as they arrive, so that queued ones never overtake system frames.
        self._arrivals = itertools.count(1)
        self._in_hand_system: int | None = None
        self._in_hand: Item | None = None
        self._system_paused = False
        self._queued_paused = False
        # Set when a frame that could not be handled may look again.
        self._system_moves = asyncio.Event()
        self._queued_moves = asyncio.Event()
        self._pause_task: asyncio.Task[None] | None = None
        self._set_up = asyncio.Event()
        self._set_up.set()
        self._start_came = False

        self._register_event_handler("on_before_process_frame", sync=True)
        self._register_event_handler("on_after_process_frame", sync=True)

    def link(self, processor: FrameProcessor) -> None:
        """Make `processor` the next one."""
        self._next = processor
        processor._prev = self

    # Begin and end.

    # BaseObject.setup takes the task manager alone; a processor needs more.
    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Connect, and do all else that takes long; every processor does so at one time."""
        await super().setup(setup.task_manager)
        await self._metrics.setup(setup.task_manager)
        self._setup = setup
        self._cancelling = False

    async def cleanup(self) -> None:
        """Release everything; called once the pipeline is over, however it ended."""
        await super().cleanup()
        await self._metrics.cleanup()
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
            self._system.put_first((frame, direction, callback, 0))
            self._start_came = True
            self._begin()
        elif isinstance(frame, SystemFrame):
            self._system.put_now((frame, direction, callback, next(self._arrivals)))
        else:
            await self._queued.put((frame, direction, callback, next(self._arrivals)))

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
            await self.stop_all_metrics()
        elif isinstance(frame, CancelFrame):
            self._cancelling = True
            await self._end_queued()
        elif isinstance(frame, _PAUSES) and frame.processor is self:
            await self.pause_processing_frames()
        elif isinstance(frame, _RESUMES) and frame.processor is self:
            await self.resume_processing_frames()

    async def broadcast_interruption(self) -> None:
        """Interrupt the pipeline both ways, and drop what waits here."""
        self._queued.drop_interruptible(next(self._arrivals))
        await self.resume_processing_frames()
        await self.broadcast_frame(InterruptionFrame)

    async def push_interruption_task_frame_and_wait(self, *, timeout: float = 5.0) -> None:
        """Older name of `broadcast_interruption`."""
        await self.broadcast_interruption()

    # Pauses.

    async def pause_processing_frames(self) -> None:
        """Keep queued frames from the next one on."""
        self._queued_paused = True

    async def pause_processing_system_frames(self) -> None:
        """Keep all frames from the next one on, also those that would end the processor."""
        self._system_paused = True

    async def resume_processing_frames(self) -> None:
        """Go on with queued frames."""
        self._queued_paused = False
        self._queued_moves.set()

    async def resume_processing_system_frames(self) -> None:
        """Go on with system frames."""
        self._system_paused = False
        self._system_moves.set()

    async def pause_processing_all_frames_until(
        self, ready: Callable[[], Awaitable[Any]], *, timeout: float = 5.0
    ) -> None:
        """Keep all frames from the next one on, until `ready()` returns or `timeout` s pass."""
        if self._direct:
            log.warning("%s cannot hold frames: it has no queue", self)
            return
        await self._end_pause()
        self._system_paused = self._queued_paused = True
        self._pause_task = self.create_task(self._pause_until(ready, timeout), "pause")

    async def _pause_until(self, ready: Callable[[], Awaitable[Any]], timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await ready()
        except TimeoutError:
            log.warning("%s: not ready after %.1f s, frames go on", self, timeout_s)
        finally:
            await self.resume_processing_system_frames()
            await self.resume_processing_frames()

    async def _end_pause(self) -> None:
        task, self._pause_task = self._pause_task, None
        if task is not None and not task.done():
            await self.cancel_task(task)

    # The two tasks.

    async def _handle_system(self) -> None:
        while True:
            item = await self._system.get()
            if self._system_paused:
                self._system.put_first(item)
                self._system_moves.clear()
                await self._system_moves.wait()
                continue
            self._in_hand_system = item[3]
            try:
                await self._process(*item[:3])
            finally:
                self._in_hand_system = None
                self._queued_moves.set()
            if isinstance(item[0], StartFrame) and not self._cancelling:
                self._begin_queued()

    async def _handle_queued(self) -> None:
        me = asyncio.current_task()
        # A handler that outlived its cancellation finds another task in this one's place.
        while self._queued_task is me:
            item = await self._queued.get()
            if self._queued_paused or self._overtakes(item[3]):
                self._queued.put_first(item)
                self._queued_moves.clear()
                await self._queued_moves.wait()
                continue
            self._in_hand = item
            try:
                await self._process(*item[:3])
            finally:
                if self._in_hand is item:
                    self._in_hand = None

    def _overtakes(self, number: int) -> bool:
        """Whether a system frame that arrived before frame `number` is not handled yet."""
        waiting = self._in_hand_system if self._in_hand_system is not None else self._system.oldest
        return waiting is not None and waiting < number

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
        """Drop what arrived before and end what is in hand, except the uninterruptible."""
        number = self._in_hand_system or next(self._arrivals)
        self._queued.drop_interruptible(number)
        await self.resume_processing_frames()
        task, item = self._queued_task, self._in_hand
        if task is None or item is None or task is asyncio.current_task():
            return
        if item[0].interruptible and item[3] < number:
            await self._end_queued()
            if not self._cancelling:
                self._begin_queued()
