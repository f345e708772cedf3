"""When packets are sent again, and what then stands in them."""

from __future__ import annotations

import pytest

from workers.audio import red
from workers.audio.redundancy import CALM_REPORTS, MAX_BYTES, Redundancy


def test_it_rises_with_the_loss_and_falls_slowly_when_it_is_over() -> None:
    redundancy = Redundancy()
    redundancy.reported(0.03)
    assert redundancy.level == 0
    redundancy.reported(0.04)
    assert redundancy.level == 1
    for fraction in (0.0, 0.0, 0.0, 0.0, 0.02, 0.0, 0.0, 0.0, 0.0):
        redundancy.reported(fraction)
    assert redundancy.level == 1, "never five calm reports in a row"
    redundancy.reported(0.0)
    assert redundancy.level == 0


@pytest.mark.parametrize(("loss", "level"), [(0.05, 1), (0.2, 2), (1.0, 2)])
def test_much_loss_takes_two_levels_at_once(loss: float, level: int) -> None:
    redundancy = Redundancy()
    redundancy.reported(loss)
    assert redundancy.level == level
    for _ in range(3):
        redundancy.reported(loss)
    assert redundancy.level == 2
    for _ in range(2 * CALM_REPORTS):
        redundancy.reported(0.0)
    assert redundancy.level == 0


def test_each_packet_carries_those_before_it() -> None:
    redundancy = Redundancy()
    redundancy.reported(0.2)
    blocks = [red.parse(redundancy.wrap(111, number * 960, b"%d" % number)) for number in range(4)]
    assert blocks[0] == [red.Block(111, 0, b"0")]
    assert blocks[1] == [red.Block(111, 960, b"0"), red.Block(111, 0, b"1")]
    assert blocks[3] == [
        red.Block(111, 1_920, b"1"), red.Block(111, 960, b"2"), red.Block(111, 0, b"3"),
    ]  # fmt: skip


def test_one_level_carries_one() -> None:
    redundancy = Redundancy()
    redundancy.reported(0.05)
    for number in range(3):
        last = red.parse(redundancy.wrap(111, number * 960, b"%d" % number))
    assert last == [red.Block(111, 960, b"1"), red.Block(111, 0, b"2")]


def test_what_lies_too_far_back_or_is_too_long_is_left_out() -> None:
    redundancy = Redundancy()
    redundancy.reported(0.2)
    redundancy.wrap(111, 0, b"old")
    assert red.parse(redundancy.wrap(111, 20 * 960, b"new")) == [red.Block(111, 0, b"new")]
    redundancy.wrap(111, 21 * 960, bytes(1_100))
    assert [block.back for block in red.parse(redundancy.wrap(111, 22 * 960, b"x"))] == [1_920, 0]


def test_timestamps_wrap_around() -> None:
    redundancy = Redundancy()
    redundancy.reported(0.05)
    redundancy.wrap(111, 2**32 - 480, b"a")
    assert red.parse(redundancy.wrap(111, 480, b"b"))[0] == red.Block(111, 960, b"a")


def test_what_does_not_fit_into_one_datagram_is_not_sent_again() -> None:
    redundancy = Redundancy()
    redundancy.reported(0.2)
    for number in range(5):
        wrapped = redundancy.wrap(111, number * 960, bytes(520))
        assert len(wrapped) <= MAX_BYTES + 1
    assert [block.back for block in red.parse(wrapped)] == [960, 0]
