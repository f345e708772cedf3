"""`PipelineTask`: runs one pipeline from setup to cleanup.

Setup of all processors, then `StartFrame` through all of them, then what is queued, until an
`EndFrame` or `StopFrame` has come out at the far end or somebody cancels. Cancelling never
waits behind anything. Whatever happens the processors are cleaned up, except after a
`StopFrame`, which leaves them connected for another task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from engine.transports.processors.clock import BaseClock, SystemClock
from engine.transports.processors.ends import PipelineEnds
from engine.transports.processors.frame_queue import FrameQueue
from engine.transports.processors.metrics import ProcessingMetricsData, TTFBMetricsData
from engine.transports.processors.params import (
    PipelineParams,
    PipelineTaskParams,
    ProcessorUnusablePolicy,
)
from engine.transports.processors.setup import FrameDirection, FrameProcessorSetup
from engine.transports.processors.task_manager import BaseTaskManager, TaskManager
from engine.transports.processors.vigil import Vigil
from ipc.errors import StateError
from ipc.frames import (
    BotSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    HeartbeatFrame,
    InterimTranscriptionFrame,
    MetricsFrame,
    PipelineFlushFrame,
    StartFrame,
    StopFrame,
    SystemFrame,
    TranscriptionFrame,
    UserSpeakingFrame,
    UserStartedSpeakingFrame,
)

if TYPE_CHECKING:
    from engine.transports.processors.observers import BaseObserver
    from engine.transports.processors.pipeline import (
        BasePipeline,
    )
    from engine.transports.processors.runner import PipelineRunner

log = logging.getLogger(__name__)

IDLE_FRAMES: tuple[type[Frame], ...] = (
    BotSpeakingFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    UserSpeakingFrame,
    UserStartedSpeakingFrame,
)
_DOWN = FrameDirection.DOWNSTREAM
_UP = FrameDirection.UPSTREAM


class PipelineTask(PipelineEnds):
    """Runs `pipeline` once. Times in seconds.

    Setup, start, the way of a `CancelFrame` and the draining before an end each have a limit;
    when it is over, on_setup_timeout() or on_pipeline_timeout(frame) fires and the pipeline is
    torn down. Further events: on_pipeline_finished(frame),
    on_idle_timeout() when none of `idle_timeout_frames` moved for `idle_timeout_secs`,
    on_heartbeat_timeout(), and those of `PipelineEnds`.
    """

    def __init__(
        self,
        pipeline: BasePipeline,
        *,
        app_resources: Any = None,
        cancel_on_idle_timeout: bool = True,
        cancel_timeout_secs: float = 20.0,
        check_dangling_tasks: bool = True,
        clock: BaseClock | None = None,
        conversation_id: str | None = None,
        end_timeout_secs: float = 300.0,
        idle_timeout_frames: tuple[type[Frame], ...] = IDLE_FRAMES,
        idle_timeout_secs: float | None = 300,
        name: str | None = None,
        observers: Sequence[BaseObserver] | None = None,
        params: PipelineParams | None = None,
        processor_unusable_policy: ProcessorUnusablePolicy = ProcessorUnusablePolicy.CONTINUE,
        setup_timeout_secs: float = 20.0,
        start_timeout_secs: float = 20.0,
        task_manager: BaseTaskManager | None = None,
        tool_resources: Any = None,
    ) -> None:
        super().__init__(pipeline, name=name, task_manager=task_manager)
        self._params = params or PipelineParams()
        self._resources = app_resources if app_resources is not None else tool_resources
        self._cancel_on_idle = cancel_on_idle_timeout
        self._cancel_s = cancel_timeout_secs
        self._end_s = end_timeout_secs
        self._setup_s = setup_timeout_secs
        self._start_s = start_timeout_secs
        self.check_dangling_tasks = check_dangling_tasks
        self._clock = clock or SystemClock()
        self.conversation_id = conversation_id
        # Set by the runner that runs this.
        self.runner: PipelineRunner | None = None
        self._policy = processor_unusable_policy
        self._observers.add(observers or ())
        self._vigil = Vigil(self, idle_timeout_frames, idle_timeout_secs)
        self._observers.watch(self._vigil.saw)

        self._queue = FrameQueue()
        self._running = False
        self._own_manager = False
        # The end or stop that was fed.
        self._closing: Frame | None = None

    @property
    def params(self) -> PipelineParams:
        """What the pipeline is started with."""
        return self._params

    @property
    def pipeline(self) -> BasePipeline:
        """The pipeline that was given, within the ends that the task added."""
        return self._pipeline

    @property
    def app_resources(self) -> Any:
        """Whatever the application wants its processors to reach."""
        return self._resources

    def add_observer(self, observer: BaseObserver) -> None:
        """From here on `observer` sees the frames."""
        self._observers.add([observer])

    async def remove_observer(self, observer: BaseObserver) -> None:
        """`observer` sees no more frames."""
        await self._observers.remove(observer)

    async def idle(self) -> None:
        """Called when nothing of `idle_timeout_frames` moved for too long."""
        log.warning("%s: idle", self)
        await self._call_event_handler("on_idle_timeout")
        if self._cancel_on_idle:
            self.ask_cancel("idle")

    def _beat_came(self, frame: HeartbeatFrame) -> None:
        self._vigil.beat(frame)

    async def beat(self) -> None:
        """Send a heartbeat through the pipeline."""
        await self._pipeline.queue_frame(HeartbeatFrame(timestamp=self._clock.get_time()))

    async def heart_stopped(self) -> None:
        """Called when no heartbeat came through for too long."""
        log.warning("%s: no heartbeat came through", self)
        await self._call_event_handler("on_heartbeat_timeout")

    def has_finished(self) -> bool:
        """Whether `run` is over."""
        return self._finished

    # Frames.

    async def queue_frame(
        self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM
    ) -> None:
        """Put a frame in line for the pipeline, at its begin or (upstream) at its end.

        Frames that are queued before the start wait for it. LimitError(queue_full) when there
        was no room for 20 s. Once an end was queued only system frames still get in, and
        nothing once the task has finished.
        """
        if self._finished:
            return
        if direction is _UP:
            await self._sink.queue_frame(frame, direction)
        elif self._closing is not None and isinstance(frame, SystemFrame):
            await self._pipeline.queue_frame(frame)
        else:
            await self._queue.put((frame, direction, None, 0))

    async def queue_frames(
        self,
        frames: Iterable[Frame] | AsyncIterable[Frame],
        direction: FrameDirection = FrameDirection.DOWNSTREAM,
    ) -> None:
        """Put frames in line, one after the other."""
        if isinstance(frames, AsyncIterable):
            async for frame in frames:
                await self.queue_frame(frame, direction)
        else:
            for frame in frames:
                await self.queue_frame(frame, direction)

    async def flush_pipeline(self, timeout: float = 5.0) -> bool:
        """Wait until all that was queued has been handled; whether it was within `timeout` s."""
        back = asyncio.Event()
        await self.queue_frame(PipelineFlushFrame(event=back, origin=self.name))
        try:
            async with asyncio.timeout(timeout):
                await back.wait()
        except TimeoutError:
            return False
        return True

    async def stop_when_done(self) -> None:
        """End once everything queued is done."""
        await self.end()

    async def end(self, *, reason: str | None = None) -> None:
        """End once everything queued is done."""
        await self.queue_frame(EndFrame(reason=reason))

    async def cancel(self, *, reason: str | None = None) -> None:
        """End now; `run` returns once all processors are cleaned up. Later calls do nothing."""
        self.ask_cancel(reason)

    # The life of the pipeline.

    async def run(self, params: PipelineTaskParams | None = None) -> None:
        """Run the pipeline until it has ended and is cleaned up. StateError if it runs already.

        Cancelling the task that awaits this cancels the pipeline.
        """
        if self._finished:
            return
        if self._running:
            raise StateError(f"{self} runs already", code="already_running")
        self._running = True
        given = self._task_manager or (params.task_manager if params is not None else None)
        self._own_manager = given is None
        await self.setup(given or TaskManager())
        keep = False
        try:
            if await self._set_up() and await self._start():
                keep = await self._feed_until_over()
            else:
                self.ask_cancel("the pipeline did not start")
                await self._call_event_handler("on_pipeline_finished", self._cancel_frame)
        except asyncio.CancelledError:
            self.ask_cancel("cancelled from outside")
            if self._started.is_set():
                await self._push_cancel()
            raise
        finally:
            self._finished = True
            await self._tear_down(keep)

    async def _set_up(self) -> bool:
        self._clock.start()
        await self._observers.setup(self.task_manager)
        setup = FrameProcessorSetup(
            clock=self._clock,
            task_manager=self.task_manager,
            pipeline_worker=self,
            audio_in_sample_rate=self._params.audio_in_sample_rate,
            audio_out_sample_rate=self._params.audio_out_sample_rate,
            enable_metrics=self._params.enable_metrics,
            enable_usage_metrics=self._params.enable_usage_metrics,
            observer=self._observers,
            report_only_initial_ttfb=self._params.report_only_initial_ttfb,
            tool_resources=self._resources,
        )
        if await self._within(self._setup_s, self._pipeline.setup(setup), "setup"):
            return True
        if self._cancel_frame is None:
            log.error("%s: setting up took longer than %.0f s", self, self._setup_s)
            await self._call_event_handler("on_setup_timeout")
        return False

    async def _start(self) -> bool:
        frame = StartFrame(
            audio_in_sample_rate=self._params.audio_in_sample_rate,
            audio_out_sample_rate=self._params.audio_out_sample_rate,
            enable_metrics=self._params.enable_metrics,
            enable_usage_metrics=self._params.enable_usage_metrics,
            report_only_initial_ttfb=self._params.report_only_initial_ttfb,
        )
        frame.metadata = dict(self._params.start_metadata)
        await self._pipeline.queue_frame(frame)
        if await self._within(self._start_s, self._started.wait(), "start"):
            self._vigil.start()
            return True
        if self._cancel_frame is None:
            await self._timed_out(frame, self._start_s)
        return False

    async def _feed_until_over(self) -> bool:
        """Feed the pipeline to its end. Whether the processors stay connected."""
        feeding = self.create_task(self._feed(), "feed")
        try:
            await self._within(None, self._over.wait(), "run")
        finally:
            await self.cancel_task(feeding)
        if self._cancel_frame is not None:
            await self._push_cancel()
        elif self._over_frame is not None:
            await self._call_event_handler("on_pipeline_finished", self._over_frame)
        return isinstance(self._over_frame, StopFrame) and self._cancel_frame is None

    async def _feed(self) -> None:
        if self._params.enable_metrics and self._params.send_initial_empty_metrics:
            await self._pipeline.queue_frame(self._first_metrics())
        while True:
            frame, *_ = await self._queue.get()
            if isinstance(frame, CancelFrame):
                self._ask_cancel(frame)
                return
            if isinstance(frame, EndFrame | StopFrame):
                break
            await self._pipeline.queue_frame(frame)
        self._closing = frame
        await self._pipeline.queue_frame(frame)
        try:
            async with asyncio.timeout(self._end_s):
                await self._over.wait()
        except TimeoutError:
            await self._timed_out(frame, self._end_s)
            self.ask_cancel("what was queued did not end")

    def _first_metrics(self) -> MetricsFrame:
        names = [one.name for one in self._pipeline.processors_with_metrics()]
        kinds = (TTFBMetricsData, ProcessingMetricsData)
        return MetricsFrame(data=[kind(processor=one, value=0) for one in names for kind in kinds])

    async def _push_cancel(self) -> None:
        frame = self._cancel_frame or CancelFrame()
        self._over.clear()
        await self._pipeline.queue_frame(frame)
        try:
            async with asyncio.timeout(self._cancel_s):
                await self._over.wait()
        except TimeoutError:
            await self._timed_out(frame, self._cancel_s)
        await self._call_event_handler("on_pipeline_finished", frame)

    async def _tear_down(self, keep: bool) -> None:
        await self._vigil.stop()
        self._queue.clear()
        if not keep:
            await self._pipeline.cleanup()
        await self._observers.cleanup()
        await self.cleanup()
        if keep or not self._own_manager or not self.check_dangling_tasks:
            return
        for task in self.task_manager.current_tasks():
            if task is not asyncio.current_task():
                log.warning("%s: %s was left running", self, task.get_name())
                await self.cancel_task(task)

    async def _within(
        self, limit_s: float | None, work: Coroutine[Any, Any, Any], name: str
    ) -> bool:
        """Whether `work` was done before `limit_s` had passed and before a cancel."""
        working = self.create_task(work, name)
        cancel = self.create_task(self._cancelled.wait(), "cancel")
        try:
            await asyncio.wait(
                {working, cancel}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
            )
            return working.done() and not cancel.done()
        finally:
            for task in (working, cancel):
                await self.cancel_task(task)

    async def _timed_out(self, frame: Frame, limit_s: float) -> None:
        log.error("%s: %s did not get through in %.0f s", self, frame, limit_s)
        await self._call_event_handler("on_pipeline_timeout", frame)
