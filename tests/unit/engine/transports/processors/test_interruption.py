"""Interruptions: what is dropped, what survives, and that nothing holds them up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from engine.transports.processors import processor as processor_module
from ipc.frames import (
    DataFrame,
    EndFrame,
    Frame,
    FrameProcessorPauseFrame,
    InterruptionFrame,
    InterruptionTaskFrame,
    TextFrame,
    UninterruptibleFrame,
)
from tests.support import until
from tests.unit.engine.transports.processors.row import UP, Noting, running

if TYPE_CHECKING:
    import pytest

    from engine.transports.processors import FrameDirection


class Promise(DataFrame, UninterruptibleFrame):
    """Must be kept."""


async def test_what_is_handled_and_what_waits_is_dropped() -> None:
    slow, last = Noting(held=TextFrame), Noting()

    async with running(slow, last) as task:
        await task.queue_frames([TextFrame("a"), TextFrame("b")])
        await until(lambda: slow.has_queued_frame(TextFrame))
        await task.queue_frame(InterruptionFrame())
        await until(lambda: "InterruptionFrame" in last.kinds())
        slow.gate.set()
        await task.queue_frame(TextFrame("c"))
        await until(lambda: last.texts())

    assert last.texts() == ["c"]
    assert slow.texts() == ["c"]


async def test_what_comes_behind_it_stays_behind_it_through_all_processors() -> None:
    row = [Noting() for _ in range(4)]

    async with running(*row) as task:
        await task.queue_frames(
            frame for word in "abc" for frame in (InterruptionFrame(), TextFrame(word))
        )
        await until(lambda: row[-1].kinds().count("InterruptionFrame") == 3)
        await task.queue_frame(TextFrame("d"))
        await until(lambda: "d" in row[-1].texts())

    assert row[-1].texts()[-2:] == ["c", "d"]


async def test_uninterruptible_frames_wait_on_behind_it() -> None:
    slow, last = Noting(held=TextFrame), Noting()
    kept = TextFrame("kept")
    kept.interruptible = False

    async with running(slow, last, ends=False) as task:
        await task.queue_frames([TextFrame("a"), Promise(), TextFrame("b"), kept, EndFrame()])
        await until(lambda: slow.has_queued_frame(EndFrame))
        await task.queue_frame(InterruptionFrame())
        await until(lambda: "InterruptionFrame" in last.kinds())
        slow.gate.set()

    assert last.kinds()[1:] == ["InterruptionFrame", "Promise", "TextFrame", "EndFrame"]
    assert last.texts() == ["kept"]


async def test_an_uninterruptible_frame_that_is_being_handled_is_handled_to_its_end() -> None:
    slow, last = Noting(held=Promise), Noting()

    async with running(slow, last) as task:
        await task.queue_frames([Promise(), TextFrame("a")])
        await until(lambda: slow.has_queued_frame(TextFrame))
        await task.queue_frame(InterruptionFrame())
        await until(lambda: "InterruptionFrame" in last.kinds())
        assert not slow.has_queued_frame(TextFrame)
        slow.gate.set()
        await until(lambda: "Promise" in last.kinds())

    assert last.texts() == []


async def test_a_processor_interrupts_both_ways_and_drops_what_it_holds_itself() -> None:
    class Interrupter(Noting):
        async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
            await super().process_frame(frame, direction)
            if isinstance(frame, TextFrame) and frame.text == "stop":
                await self.broadcast_interruption()

    first, middle, last = Noting(), Interrupter(held=TextFrame), Noting()

    async with running(first, middle, last) as task:
        await task.queue_frames([TextFrame("stop"), TextFrame("dropped")])
        await until(lambda: middle.has_queued_frame(TextFrame))
        middle.gate.set()
        await until(
            lambda: "InterruptionFrame" in first.kinds() and "InterruptionFrame" in last.kinds()
        )
        await task.queue_frame(TextFrame("after"))
        await until(lambda: "after" in middle.texts())

    assert middle.texts() == ["stop", "after"]


async def test_a_request_that_comes_out_upstream_interrupts_the_whole_pipeline() -> None:
    first, slow = Noting(), Noting(held=TextFrame)

    async with running(first, slow) as task:
        await task.queue_frames([TextFrame("a")])
        await until(lambda: len(slow.began) == 2)
        await slow.push_frame(InterruptionTaskFrame(), UP)
        await until(lambda: "InterruptionFrame" in slow.kinds())
        slow.gate.set()
        await task.queue_frame(TextFrame("b"))
        await until(lambda: "b" in slow.texts())

    assert slow.texts() == ["b"]


async def test_an_interruption_ends_a_pause() -> None:
    only = Noting()

    async with running(only) as task:
        await task.queue_frames([FrameProcessorPauseFrame(only), TextFrame("a")])
        await until(lambda: only.has_queued_frame(TextFrame))
        await task.queue_frames([InterruptionFrame(), TextFrame("b")])
        await until(lambda: "b" in only.texts())


async def test_a_handler_that_ignores_its_cancellation_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processor_module, "INTERRUPT_S", 0.01)

    class Stubborn(Noting):
        async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
            while isinstance(frame, TextFrame) and not self.gate.is_set():
                try:
                    await self.gate.wait()
                except asyncio.CancelledError:
                    continue
            await super().process_frame(frame, direction)

    stubborn, last = Stubborn(), Noting()

    async with running(stubborn, last) as task:
        await task.queue_frames([TextFrame("a")])
        await until(lambda: stubborn._in_hand is not None)
        await task.queue_frames([InterruptionFrame(), Promise()])
        await until(lambda: "Promise" in last.kinds())
        stubborn.gate.set()
        await task.queue_frames([TextFrame("b"), TextFrame("c")])
        await until(lambda: "c" in last.texts())

    assert last.kinds().count("Promise") == 1
    assert last.texts().count("b") == last.texts().count("c") == 1
