"""Redundant copies, and which of several sources is the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.fakes.incoming import OPUS, RED, TONE, Call
from workers.audio import red

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipc.clock import ManualClock


@pytest.fixture
def call(clock: ManualClock) -> Iterator[Call]:
    call = Call(clock)
    yield call
    call.receiver.stop()


# -- RED ----------------------------------------------------------------------------------


def redundant(number: int, levels: int, *, offset: int = 960) -> bytes:
    old = [(OPUS, level * offset, TONE[number - level]) for level in range(levels, 0, -1)]
    head = red.header([(kind, back, len(data)) for kind, back, data in old], OPUS)
    return head + b"".join(data for _, _, data in old) + TONE[number]


def test_one_of_three_packets_lost_is_no_loss_with_two_levels_of_redundancy(call: Call) -> None:
    whole = Call(call.clock)
    for number in range(2, 50):
        whole.rtp(number, TONE[number])
        if number % 3:
            call.rtp(number, redundant(number, 2), kind=RED)
        call.wait(20)
    call.wait(20)
    reorder = call.receiver.reorder
    assert reorder is not None
    assert (reorder.recovered, reorder.concealed_ticks) == (16, 0)
    ours, theirs = call.heard(), whole.heard()
    assert np.array_equal(ours[: 40 * 960], theirs[: 40 * 960])
    whole.receiver.stop()


def test_redundancy_that_is_not_of_the_packet_before_is_left_alone(call: Call) -> None:
    call.rtp(1, TONE[1])
    call.rtp(3, redundant(3, 1, offset=2 * 960), kind=RED)
    call.wait(30)
    assert call.receiver.reorder is not None
    assert call.receiver.reorder.recovered == 0
    assert call.receiver.reorder.lost == 1


def test_copies_of_what_is_there_cost_nothing(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(red, "parse", lambda *_: pytest.fail("copies that nobody needs are read"))
    for number in range(2, 50):
        call.rtp(number, redundant(number, 2), kind=RED)
        call.wait(20)
    plain = Call(call.clock)
    for number in range(2, 50):
        plain.rtp(number, TONE[number])
    assert np.array_equal(call.heard(), plain.heard())
    plain.receiver.stop()


def test_malformed_redundancy_is_counted(call: Call) -> None:
    call.rtp(1, b"\xff\xff\xff\xff", kind=RED)
    assert call.receiver.malformed == 1


# -- sources ------------------------------------------------------------------------------


def test_one_stray_packet_of_another_source_changes_nothing(call: Call) -> None:
    call.stream(TONE[:5])
    call.rtp(777, TONE[5], ssrc=1)
    for number in range(5, 20):
        call.rtp(number, TONE[number])
        call.wait(20)
    assert len(call.heard()) == 20 * 960
    assert call.receiver.unknown == 1


def test_a_source_that_goes_on_takes_over(call: Call) -> None:
    call.stream(TONE[:5])
    for number in range(40_000, 40_020):
        call.rtp(number, TONE[number - 40_000], ssrc=1)
        call.wait(20)
    assert call.receiver.arrivals is not None
    assert call.receiver.arrivals.ssrc == 1
    assert len(call.heard()) == (5 + 20) * 960
    assert call.receiver.unknown == 0


@pytest.mark.parametrize("kind", [OPUS, RED])
def test_of_a_stream_that_begins_anew_nothing_is_lost(call: Call, kind: int) -> None:
    call.stream(TONE[:5])
    for number in range(5, 30):
        payload = redundant(number, 2) if kind == RED else TONE[number]
        call.rtp(number + 40_000, payload, ssrc=1, kind=kind)
        call.wait(20)
    plain = Call(call.clock)
    plain.stream(TONE[:30])
    assert np.array_equal(call.heard(), plain.heard())
    arrivals = call.receiver.arrivals
    assert arrivals is not None
    assert (arrivals.packets, arrivals.lost) == (25, 0)
    plain.receiver.stop()


def test_what_strays_is_held_for_a_moment_and_never_more_than_two(call: Call) -> None:
    call.stream(TONE[:5])
    for number in range(5, 40):
        if number % 2:
            call.rtp(number, TONE[number], ssrc=number)
        call.rtp(number, TONE[number])
        assert len(call.receiver._held) <= 2
        call.wait(20)
    assert len(call.heard()) == 40 * 960
    for number in range(40, 55):
        call.rtp(number, TONE[number % 50])
        call.wait(20)
    assert call.receiver._held == []
    assert call.receiver.unknown == 18


def test_a_stray_packet_is_not_heard_when_its_source_goes_on_much_later(call: Call) -> None:
    call.stream(TONE[:5])
    call.rtp(777, TONE[5], ssrc=1)
    for number in range(5, 20):
        call.rtp(number, TONE[number])
        call.wait(20)
    for number in range(3):
        call.rtp(1_000 + number, TONE[number], ssrc=1)
        call.wait(20)
    assert len(call.heard()) == (20 + 3) * 960
    assert call.receiver.reorder.lost == 0
