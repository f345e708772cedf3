"""Those who watch a pipeline: observers, idleness, heartbeats, filters, runners, metrics."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from engine.transports.processors import (
    BaseObserver,
    FramePushed,
    Pipeline,
    PipelineParams,
    PipelineRunner,
    PipelineTask,
)
from ipc.errors import StateError
from ipc.frames import (
    EndFrame,
    Frame,
    HeartbeatFrame,
    MetricsFrame,
    TextFrame,
    TTSAudioRawFrame,
    UserSpeakingFrame,
)
from tests.support import until
from tests.unit.engine.transports.processors.row import UP, Noting, running

if TYPE_CHECKING:
    from engine.transports.processors import FrameDirection


class Watcher(BaseObserver):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pushes: list[FramePushed] = []
        self.started = False

    async def on_push_frame(self, data: FramePushed) -> None:
        if isinstance(data.frame, TextFrame):
            self.pushes.append(data)
            if data.frame.text == "bad":
                raise RuntimeError("did not like that")

    async def on_pipeline_started(self) -> None:
        self.started = True


async def test_observers_see_where_each_frame_goes_and_their_faults_are_theirs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    all_of_it, first_only = Watcher(), Watcher(observe_every_push=False)
    one, two = Noting(), Noting()

    async with running(one, two, observers=[all_of_it]) as task:
        task.add_observer(first_only)
        await task.queue_frames([TextFrame("bad"), TextFrame("good")])
        await until(lambda: len(first_only.pushes) == 2 and two.texts() == ["bad", "good"])
        await until(lambda: any(data.source is two for data in all_of_it.pushes))
        await task.remove_observer(first_only)

    assert all_of_it.started
    path = [data.source.name for data in all_of_it.pushes if data.frame is one.seen[1]]
    assert path.index(one.name) < path.index(two.name)
    assert [data.first_push for data in first_only.pushes] == [True, True]
    assert "RuntimeError: did not like that" in caplog.text


async def test_a_pipeline_in_which_nobody_speaks_is_ended() -> None:
    only, idle = Noting(), []
    task = PipelineTask(Pipeline([only]), idle_timeout_secs=0.05)
    task.add_event_handler("on_idle_timeout", lambda: idle.append(1))

    await task.run()

    assert idle == [1]
    assert only.kinds()[-1] == "CancelFrame"


async def test_it_goes_on_if_that_is_wanted() -> None:
    idle: list[int] = []

    async with running(Noting(), idle_timeout_secs=0.01, cancel_on_idle_timeout=False) as task:
        task.add_event_handler("on_idle_timeout", lambda: idle.append(1))
        await until(lambda: len(idle) >= 2)
        await task.queue_frame(UserSpeakingFrame())
        assert not task.has_finished()


async def test_heartbeats_go_through_and_are_missed_when_they_do_not() -> None:
    stuck, missed = Noting(held=HeartbeatFrame), []
    params = PipelineParams(
        enable_heartbeats=True, heartbeats_period_secs=0.01, heartbeats_monitor_secs=0.05
    )

    async with running(stuck, params=params) as task:
        task.add_event_handler("on_heartbeat_timeout", lambda: missed.append(1))
        await until(lambda: missed)
        stuck.gate.set()
        await until(lambda: stuck.kinds().count("HeartbeatFrame") > 2)


async def test_frames_that_reach_an_end_are_told_if_asked_for() -> None:
    only, up, down = Noting(), [], []

    async with running(only) as task:
        task.set_reached_upstream_filter((TextFrame,))
        task.add_reached_downstream_filter((TextFrame,))
        task.add_event_handler("on_frame_reached_upstream", lambda _, frame: up.append(frame))
        task.add_event_handler("on_frame_reached_downstream", lambda _, frame: down.append(frame))
        await task.queue_frames([TextFrame("down"), UserSpeakingFrame()])
        await task.queue_frame(TextFrame("up"), UP)
        await until(lambda: up and down)

    assert [frame.text for frame in up] == ["up"]
    assert [frame.text for frame in down] == ["down"]


async def test_a_flush_comes_back_when_all_before_it_has_been_handled() -> None:
    slow = Noting(held=TextFrame)

    async with running(slow) as task:
        await task.queue_frame(TextFrame("a"))
        assert not await task.flush_pipeline(timeout=0.02)
        slow.gate.set()
        assert await task.flush_pipeline()
        assert slow.texts() == ["a"]


async def test_a_runner_runs_a_task_and_those_that_were_added() -> None:
    runner = PipelineRunner(handle_sigint=False)
    main, other = (PipelineTask(Pipeline([Noting()]), name=name) for name in ("main", "other"))
    await runner.add_workers(other)
    await main.queue_frame(EndFrame())
    assert runner.get_worker("other") is other

    await runner.run(main)

    assert main.has_finished()
    assert other.has_finished()
    assert main.runner is runner
    with pytest.raises(StateError, match="no task"):
        await runner.run()


async def test_a_signal_cancels_what_runs_and_is_left_alone_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    only = Noting()
    task = PipelineTask(Pipeline([only]))

    @task.event_handler("on_pipeline_started")
    def press_ctrl_c() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    await PipelineRunner().run(task)

    assert only.kinds()[-1] == "CancelFrame"
    assert signal.getsignal(signal.SIGINT) == before


async def test_runners_that_overlap_leave_the_signal_as_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)
    first, second = PipelineRunner(), PipelineRunner()
    tasks = [PipelineTask(Pipeline([])), PipelineTask(Pipeline([]))]
    runs = [
        asyncio.create_task(runner.run(task))
        for runner, task in zip((first, second), tasks, strict=True)
    ]
    await until(lambda: all(task._started.is_set() for task in tasks))
    await tasks[0].end()
    await runs[0]
    os.kill(os.getpid(), signal.SIGINT)
    async with asyncio.timeout(30):
        await runs[1]
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize("way", ["end", "cancel", "stop_when_done"])
async def test_a_runner_ends_its_tasks(way: str) -> None:
    runner, only = PipelineRunner(handle_sigint=False), Noting()
    run = asyncio.create_task(runner.run(PipelineTask(Pipeline([only]))))
    await until(lambda: only.seen)

    await getattr(runner, way)()
    await asyncio.wait_for(run, 30)

    assert only.kinds()[-1] == ("CancelFrame" if way == "cancel" else "EndFrame")


async def test_services_are_announced_with_empty_measurements() -> None:
    only = Service(name="voice")

    async with running(only, params=PipelineParams(enable_metrics=True)):
        await until(lambda: "MetricsFrame" in only.kinds())

    frame = next(frame for frame in only.seen if isinstance(frame, MetricsFrame))
    assert [(one.processor, one.value) for one in frame.data] == [("voice", 0), ("voice", 0)]


class Service(Noting):
    def can_generate_metrics(self) -> bool:
        return True

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TextFrame):
            await self.start_ttfb_metrics(start_time=10.0)
            await self.stop_ttfb_metrics(end_time=10.5)
            await self.process_ttfa_metrics(TTSAudioRawFrame(bytes(3_200), 16_000, 1))
            await self.process_ttfa_metrics(TTSAudioRawFrame(b"\0\0\0\x10", 16_000, 1))
            await self.start_processing_metrics(start_time=1.0)
            await self.stop_processing_metrics(end_time=3.0)
            await self.start_tts_usage_metrics(frame.text)


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_service_is_measured_when_the_pipeline_wants_it(wanted: bool) -> None:
    service, last = Service(name="voice"), Noting()
    params = PipelineParams(
        enable_metrics=wanted, enable_usage_metrics=wanted, send_initial_empty_metrics=False
    )

    async with running(service, last, params=params) as task:
        await task.queue_frames([TextFrame("hello"), TextFrame("")])
        await task.flush_pipeline()

    found = [data for frame in last.seen if isinstance(frame, MetricsFrame) for data in frame.data]
    assert bool(found) == wanted
    if wanted:
        assert [type(one).__name__ for one in found[:4]] == [
            "TTFBMetricsData",
            "TTFAMetricsData",
            "ProcessingMetricsData",
            "TTSUsageMetricsData",
        ]
        assert {one.processor for one in found} == {"voice"}
        assert found[0].value == 0.5
        assert found[1].ttfa == pytest.approx(0.5 + 0.1 + 1 / 16_000)
        assert (found[2].value, found[3].value) == (2.0, 5)
