from __future__ import annotations

import subprocess
import sys
import time

import pytest

from ipc.clock import NS_PER_S, ManualClock, MonotonicClock
from tests.support import ROOT


def test_a_manual_clock_stands_still_until_moved(clock: ManualClock) -> None:
    assert clock.now_ns() == clock.now_ns() == NS_PER_S

    clock.advance_ms(20)
    clock.advance_ms(0.5)

    assert clock.now_ns() == NS_PER_S + 20_500_000


def test_a_manual_clock_refuses_to_go_back(clock: ManualClock) -> None:
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance_ms(-1)

    assert clock.now_ns() == NS_PER_S


def test_the_machines_clock_is_the_monotonic_one() -> None:
    before = time.monotonic_ns()

    now = MonotonicClock().now_ns()

    assert before <= now <= time.monotonic_ns()


def test_all_processes_of_a_machine_read_the_same_clock() -> None:
    clock = MonotonicClock()
    code = "from ipc.clock import MonotonicClock; print(MonotonicClock().now_ns())"

    before = clock.now_ns()
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert before < int(run.stdout) < clock.now_ns()
