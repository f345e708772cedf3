"""A processor: what it handles first, what waits, and where its faults go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from engine.transports.processors import (
    FrameDirection,
    FrameProcessor,
    FrameProcessorSetup,
    SystemClock,
    TaskManager,
    frame_queue,
)
from ipc.errors import StateError
from ipc.frames import (
    BotSpeakingFrame,
    EndFrame,
    ErrorCategory,
    ErrorFrame,
    Frame,
    FrameProcessorPauseFrame,
    FrameProcessorResumeFrame,
    OutputTransportReadyFrame,
    StartFrame,
    TextFrame,
    UserSpeakingFrame,
)
from tests.support import until
from tests.unit.engine.transports.processors.row import DOWN, UP, Noting, running

if TYPE_CHECKING:
    from typing import Any


async def test_frames_are_handled_in_order_by_each_processor_in_turn() -> None:
    first, second = Noting(), Noting()

    async with running(first, second) as task:
        await task.queue_frames([TextFrame(word) for word in "abc"])
        await until(lambda: len(second.texts()) == 3)

    assert first.texts() == second.texts() == ["a", "b", "c"]


async def test_a_system_frame_is_handled_while_a_queued_one_is_held_up() -> None:
    slow, last = Noting(held=TextFrame), Noting()

    async with running(slow, last) as task:
        await task.queue_frames([TextFrame("a"), TextFrame("b"), UserSpeakingFrame()])
        await until(lambda: "UserSpeakingFrame" in last.kinds())
        assert last.texts() == []
        slow.gate.set()
        await until(lambda: last.texts() == ["a", "b"])


async def test_the_start_is_handled_before_whatever_came_earlier() -> None:
    first, last = Noting(), Noting()
    await last.queue_frame(UserSpeakingFrame())
    await last.queue_frame(TextFrame("early"))
    await last.queue_frame(BotSpeakingFrame())

    async with running(first, last):
        await until(lambda: last.texts())

    assert last.kinds()[0] == "StartFrame"
    assert last.kinds()[1:3] == ["UserSpeakingFrame", "BotSpeakingFrame"]


async def test_queued_frames_wait_until_the_start_is_handled() -> None:
    slow = Noting(held=StartFrame)
    setup = FrameProcessorSetup(clock=SystemClock(), task_manager=TaskManager())
    await slow.setup(setup)

    await slow.queue_frame(TextFrame("early"))
    await slow.queue_frame(StartFrame())
    await until(lambda: slow.began)
    assert [type(frame).__name__ for frame in slow.began] == ["StartFrame"]
    slow.gate.set()
    await until(lambda: slow.texts())

    await slow.cleanup()
    assert setup.task_manager.current_tasks() == []


async def test_a_queued_frame_never_overtakes_a_system_frame_that_came_before_it() -> None:
    slow, last = Noting(held=UserSpeakingFrame), Noting()

    async with running(slow, last) as task:
        await task.queue_frames([TextFrame("a"), UserSpeakingFrame(), TextFrame("b")])
        await until(lambda: last.texts() and slow.has_queued_frame(TextFrame))
        slow.gate.set()
        await until(lambda: len(last.texts()) == 2)

    assert last.kinds()[1:4] == ["TextFrame", "UserSpeakingFrame", "TextFrame"]


async def test_frames_also_travel_upstream() -> None:
    first, last = Noting(), Noting()

    async with running(first, last) as task:
        await task.queue_frame(TextFrame("up"), UP)
        await until(lambda: first.texts())

    assert last.texts() == ["up"]


async def test_a_broadcast_goes_both_ways_as_a_pair() -> None:
    first, middle, last = Noting(), Noting(), Noting()

    async with running(first, middle, last):
        await middle.broadcast_frame(TextFrame, text="both")
        await until(lambda: first.texts() and last.texts())

    up, down = first.seen[-2], last.seen[-2]
    assert isinstance(up, TextFrame)
    assert isinstance(down, TextFrame)
    assert (up.broadcast_sibling_id, down.broadcast_sibling_id) == (down.id, up.id)


async def test_a_copy_that_is_broadcast_keeps_all_but_its_identity() -> None:
    first, middle, last = Noting(), Noting(), Noting()
    frame = TextFrame("both")
    frame.metadata["why"] = "test"
    frame.skip_tts = True
    frame.transport_destination = "stage"

    async with running(first, middle, last):
        await middle.broadcast_frame_instance(frame)
        await until(lambda: first.texts() and last.texts())

    copy = last.seen[-2]
    assert isinstance(copy, TextFrame)
    assert copy.id != frame.id
    assert (copy.text, copy.skip_tts, copy.metadata) == ("both", True, {"why": "test"})
    assert copy.transport_destination == "stage"


async def test_a_fault_while_handling_becomes_an_error_upstream_and_the_next_frame_is_handled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Noting):
        async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
            await super().process_frame(frame, direction)
            if isinstance(frame, TextFrame) and frame.text == "bad":
                raise RuntimeError("cannot read that")

    first, broken = Noting(), Broken()

    async with running(first, broken) as task:
        await task.queue_frames([TextFrame("bad"), TextFrame("good")])
        await until(lambda: "ErrorFrame" in first.kinds() and "good" in broken.texts())

    error = next(frame for frame in first.seen if isinstance(frame, ErrorFrame))
    assert "cannot read that" in error.error
    assert error.processor is broken
    assert isinstance(error.exception, RuntimeError)
    assert error.category is ErrorCategory.UNKNOWN
    assert broken.is_usable
    assert f"({__file__}:" in caplog.text


async def test_a_permanent_error_makes_a_processor_unusable_once() -> None:
    only, told = Noting(), []
    only.add_event_handler("on_usable_changed", lambda _, usable: told.append(usable))
    only.add_event_handler("on_error", lambda _, error: told.append(error.category))

    await only.push_error("wrong key", category=ErrorCategory.AUTHENTICATION)
    await only.push_error("wrong key", category=ErrorCategory.AUTHENTICATION)
    await only.set_usable(True)
    await only.cleanup()

    assert told.count(ErrorCategory.AUTHENTICATION) == 2
    assert [one for one in told if isinstance(one, bool)] == [False, True]


async def test_a_callback_is_awaited_once_the_frame_is_handled() -> None:
    only, done = Noting(), []

    async def handled(by: FrameProcessor, frame: Frame, direction: FrameDirection) -> None:
        done.append((by, frame in only.seen, direction))

    async with running(only):
        await only.queue_frame(TextFrame("a"), DOWN, handled)
        await until(lambda: done)

    assert done == [(only, True, DOWN)]


async def test_handlers_see_each_frame_before_and_after() -> None:
    only: Noting = Noting()
    seen: list[str] = []
    for event in ("before_process", "after_process", "before_push", "after_push"):
        only.add_event_handler(
            f"on_{event}_frame",
            lambda _, frame, event=event: (
                seen.append(event) if isinstance(frame, TextFrame) else None
            ),
        )

    async with running(only) as task:
        await task.queue_frame(TextFrame("a"))
        await until(lambda: len(seen) == 4)

    assert seen == ["before_process", "before_push", "after_push", "after_process"]


async def test_a_paused_processor_keeps_queued_frames_and_goes_on_where_it_was() -> None:
    only = Noting()

    async with running(only) as task:
        await task.queue_frames([TextFrame("a"), FrameProcessorPauseFrame(only)])
        await task.queue_frames([TextFrame("b"), TextFrame("c"), UserSpeakingFrame()])
        await until(
            lambda: "UserSpeakingFrame" in only.kinds() and only.has_queued_frame(TextFrame)
        )
        assert only.texts() == ["a"]
        await task.queue_frame(FrameProcessorResumeFrame(only))
        await until(lambda: only.texts() == ["a", "b", "c"])


async def test_another_processors_pause_means_nothing_here() -> None:
    first, last = Noting(), Noting()

    async with running(first, last) as task:
        await task.queue_frames([FrameProcessorPauseFrame(first), TextFrame("a")])
        await until(lambda: first.has_queued_frame(TextFrame))
        await last.queue_frame(TextFrame("b"))
        await until(lambda: last.texts() == ["b"])


@pytest.mark.parametrize("comes", [True, False])
async def test_all_frames_wait_until_it_is_ready_or_time_is_up(comes: bool) -> None:
    only, ready = Noting(), asyncio.Event()

    async with running(only) as task:
        await only.pause_processing_all_frames_until(ready.wait, timeout=60 if comes else 0.05)
        await task.queue_frames([UserSpeakingFrame(), TextFrame("a")])
        await until(lambda: only.has_queued_frame(TextFrame) or not comes)
        assert only.texts() == [] or not comes
        if comes:
            ready.set()
        await until(lambda: only.texts() and "UserSpeakingFrame" in only.kinds())


async def test_a_full_neighbour_is_an_error_frame_not_a_hole_in_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frame_queue, "ROOM_S", 0.01)
    first, full = Noting(), Noting(held=TextFrame)
    full._queued = frame_queue.FrameQueue(max_frames=1)

    errors: list[ErrorFrame] = []

    async with running(first, full) as task:
        task.add_event_handler("on_pipeline_error", lambda _, error: errors.append(error))
        await task.queue_frame(TextFrame("a"))
        await until(lambda: len(full.began) == 2)
        await task.queue_frames([TextFrame("b"), TextFrame("c")])
        await until(lambda: errors)
        assert errors[0].processor is first
        full.gate.set()
        await until(lambda: full.texts() == ["a", "b"])


async def test_a_processor_knows_its_surroundings() -> None:
    first, last = Noting(), Noting()

    async with running(first, last) as task:
        assert (first.next, last.previous) == (last, first)
        assert first.pipeline_worker is task is first.pipeline_task
        assert first.get_event_loop() is asyncio.get_running_loop()
        assert first.get_clock() is first.processor_setup.clock
        assert first.processors == first.entry_processors == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda one: one.processor_setup,
        lambda one: one.pipeline_worker,
        lambda one: one.task_manager,
        lambda one: one.get_clock(),
        lambda one: one.get_event_loop(),
    ],
)
def test_before_setup_surroundings_are_a_clear_error(ask: Any) -> None:
    with pytest.raises(StateError, match="is not set up"):
        ask(FrameProcessor())


async def test_a_frame_that_nobody_is_there_for_is_dropped() -> None:
    alone = Noting()

    await alone.push_frame(OutputTransportReadyFrame(), UP)
    await alone.push_frame(EndFrame())

    assert alone.seen == []
