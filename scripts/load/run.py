"""A load test from the first call to the last: ramp, windows, and what was seen in them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from scripts.benchmarks import echo, recording
from scripts.load.result import Call, Seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripts.benchmarks.recording import CallerProcess
    from scripts.load.target import Target

Mode = Literal["talk", "hear", "both", "echo"]
PROBES = 3
BATCH_S = 5.0
AT_ONCE = 10
SETTLE_S = 0.5
BREATHS, BREATH_S = 5, 0.2
WINDOW_S, ECHO_WINDOW_S = 20.0, 120.0
MAX_NOTES = 1_500_000
"""Packets of one window: the callers can note two million."""
STEP_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do; times in s."""

    target: Target
    calls: int
    ramp_s: float
    duration_s: float
    mode: Mode
    bot: str = ""

    @property
    def window_s(self) -> float:
        """How long packets are noted before they become numbers."""
        # Between windows the callers stall for a moment, which an echo would never catch up with.
        most_s = ECHO_WINDOW_S if self.mode == "echo" else WINDOW_S
        return min(self.duration_s, most_s, MAX_NOTES / (self.calls * 50 * 1.5))


def run(plan: Plan, progress: Callable[[str, float], None]) -> Seen:
    """Carry it out. `progress` hears of the calls made and of the seconds measured.

    Raises CommandFailed when the callers' own process fails.
    """
    seen = Seen(plan.mode, plan.calls)
    with recording.callers(address=plan.target.local_address) as callers:
        if plan.mode == "hear":
            callers.speak(False)
        _ramp(plan, callers, progress)
        seen.calls = [Call(**call) for call in callers.timings()]
        if not seen.connected:
            return seen
        time.sleep(SETTLE_S)
        if plan.mode == "echo":
            _take_breaths(callers)
        _measure(plan, callers, seen, progress)
        seen.calls = [Call(**call) for call in callers.timings()]
        seen.ended = max(0, len(seen.connected) - seen.live)
        callers.hang_up()
    return seen


def _ramp(plan: Plan, callers: CallerProcess, progress: Callable[[str, float], None]) -> None:
    """Place the calls; the first alone: when it fails, there is no use in the others."""
    gap_ms = plan.ramp_s * 1000 / plan.calls
    batch = max(1, int(BATCH_S * 1000 / gap_ms)) if gap_ms else AT_ONCE
    data = {"bot": plan.bot} if plan.bot else {}
    made = 0
    while made < plan.calls:
        count = 1 if not made else min(batch, plan.calls - made)
        began = time.monotonic()
        probes = PROBES if plan.mode == "echo" else 0
        outcome = callers.call(
            plan.target.url,
            count,
            gap_ms=gap_ms,
            probes=max(0, min(probes - made, count)),
            request_data=data,
            allow_failures=True,
        )
        if not made and outcome["failed"]:
            return
        made += count
        progress("calls", made)
        left_s = count * gap_ms / 1000 - (time.monotonic() - began)
        if left_s > 0 and made < plan.calls:
            time.sleep(left_s)


def _take_breaths(callers: CallerProcess) -> None:
    """Fall silent for a moment, some times.

    Placing calls holds up the speech of those that are there already, and what then comes at
    once is delay that an echo keeps until it can catch up in a pause.
    """
    callers.begin()  # so that the next one has little left to set up
    callers.end()
    for _ in range(BREATHS):
        callers.speak(False)
        time.sleep(BREATH_S)
        callers.speak(True)
        time.sleep(BREATH_S)
    time.sleep(SETTLE_S)


def _measure(
    plan: Plan, callers: CallerProcess, seen: Seen, progress: Callable[[str, float], None]
) -> None:
    done_s = 0.0
    while plan.duration_s - done_s > 0.01:
        length_s = min(plan.window_s, plan.duration_s - done_s)
        callers.begin()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < length_s:
            progress("seconds", done_s + passed)
            time.sleep(min(STEP_S, length_s - passed))
        window = callers.end()
        done_s += length_s
        progress("seconds", done_s)
        seen.add_window(window.streams, window.seconds, window.lateness_ns)
        seen.sent += window.facts["sent"]
        seen.overflow += window.facts["overflow"]
        seen.live = window.facts["live"]
        if plan.mode == "echo":
            took, packets = echo.delays_ms(window)
            seen.echo_ms.add(took)
            seen.echo_packets += packets
