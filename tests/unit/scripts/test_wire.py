"""What the benchmarks make of packets: intervals, lateness, freezes, the void rule, two clocks."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.benchmarks import wire

MS = 1_000_000
FRAME_NS = 20 * MS
BEGIN_NS = 1_800_000_000_000_000_000


def stream(late_ms: list[float], *, sequence: list[int] | None = None) -> wire.Stream:
    """A stream whose packets come `late_ms` after their schedule."""
    count = len(late_ms)
    numbers = np.array(sequence if sequence is not None else range(count), np.int64)
    late = np.round(np.array(late_ms) * MS).astype(np.int64)
    return wire.Stream(
        caller=0,
        sequence=numbers,
        timestamp=numbers * wire.FRAME_TICKS,
        arrival_ns=BEGIN_NS + numbers * FRAME_NS + late,
        size=np.full(count, 100, np.int64),
    )


def note(caller: int, sequence: int, timestamp: int, ssrc: int, at_ns: int) -> bytes:
    header = struct.pack("!BBHII", 0x80, 96, sequence, timestamp, ssrc)
    return wire.NOTE.pack(header, 120, caller, struct.pack("@qq", *divmod(at_ns, 1_000_000_000)))


def notes(*packed: bytes) -> np.ndarray:
    return np.frombuffer(b"".join(packed), wire.NOTE_DTYPE)


def test_an_even_stream_has_no_error() -> None:
    pace = wire.pace([stream([0.0] * 100)])
    assert (pace.p50_ms, pace.p99_ms, pace.max_ms) == (0, 0, 0)
    assert (pace.late, pace.gaps, pace.lost, pace.skipped_ms) == (0, 0, 0, 0)


def test_one_late_packet_is_one_gap_and_two_errors() -> None:
    late = [0.0] * 100
    late[50] = 8.0
    pace = wire.pace([stream(late)])
    assert (pace.late, pace.gaps) == (1, 1)
    assert np.count_nonzero(wire.interval_errors_ms(stream(late)) > 7.9) == 2


def test_a_stall_that_is_caught_up_counts_every_late_packet_but_one_gap() -> None:
    late = [0.0] * 50 + [200.0 - 20 * n for n in range(10)] + [0.0] * 50
    pace = wire.pace([stream(late)])
    assert (pace.gaps, pace.late) == (1, 10)


def test_lost_packets_are_counted_and_no_interval_is_taken_across_them() -> None:
    seen = stream([0.0] * 4, sequence=[0, 1, 4, 5])
    assert wire.pace([seen]).lost == 2
    assert len(wire.interval_errors_ms(seen)) == 2


def test_audio_that_was_skipped_shows_in_the_rtp_clock() -> None:
    seen = stream([0.0] * 10)
    jumped = wire.Stream(
        0,
        seen.sequence,
        seen.timestamp + np.where(seen.sequence >= 5, 2 * wire.FRAME_TICKS, 0),
        seen.arrival_ns,
        seen.size,
    )
    assert wire.pace([jumped]).skipped_ms == 40


def test_a_freeze_leaves_out_what_it_held_up() -> None:
    late = [0.0] * 100
    late[50] = 8.0
    at = BEGIN_NS + 50 * FRAME_NS
    pace = wire.pace([stream(late)], np.array([[at - MS, at + 11 * MS]]))
    assert (pace.gaps, pace.late, pace.max_ms) == (0, 0, 0)
    assert 2 <= pace.frozen <= 4


def test_a_freeze_does_not_explain_a_hole_that_is_longer() -> None:
    late = [0.0] * 50 + [200.0 - 20 * n for n in range(10)] + [0.0] * 50
    at = BEGIN_NS + 53 * FRAME_NS
    pace = wire.pace([stream(late)], np.array([[at, at + 5 * MS]]))
    assert pace.gaps == 1
    assert pace.max_ms == pytest.approx(200)


def test_spans_are_merged_in_order() -> None:
    spans = np.array([[30, 40], [0, 10], [5, 20], [20, 25]])
    assert wire.merge(spans).tolist() == [[0, 25], [30, 40]]
    assert wire.merge(np.zeros((0, 2), np.int64)).shape == (0, 2)


@given(st.integers(0, 65535), st.integers(1, 400))
def test_sequence_numbers_count_on_where_they_wrap(first: int, count: int) -> None:
    numbers = np.arange(first, first + count, dtype=np.int64)
    assert wire.unwrap(numbers & 0xFFFF, 16).tolist() == numbers.tolist()


def test_notes_become_streams_by_caller_and_order() -> None:
    seen = wire.streams(
        notes(
            note(1, 65535, 10, 7, BEGIN_NS),
            note(0, 4, 5, 9, BEGIN_NS + 5),
            note(1, 1, 10 + 2 * 960, 7, BEGIN_NS + 3),
            note(1, 0, 10 + 960, 7, BEGIN_NS + 4),
            note(1, 0, 10 + 960, 7, BEGIN_NS + 9),
            note(1, 77, 10, 8, BEGIN_NS + 9),
        )
    )
    assert [one.caller for one in seen] == [0, 1]
    assert seen[1].sequence.tolist() == [65535, 65536, 65537]
    assert seen[1].arrival_ns.tolist() == [BEGIN_NS, BEGIN_NS + 4, BEGIN_NS + 3]


def test_a_run_with_late_callers_is_void() -> None:
    punctual = np.full(1000, MS // 10, np.int64)
    late = punctual.copy()
    late[:20] = 6 * MS
    assert not wire.is_void(punctual)
    assert wire.is_void(late)
    assert not wire.is_void(late, threshold_ms=7)


def test_a_run_of_which_nothing_is_known_is_void() -> None:
    assert wire.is_void(np.zeros(0, np.int64))


def test_lateness_of_callers_that_a_freeze_explains_does_not_count() -> None:
    due = np.array([0, 20 * MS, 40 * MS], np.int64)
    late = np.array([0, 9 * MS, 0], np.int64)
    frozen = np.array([[19 * MS, 29 * MS]], np.int64)
    assert wire.own_lateness_ns(late, due, frozen).max() == 0
    assert wire.own_lateness_ns(late, due, np.zeros((0, 2), np.int64)).max() == 9 * MS


def test_a_caller_without_packets_counts_as_nothing() -> None:
    assert wire.shares([stream([0.0] * 50)], 2, 50) == (0.0, 0.5)
    assert wire.shares([stream([0.0] * 60)], 1, 50) == (1.0, 1.0)


def test_real_time_becomes_monotonic_with_the_slew_between_two_offsets() -> None:
    start = wire.ClockOffset(monotonic_ns=1_000, offset_ns=BEGIN_NS, error_ns=50)
    end = wire.ClockOffset(monotonic_ns=1_000 + 10_000_000, offset_ns=BEGIN_NS + 1_000, error_ns=50)
    real = np.array([BEGIN_NS + 1_000, BEGIN_NS + 1_000 + 10_000_000 + 1_000], np.int64)
    found = wire.to_monotonic(real, start, end)
    assert found[0] == 1_000
    assert found[1] == pytest.approx(1_000 + 10_000_000, abs=2)


def test_a_clock_that_was_set_meanwhile_is_refused() -> None:
    start = wire.ClockOffset(0, BEGIN_NS, 50)
    end = wire.ClockOffset(10**10, BEGIN_NS + 5 * MS, 50)
    with pytest.raises(ValueError, match="repeat"):
        wire.to_monotonic(np.array([BEGIN_NS]), start, end)


def test_the_offset_of_the_clocks_is_measured_closely() -> None:
    offset = wire.measure_offset()
    assert 0 <= offset.error_ns < 5 * MS
    assert offset.offset_ns > 0
