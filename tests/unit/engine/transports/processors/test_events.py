"""Objects with events: who is called, with what, and what becomes of those who fail."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from engine.transports.processors import BaseObject, TaskManager, events
from ipc.errors import StateError
from tests.support import until


class Bell(BaseObject):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._register_event_handler("on_ring")
        self._register_event_handler("on_press", sync=True)

    async def ring(self, *args: Any) -> None:
        await self._call_event_handler("on_ring", *args)

    async def press(self, *args: Any) -> None:
        await self._call_event_handler("on_press", *args)


async def test_functions_and_coroutines_are_called_with_the_object_and_the_arguments() -> None:
    bell, got = Bell(), []

    @bell.event_handler("on_ring")
    def plain(*args: Any) -> None:
        got.append(("plain", *args))

    @bell.event_handler("on_ring")
    async def awaited(owner: Bell, loud: int) -> None:
        got.append(("awaited", owner, loud))

    await bell.ring(3)
    await until(lambda: len(got) == 2)

    assert got == [("plain", bell, 3), ("awaited", bell, 3)]
    await bell.cleanup()


async def test_a_handler_gets_as_many_arguments_as_it_accepts() -> None:
    bell = Bell()
    got: list[tuple[Any, ...]] = []
    bell.add_event_handler("on_press", lambda: got.append(()))
    bell.add_event_handler("on_press", lambda owner: got.append((owner,)))
    bell.add_event_handler("on_press", lambda owner, a, b=9: got.append((owner, a, b)))
    bell.add_event_handler("on_press", lambda owner, a, b, c=7: got.append((owner, a, b, c)))

    await bell.press(1, 2)

    assert got == [(), (bell,), (bell, 1, 2), (bell, 1, 2, 7)]


async def test_a_slow_handler_delays_neither_the_event_nor_other_handlers() -> None:
    bell, gate, got = Bell(), asyncio.Event(), []

    @bell.event_handler("on_ring")
    async def slow() -> None:
        await gate.wait()
        got.append("slow")

    bell.add_event_handler("on_ring", lambda: got.append("quick"))

    await bell.ring()
    await until(lambda: got)

    assert got == ["quick"]
    gate.set()
    await bell.cleanup()
    assert got == ["quick", "slow"]


async def test_handlers_of_a_sync_event_are_done_when_the_event_is() -> None:
    bell, got = Bell(), []

    @bell.event_handler("on_press")
    async def one() -> None:
        got.append(asyncio.current_task())

    await bell.press()

    assert got == [asyncio.current_task()]


@pytest.mark.parametrize("event", ["on_ring", "on_press"])
async def test_what_a_handler_raises_is_logged_with_file_and_line_and_goes_no_further(
    event: str, caplog: pytest.LogCaptureFixture
) -> None:
    bell, got = Bell(), []

    @bell.event_handler(event)
    async def broken() -> None:
        raise RuntimeError("no clapper")

    bell.add_event_handler(event, lambda: got.append("next"))

    await bell.ring()
    await bell.press()
    await bell.cleanup()

    assert got == ["next"]
    assert f"handler of {event} failed: RuntimeError: no clapper ({__file__}:" in caplog.text


async def test_an_unknown_event_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    bell = Bell(name="door")

    bell.add_event_handler("on_knock", lambda: None)
    bell.remove_event_handler("on_knock", lambda: None)
    await bell._call_event_handler("on_knock")

    assert [record.getMessage() for record in caplog.records] == ["door: has no event on_knock"]


async def test_a_removed_handler_is_called_no_more() -> None:
    bell, got = Bell(), []

    def note() -> None:
        got.append(1)

    bell.add_event_handler("on_press", note)
    bell.remove_event_handler("on_press", note)
    bell.remove_event_handler("on_press", note)
    await bell.press()

    assert got == []


async def test_cleanup_ends_a_handler_that_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "HANDLERS_S", 0.01)
    bell, ended = Bell(), asyncio.Event()

    @bell.event_handler("on_ring")
    async def stuck() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await bell.ring()
    await bell.cleanup()

    assert ended.is_set()
    assert "did not end" in caplog.text


async def test_a_handler_may_clean_up_the_object_that_called_it() -> None:
    bell, done = Bell(), asyncio.Event()

    @bell.event_handler("on_ring")
    async def last(owner: Bell) -> None:
        await owner.cleanup()
        done.set()

    await bell.ring()

    await asyncio.wait_for(done.wait(), 30)


async def test_handlers_that_hang_do_not_pile_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "MAX_CALLS", 2)
    bell, gate, got = Bell(), asyncio.Event(), []

    @bell.event_handler("on_ring")
    async def stuck(owner: Bell, number: int) -> None:
        await gate.wait()
        got.append(number)

    for number in range(4):
        await bell.ring(number)
    gate.set()
    await bell.cleanup()

    assert got == [0, 1]
    assert caplog.text.count("on_ring is lost") == 2


def test_objects_are_numbered_and_named_after_their_class() -> None:
    first, second, named = Bell(), Bell(), Bell(name="door")

    kind, _, number = first.name.partition("#")
    assert kind == "Bell"
    assert second.name == f"Bell#{int(number) + 1}"
    assert str(named) == named.name == "door"
    assert first.id < second.id < named.id


def test_an_argument_that_nobody_takes_is_refused() -> None:
    with pytest.raises(TypeError):
        Bell(loudness=3)


def test_tasks_need_a_task_manager() -> None:
    with pytest.raises(StateError, match="not set up") as error:
        _ = Bell().task_manager

    assert error.value.code == "not_set_up"


async def test_a_task_that_fails_is_logged_with_file_and_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager = TaskManager()
    bell = Bell(name="door")
    await bell.setup(manager)

    async def fails() -> None:
        raise RuntimeError("rust")

    await bell.create_task(fails())

    assert f"door::fails: RuntimeError: rust ({__file__}:" in caplog.text
    assert manager.current_tasks() == []


async def test_cancelling_waits_for_the_end_of_the_task() -> None:
    manager, ended = TaskManager(), asyncio.Event()

    async def tidy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    begun = manager.create_task(tidy(), "tidy")
    never = manager.create_task(tidy(), "never began")
    await manager.cancel_task(never)
    assert not ended.is_set()

    later = manager.create_task(asyncio.Event().wait(), "later")
    await until(lambda: len(manager.current_tasks()) == 2)
    await manager.cancel_task(begun)
    await manager.cancel_task(later)

    assert ended.is_set()
    assert manager.current_tasks() == []


async def test_a_task_that_ignores_its_cancellation_does_not_hold_the_others_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager, gate = TaskManager(), asyncio.Event()
    begun = asyncio.Event()

    async def stubborn() -> None:
        begun.set()
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue

    task = manager.create_task(stubborn(), "stubborn")
    await begun.wait()

    await manager.cancel_task(task, timeout=0.01)

    assert manager.current_tasks() == [task]
    assert "stubborn: still running" in caplog.text
    gate.set()
    await asyncio.wait({task})


async def test_a_task_does_not_wait_for_its_own_end(caplog: pytest.LogCaptureFixture) -> None:
    manager = TaskManager()

    async def itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        await manager.cancel_task(task)

    task = manager.create_task(itself(), "itself")
    await asyncio.wait_for(task, 30)

    assert not task.cancelled()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
