"""A pipeline's task: setup, start, the ways to end, and that nothing is left behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from engine.transports.processors import (
    FrameProcessorSetup,
    Pipeline,
    PipelineParams,
    PipelineTask,
    ProcessorUnusablePolicy,
)
from engine.transports.processors import pipeline as pipeline_module
from ipc.errors import StateError
from ipc.frames import (
    CancelFrame,
    CancelTaskFrame,
    EndFrame,
    EndTaskFrame,
    ErrorCategory,
    Frame,
    InterruptionFrame,
    StartFrame,
    StopFrame,
    StopTaskFrame,
    TextFrame,
)
from tests.support import until
from tests.unit.engine.transports.processors.row import DOWN, UP, Noting, running

if TYPE_CHECKING:
    from engine.transports.processors import FrameDirection


def events_of(task: PipelineTask) -> list[tuple[str, str]]:
    """Notes each event with the class of its frame."""
    seen: list[tuple[str, str]] = []
    for event in ("started", "finished", "timeout", "error"):
        name = f"on_pipeline_{event}"
        task.add_event_handler(
            name, lambda _, frame, name=name: seen.append((name, type(frame).__name__))
        )
    return seen


async def test_all_are_set_up_at_one_time_before_the_start_and_cleaned_up_behind_the_end() -> None:
    class Meeting(Noting):
        async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
            await super().setup(setup)
            await met.wait()

    met = asyncio.Barrier(2)
    row = [Meeting(), Meeting()]
    task = PipelineTask(Pipeline(row), params=PipelineParams(start_metadata={"who": "me"}))
    seen = events_of(task)
    await task.queue_frame(TextFrame("a"))
    await task.stop_when_done()

    await task.run()

    for one in row:
        assert one.kinds() == ["StartFrame", "TextFrame", "EndFrame"]
        assert one.calls == ["setup", "cleanup"]
        assert one.seen[0].metadata == {"who": "me"}
    assert task.has_finished()
    assert seen == [("on_pipeline_started", "StartFrame"), ("on_pipeline_finished", "EndFrame")]
    assert task.task_manager.current_tasks() == []


async def test_rates_and_surroundings_reach_the_processors() -> None:
    only = Noting()
    params = PipelineParams(audio_in_sample_rate=8_000, audio_out_sample_rate=48_000)

    async with running(only, params=params, app_resources="mine") as task:
        setup = only.processor_setup
        assert (setup.audio_in_sample_rate, setup.audio_out_sample_rate) == (8_000, 48_000)
        assert setup.clock.get_time() > 0
        assert task.app_resources == "mine"

    start = only.seen[0]
    assert isinstance(start, StartFrame)
    assert (start.audio_in_sample_rate, start.audio_out_sample_rate) == (8_000, 48_000)


async def test_an_end_waits_for_all_that_was_queued_before_it() -> None:
    slow, last = Noting(held=TextFrame), Noting()

    async with running(slow, last, ends=False) as task:
        await task.queue_frames([TextFrame(word) for word in "abc"])
        await task.end(reason="done")
        await until(lambda: slow.has_queued_frame(EndFrame))
        assert not task.has_finished()
        slow.gate.set()

    assert last.texts() == ["a", "b", "c"]
    assert isinstance(last.seen[-1], EndFrame)
    assert last.seen[-1].reason == "done"


async def test_a_cancel_waits_for_nothing() -> None:
    slow, last = Noting(held=TextFrame), Noting()

    async with running(slow, last, ends=False) as task:
        seen = events_of(task)
        await task.queue_frames([TextFrame(word) for word in "abc"])
        await task.stop_when_done()
        await until(lambda: slow.has_queued_frame(EndFrame))
        await task.cancel(reason="now")
        await task.cancel(reason="later")

    assert last.texts() == []
    assert last.kinds() == ["StartFrame", "CancelFrame"]
    assert slow.calls == last.calls == ["setup", "cleanup"]
    assert seen == [("on_pipeline_finished", "CancelFrame")]
    assert isinstance(last.seen[-1], CancelFrame)
    assert last.seen[-1].reason == "now"


async def test_an_interruption_reaches_a_pipeline_that_is_draining() -> None:
    slow, last = Noting(held=TextFrame), Noting()

    async with running(slow, last, ends=False) as task:
        await task.queue_frames([TextFrame("a"), TextFrame("b"), EndFrame()])
        await until(lambda: slow.has_queued_frame(EndFrame))
        await task.queue_frame(InterruptionFrame())

    assert last.kinds() == ["StartFrame", "InterruptionFrame", "EndFrame"]


async def test_a_stop_leaves_the_processors_to_another_task() -> None:
    only = Noting()
    pipeline = Pipeline([only])
    first, second = PipelineTask(pipeline), PipelineTask(pipeline)
    await first.queue_frames([TextFrame("a"), StopFrame()])
    await first.run()
    assert only.calls == ["setup"]

    await second.queue_frames([TextFrame("b"), EndFrame()])
    await second.run()

    assert only.calls == ["setup", "setup", "cleanup"]
    assert only.texts() == ["a", "b"]
    assert first.task_manager.current_tasks() == second.task_manager.current_tasks() == []


@pytest.mark.parametrize("direction", [UP, DOWN])
@pytest.mark.parametrize(
    ("request_frame", "ends_with"),
    [
        (EndTaskFrame("why"), "EndFrame"),
        (StopTaskFrame(), "StopFrame"),
        (CancelTaskFrame("why"), "CancelFrame"),
    ],
)
async def test_a_processor_may_ask_for_the_end(
    direction: FrameDirection, request_frame: Frame, ends_with: str
) -> None:
    first, last = Noting(), Noting()
    asker = first if direction is DOWN else last

    async with running(first, last, ends=False) as task:
        await asker.push_frame(request_frame, direction)

    assert last.kinds()[-1] == ends_with
    assert getattr(last.seen[-1], "reason", "why") == "why"
    for one in (first, last):
        if ends_with == "StopFrame":
            await one.cleanup()
    assert task.has_finished()


async def test_cancelling_the_task_that_runs_it_cancels_the_pipeline() -> None:
    slow = Noting(held=TextFrame)
    task = PipelineTask(Pipeline([slow]))
    run = asyncio.create_task(task.run())
    await task.queue_frame(TextFrame("a"))
    await until(lambda: len(slow.began) == 2)

    run.cancel()
    await asyncio.wait({run})

    assert run.cancelled()
    assert slow.calls == ["setup", "cleanup"]
    assert "CancelFrame" in slow.kinds()
    assert task.task_manager.current_tasks() == []


async def test_a_cancel_before_the_run_ends_it_at_once() -> None:
    only = Noting()
    task = PipelineTask(Pipeline([only]))

    await task.cancel()
    await task.run()

    assert only.seen == []
    assert task.has_finished()
    assert task.task_manager.current_tasks() == []


class Hanging(Noting):
    """Never gets through what it is told to hang in."""

    def __init__(self, where: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._where = where

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        await super().setup(setup)
        if self._where == "setup":
            await self.gate.wait()

    async def cleanup(self) -> None:
        await super().cleanup()
        if self._where == "cleanup":
            await self.gate.wait()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if type(frame).__name__ == self._where:
            await self.gate.wait()
        await super().process_frame(frame, direction)


async def test_a_setup_that_hangs_is_given_up_and_everybody_is_cleaned_up() -> None:
    stuck, other = Hanging("setup"), Noting()
    task = PipelineTask(Pipeline([stuck, other]), setup_timeout_secs=0.02)
    late: list[str] = []
    task.add_event_handler("on_setup_timeout", lambda: late.append("setup"))

    await task.run()

    assert late == ["setup"]
    assert stuck.seen == other.seen == []
    assert stuck.calls == other.calls == ["setup", "cleanup"]


@pytest.mark.parametrize(
    ("where", "limit"),
    [
        ("StartFrame", {"start_timeout_secs": 0.02}),
        ("EndFrame", {"end_timeout_secs": 0.02}),
        ("CancelFrame", {"cancel_timeout_secs": 0.02}),
    ],
)
async def test_a_frame_that_does_not_get_through_ends_the_pipeline_all_the_same(
    where: str, limit: dict[str, float]
) -> None:
    stuck = Hanging(where)
    task = PipelineTask(Pipeline([stuck]), **limit)  # type: ignore[arg-type]  # by name
    seen = events_of(task)
    await task.queue_frame(CancelFrame() if where == "CancelFrame" else EndFrame())

    await task.run()

    assert ("on_pipeline_timeout", where) in seen
    assert seen[-1] == ("on_pipeline_finished", "CancelFrame")
    assert stuck.calls == ["setup", "cleanup"]
    assert task.task_manager.current_tasks() == []


async def test_a_cleanup_that_hangs_does_not_keep_the_others_from_theirs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pipeline_module, "CLEANUP_S", 0.3)
    stuck, other = Hanging("cleanup"), Noting()

    async with running(stuck, other):
        pass

    assert other.calls == ["setup", "cleanup"]
    assert "could not clean up: TimeoutError" in caplog.text


@pytest.mark.parametrize(
    ("policy", "seen"),
    [
        (ProcessorUnusablePolicy.CONTINUE, ["StartFrame", "TextFrame"]),
        (ProcessorUnusablePolicy.END, ["StartFrame", "EndFrame"]),
        # Before the start there is nothing to cancel, only to clean up.
        (ProcessorUnusablePolicy.CANCEL, []),
    ],
)
async def test_a_setup_that_fails_makes_the_processor_unusable_and_the_policy_decides(
    policy: ProcessorUnusablePolicy, seen: list[str]
) -> None:
    class Broken(Noting):
        async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
            await super().setup(setup)
            raise RuntimeError("no such voice")

    broken, last = Broken(), Noting()

    async with running(broken, last, processor_unusable_policy=policy) as task:
        if policy is ProcessorUnusablePolicy.CONTINUE:
            await task.queue_frame(TextFrame("a"))
        await until(lambda: last.kinds() == seen)

    assert not broken.is_usable
    assert broken.calls[-1] == last.calls[-1] == "cleanup"


async def test_a_fatal_error_cancels_the_pipeline() -> None:
    only = Noting()

    async with running(only, ends=False) as task:
        seen = events_of(task)
        await only.push_error("gone", fatal=True, category=ErrorCategory.SERVER)

    assert only.kinds()[-1] == "CancelFrame"
    assert seen[0] == ("on_pipeline_error", "ErrorFrame")


async def test_a_task_that_a_processor_forgot_is_ended_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    only = Noting()

    async with running(only) as task:
        only.create_task(asyncio.Event().wait(), "forgotten")

    assert "::forgotten was left running" in caplog.text
    assert task.task_manager.current_tasks() == []


async def test_a_task_runs_once() -> None:
    only = Noting()

    async with running(only) as task:
        with pytest.raises(StateError, match="runs already"):
            await task.run()

    await task.run()
    await task.queue_frames([TextFrame("late"), EndFrame()])
    await task.cancel()
    assert only.kinds().count("StartFrame") == 1
    assert only.texts() == []
