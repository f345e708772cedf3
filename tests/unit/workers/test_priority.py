"""The ladder of priorities: the best rung that is permitted, and which one it was."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from workers import priority

if TYPE_CHECKING:
    from ipc.clock import ManualClock


class Machine:
    """Permits only some of the rungs."""

    def __init__(self, patch: pytest.MonkeyPatch, *, fifo: bool, nice: bool) -> None:
        self.nice = 0
        self.scheduler: tuple[Any, ...] = ()
        self.limits: list[tuple[int, int]] = []

        def set_scheduler(*arguments: Any) -> None:
            if not fifo:
                raise PermissionError
            self.scheduler = arguments

        def set_priority(_which: int, _who: int, value: int) -> None:
            if not nice:
                raise PermissionError
            self.nice = value

        patch.setattr(os, "sched_setscheduler", set_scheduler)
        patch.setattr(os, "setpriority", set_priority)
        patch.setattr(os, "getpriority", lambda _which, _who: self.nice)
        patch.setattr(resource, "setrlimit", lambda _which, limits: self.limits.append(limits))


pytestmark = pytest.mark.skipif(not hasattr(os, "SCHED_FIFO"), reason="no real-time scheduling")


def test_real_time_comes_first_and_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, fifo=True, nice=True)
    assert priority.raise_priority("auto") == "fifo 5"
    assert machine.scheduler[1] == os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    assert machine.scheduler[2].sched_priority == 5
    assert machine.nice == 0
    assert [soft for soft, _ in machine.limits] == [priority.SPIN_LIMIT_US]


def test_then_a_better_nice_value(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, fifo=False, nice=True)
    assert priority.raise_priority("auto") == "nice -10"
    assert machine.nice == -10


def test_then_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, fifo=False, nice=False)
    assert priority.raise_priority("auto") == "none"


def test_a_user_who_wants_none_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, fifo=True, nice=True)
    assert priority.raise_priority("none") == "none"
    assert (machine.scheduler, machine.nice, machine.limits) == ((), 0, [])


def test_a_process_that_says_it_has_a_rung_really_stands_on_it() -> None:
    program = (
        "import os, threading\nfrom workers.priority import raise_priority\n"
        "print(raise_priority('auto'))\n"
        "print(os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO)\n"
        "print(os.getpriority(os.PRIO_PROCESS, 0))\n"
        "seen = []\n"
        "thread = threading.Thread(target=lambda: seen.append(os.sched_getscheduler(0)))\n"
        "thread.start(); thread.join()\n"
        "print(seen[0] == os.SCHED_OTHER)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout.split("\n")
    rung, is_fifo, nice, thread_is_normal = out[:4]
    assert is_fifo == str(rung.startswith("fifo"))
    if rung.startswith("nice"):
        assert rung == f"nice {nice}"
    assert thread_is_normal == "True"


class Thread:
    """How often it slept, by itself and because it was made to."""

    def __init__(self, patch: pytest.MonkeyPatch, *, counted: bool = True) -> None:
        self.by_itself = self.made_to = 0
        patch.setattr(priority, "_sleeps", lambda: self.by_itself + self.made_to if counted else -1)
        patch.setattr("workers.priority.time.sleep", self.sleep)

    def sleep(self, _seconds: float) -> None:
        self.made_to += 1


def breathe(clock: ManualClock, thread: Thread, *, sleeps_each: int) -> None:
    """For ten seconds, 20 times a second; it sleeps by itself in each so-manieth; 0: in none."""
    breath = priority.Breath(clock.now_ns())
    for turn in range(200):
        if sleeps_each and turn % sleeps_each == 0:
            thread.by_itself += 1
        breath.take(clock.now_ns())
        clock.advance_ms(50)


@pytest.mark.parametrize(
    ("sleeps_each", "counted", "made_to"),
    [
        pytest.param(0, True, 39, id="never idle"),
        pytest.param(5, True, 0, id="idle now and then"),
        pytest.param(0, False, 0, id="nobody counts"),
    ],
)
def test_who_never_sleeps_is_made_to_several_times_a_second(
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    sleeps_each: int,
    counted: bool,
    made_to: int,
) -> None:
    thread = Thread(monkeypatch, counted=counted)
    breathe(clock, thread, sleeps_each=sleeps_each)
    assert thread.made_to == made_to


@pytest.mark.parametrize("breathes", [True, False])
def test_the_kernel_ends_who_spins_and_never_sleeps_but_not_who_takes_breath(
    breathes: bool,
) -> None:
    program = (
        "import time\nfrom workers import priority\n"
        "priority.SPIN_LIMIT_US = 500_000\n"
        "print(priority.raise_priority('auto'), flush=True)\n"
        "breath = priority.Breath(time.monotonic_ns())\n"
        f"end = time.thread_time() + {0.8 if breathes else 2.0}\n"
        "while time.thread_time() < end:\n"
        f"    if {breathes}: breath.take(time.monotonic_ns())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    if done.stdout.startswith("fifo"):
        assert done.returncode == (0 if breathes else -signal.SIGXCPU), done.stderr
    else:
        assert done.returncode == 0
