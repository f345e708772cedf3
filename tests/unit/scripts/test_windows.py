"""When a window counts: punctual callers, a machine that did not stand still, packets for all."""

from __future__ import annotations

import numpy as np

from scripts.benchmarks import wire
from scripts.benchmarks.freezes import Freezes
from scripts.benchmarks.recording import Recording
from scripts.benchmarks.sessions import Point
from scripts.benchmarks.windows import Window

MS = 1_000_000
FRAME_NS = 20 * MS
BEGIN_NS = 10**12
OFFSET_NS = 1_800_000_000_000_000_000
PACKETS = 100


def window(
    *,
    own_late_ms: float = 0.1,
    late_at: int | None = None,
    frozen_ms: list[list[int]] | None = None,
) -> Window:
    """2 s of one caller; packet `late_at` is 9 ms late; spans in ms since the beginning."""
    numbers = np.arange(PACKETS, dtype=np.int64)
    arrival = OFFSET_NS + BEGIN_NS + MS + numbers * FRAME_NS
    if late_at is not None:
        arrival[late_at] += 9 * MS
    stream = wire.Stream(0, numbers, numbers * 960, arrival, np.full(PACKETS, 100, np.int64))
    freezes = Freezes()
    if frozen_ms is not None:
        freezes.spans = BEGIN_NS + np.array(frozen_ms, np.int64).reshape(-1, 2) * MS
    seen = Recording(
        streams=[stream],
        lateness_ns=np.full(PACKETS, round(own_late_ms * MS), np.int64),
        due_ns=BEGIN_NS + numbers * FRAME_NS,
        begin=wire.ClockOffset(BEGIN_NS, OFFSET_NS, 0),
        end=wire.ClockOffset(BEGIN_NS + 2000 * MS, OFFSET_NS, 0),
        probes=[],
        facts={},
    )
    cpu = {"engine": 0.01, "workers": 0.1, "bots": 0.04}
    return Window(seen, 1, cpu, 1, freezes)


def test_a_quiet_window_counts() -> None:
    quiet = window(frozen_ms=[])
    assert quiet.void == ""
    assert quiet.held
    assert quiet.pace.gaps == 0


def test_late_callers_make_it_void() -> None:
    assert "callers late 6.0 ms" in window(own_late_ms=6.0, frozen_ms=[]).void


def test_a_machine_that_mostly_stood_still_makes_it_void() -> None:
    spans = [[at, at + 19] for at in range(0, 2000, 20)]
    assert "stood still" in window(frozen_ms=spans).void


def test_a_packet_that_a_freeze_held_up_is_no_gap_but_stays_in_the_raw_figures() -> None:
    frozen = window(late_at=50, frozen_ms=[[995, 1010]])
    assert frozen.void == ""
    assert (frozen.pace.gaps, frozen.raw_pace.gaps) == (0, 1)
    assert "1 gaps" in frozen.about_freezes


def test_without_a_witness_nothing_is_left_out() -> None:
    blind = window(late_at=50)
    assert blind.pace.gaps == 1
    assert "nobody watched" in blind.about_freezes


def test_cpu_is_per_session_and_frame_and_by_part() -> None:
    quiet = window(frozen_ms=[])
    assert round(quiet.cpu_us("engine", "workers")) == 1100
    assert round(quiet.cpu_us()) == 1500
    assert quiet.core_percent("engine") == 0.5


def test_a_load_that_was_not_held_has_no_cpu_figure() -> None:
    quiet = window(frozen_ms=[])
    held = Point("Backbeat", "talk", "", 1, quiet)
    starved = Point(
        "Backbeat", "talk", "", 2, Window(quiet.recording, 2, quiet.cpu_s, 1, Freezes())
    )
    assert held.total_us is not None
    assert starved.total_us is None
