"""Timers that are armed with a moment, not with a delay."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from ipc.clock import NS_PER_MS, NS_PER_S
from ipc.loop import new_runner
from tests.support import until
from workers import timer as timer_module
from workers.timer import LoopTimer, Timer, TimerFd, new_timer

if TYPE_CHECKING:
    from collections.abc import Callable

linux = pytest.mark.skipif(sys.platform != "linux", reason="timerfd is Linux's")
KINDS = [pytest.param(TimerFd, marks=linux), LoopTimer]
Kind = type[TimerFd] | type[LoopTimer]


async def fires(kind: Kind, *delays_ms: float) -> list[float]:
    """How many ms after its deadline the timer called, for each of `delays_ms` in turn."""
    loop = asyncio.get_running_loop()
    late_ms: list[float] = []
    done = loop.create_future()
    due = 0

    def next_one() -> None:
        nonlocal due
        due = time.monotonic_ns() + round(delays_ms[len(late_ms)] * NS_PER_MS)
        timer.arm(due)

    def fired() -> None:
        late_ms.append((time.monotonic_ns() - due) / NS_PER_MS)
        if len(late_ms) == len(delays_ms):
            done.set_result(None)
        else:
            next_one()

    timer = kind(loop, fired)
    try:
        next_one()
        async with asyncio.timeout(30):
            await done
    finally:
        timer.close()
    return late_ms


@pytest.mark.parametrize("kind", KINDS)
def test_it_never_calls_early_and_once_for_each_arming(kind: Kind) -> None:
    with new_runner() as runner:
        late_ms = runner.run(fires(kind, 3, 0.3, 7.7, 0.05, 2))
    assert len(late_ms) == 5
    # uvloop's own timers count in whole milliseconds and may begin one early.
    assert min(late_ms) >= (0 if kind is TimerFd else -1.5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_moment_that_has_passed_calls_at_once(kind: Kind) -> None:
    with new_runner() as runner:
        assert len(runner.run(fires(kind, -50, -0.001, -5_000))) == 3


@pytest.mark.parametrize("kind", KINDS)
async def test_arming_again_takes_the_place_of_the_first(kind: Kind) -> None:
    called: list[int] = []
    fired = asyncio.Event()

    def note() -> None:
        called.append(time.monotonic_ns())
        fired.set()

    timer = kind(asyncio.get_running_loop(), note)
    now_ns = time.monotonic_ns()
    timer.arm(now_ns + 3_600 * NS_PER_S)
    timer.arm(now_ns + NS_PER_MS)
    async with asyncio.timeout(30):
        await fired.wait()
    timer.close()
    assert len(called) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_moment_that_it_has_called_for_calls_again(kind: Kind) -> None:
    calls: list[None] = []
    timer = kind(asyncio.get_running_loop(), lambda: calls.append(None))
    due_ns = time.monotonic_ns()
    for times in (1, 2, 3):
        timer.arm(due_ns)
        await until(lambda: len(calls) == times)  # noqa: B023 - awaited here
    timer.close()


@linux
async def test_one_that_is_still_calls_again_for_the_moment_of_its_last_call() -> None:
    calls: list[None] = []
    timer = TimerFd(asyncio.get_running_loop(), lambda: calls.append(None))
    begin_ns = time.monotonic_ns()
    for step in (1, 2):
        timer.arm(begin_ns + step * NS_PER_MS)
        await until(lambda: len(calls) == step)  # noqa: B023 - awaited here
    await until(lambda: timer._step_ns == 0)
    timer.arm(begin_ns + 2 * NS_PER_MS)
    await until(lambda: len(calls) == 3)
    timer.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_closed_timer_calls_no_more_and_closes_twice(kind: Kind) -> None:
    called: list[None] = []
    timer = kind(asyncio.get_running_loop(), lambda: called.append(None))
    timer.arm(time.monotonic_ns())
    timer.close()
    timer.close()
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, later.set)
    await later.wait()
    assert called == []


@linux
async def test_even_steps_are_set_by_the_system_and_others_as_they_come() -> None:
    timer = TimerFd(asyncio.get_running_loop(), lambda: calls.append(time.monotonic_ns()))
    calls: list[int] = []
    settings: list[int] = []
    settime = timer._settime

    def count(*arguments: object) -> object:
        settings.append(due_ns)
        return settime(*arguments)

    timer._settime = count  # type: ignore[assignment]
    due_ns, late_ns = time.monotonic_ns(), []
    for step_ms in (1, 4, 4, 4, 4, 4, 0.5, 0.5, 2, 4):
        due_ns += round(step_ms * NS_PER_MS)
        timer.arm(due_ns)
        before = len(calls)
        async with asyncio.timeout(30):
            await until(lambda: len(calls) > before)  # noqa: B023 - awaited here
        late_ns.append(calls[-1] - due_ns)
    assert min(late_ns) >= 0, "never before its time"
    assert len(calls) == 10, "once for each arming"
    timer.close()
    assert len(settings) < 10 or max(late_ns) > 4 * NS_PER_MS, "unless the machine stood still"


@linux
async def test_a_deadline_in_place_of_one_that_has_not_passed_is_told_to_the_system() -> None:
    calls: list[int] = []
    timer = TimerFd(asyncio.get_running_loop(), lambda: calls.append(time.monotonic_ns()))
    begin_ns = time.monotonic_ns()
    for step in (1, 2):  # even steps, but nobody has been called yet
        timer.arm(begin_ns + step * 50 * NS_PER_MS)
    await until(lambda: bool(calls))
    assert calls[0] - begin_ns >= 100 * NS_PER_MS
    timer.close()


@linux
async def test_a_timer_that_nobody_arms_any_more_is_still() -> None:
    reads: list[int] = []
    timer = TimerFd(asyncio.get_running_loop(), lambda: None)
    begin_ns = time.monotonic_ns()
    for step in (1, 2, 3):
        timer.arm(begin_ns + step * NS_PER_MS)
        await until(lambda: not timer._armed)
    fired = timer._fired

    def note() -> None:
        fired()
        reads.append(time.monotonic_ns())

    asyncio.get_running_loop().add_reader(timer._fd, note)
    await until(lambda: timer._step_ns == 0)
    seen = len(reads)
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, later.set)
    await later.wait()
    assert len(reads) == seen <= 1
    timer.close()


@linux
async def test_a_timerfd_gives_its_descriptor_back() -> None:
    before = set(os.listdir("/proc/self/fd"))
    timer = TimerFd(asyncio.get_running_loop(), lambda: None)
    timer.close()
    assert set(os.listdir("/proc/self/fd")) - before == set()


@linux
async def test_where_the_system_refuses_a_timerfd_the_loop_keeps_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_loop: asyncio.AbstractEventLoop, _on_due: Callable[[], None]) -> Timer:
        raise OSError("no timerfd")

    timer = new_timer(asyncio.get_running_loop(), lambda: None)
    assert isinstance(timer, TimerFd)
    timer.close()
    monkeypatch.setattr(timer_module, "TimerFd", refuse)
    assert isinstance(new_timer(asyncio.get_running_loop(), lambda: None), LoopTimer)
