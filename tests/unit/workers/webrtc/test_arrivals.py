"""What is reported of an incoming stream (RFC 3550, appendix A)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.clock import NS_PER_MS
from workers.webrtc import rtcp
from workers.webrtc.arrivals import Arrivals

BEGIN_NS = 10_000_000_000


def block_of(arrivals: Arrivals, now_ns: int = BEGIN_NS) -> rtcp.Block:
    report = rtcp.sender_report(
        1, "us", unix_ns=0, rtp_timestamp=0, packets=0, octets=0,
        blocks=arrivals.report_block(now_ns),
    )  # fmt: skip
    return rtcp.parse(report)[0].reports[0]


def give(arrivals: Arrivals, *numbers: int, late_ms: float = 0) -> None:
    for number in numbers:
        now_ns = BEGIN_NS + number * 20 * NS_PER_MS + round(late_ms * NS_PER_MS)
        arrivals.add(number & 0xFFFF, number * 960 & 0xFFFFFFFF, 100, now_ns)


def test_losses_are_counted_in_all_and_since_the_last_report() -> None:
    arrivals = Arrivals(7, 48_000)
    give(arrivals, *range(75))
    assert block_of(arrivals)[1:4] == (0, 0, 74)
    give(arrivals, *range(75, 175, 4))
    block = block_of(arrivals)
    assert block.packets_lost == 72
    assert block.fraction_lost == (72 << 8) // 97
    give(arrivals, *range(172, 182))
    assert block_of(arrivals).fraction_lost == 0


def test_a_stream_wraps_around() -> None:
    arrivals = Arrivals(7, 48_000)
    give(arrivals, *range(65_000, 66_000))
    assert (arrivals.expected, arrivals.lost) == (1_000, 0)
    assert block_of(arrivals).highest == 65_999


def test_a_steady_stream_has_no_jitter_and_a_shaken_one_has() -> None:
    steady, shaken = Arrivals(7, 48_000), Arrivals(7, 48_000)
    for number in range(500):
        give(steady, number)
        give(shaken, number, late_ms=10 if number % 2 else 0)
    assert steady.jitter_s < 0.0001
    assert shaken.jitter_s == pytest.approx(0.010, abs=0.001)


def test_a_step_in_the_timestamps_is_not_jitter() -> None:
    arrivals = Arrivals(7, 48_000)
    give(arrivals, *range(10))
    arrivals.add(10, 3_000_000_000, 100, BEGIN_NS + 200 * NS_PER_MS)
    assert arrivals.jitter_s < 0.0001


def test_what_came_twice_makes_the_loss_negative() -> None:
    arrivals = Arrivals(7, 48_000)
    give(arrivals, 0, 1, 1, 1, 2)
    assert block_of(arrivals).packets_lost == -2


@given(st.lists(st.tuples(st.integers(0, 65_535), st.integers(0, 2**32 - 1)), max_size=50))
def test_any_numbers_can_be_reported(packets: list[tuple[int, int]]) -> None:
    arrivals = Arrivals(7, 48_000)
    for at, (sequence, timestamp) in enumerate(packets):
        arrivals.add(sequence, timestamp, 1, BEGIN_NS + at)
        block = block_of(arrivals)
        assert 0 <= block.fraction_lost <= 255
        assert 0 <= block.jitter < 1 << 32
