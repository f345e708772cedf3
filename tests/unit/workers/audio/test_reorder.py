"""A rule for each way in which packets do not come in order, and the order of any of them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.clock import NS_PER_MS
from tests.fakes.stream import BEGIN_NS, FRAME, Line, plays
from workers.audio.reorder import WAIT_MAX_NS, WAIT_MIN_NS

# -- in order -----------------------------------------------------------------------------


def test_what_is_in_order_is_decoded_on_arrival() -> None:
    line = Line()
    for number in range(50):
        line.at(number * 20).arrive(number)
        assert line.heard == plays(*range(number + 1))


@pytest.mark.parametrize("sequence", [65_530, 65_535, 0])
@pytest.mark.parametrize("timestamp", [2**32 - 3_000, 0])
def test_numbers_wrap_around(sequence: int, timestamp: int) -> None:
    line = Line(sequence, timestamp)
    for number in (0, 1, 2, 4, 3, 5, 6, 7, 9, 10, 11):
        line.at(number * 20).arrive(number)
    line.at(300)
    assert [entry for entry in line.heard if entry[0] != "fill"] == [
        *plays(*range(8)), ("conceal", 20), *plays(9, 10, 11),
    ]  # fmt: skip


def test_a_swap_is_put_right_as_soon_as_the_missing_one_comes() -> None:
    line = Line()
    line.arrive(0)
    line.at(20).arrive(2)
    assert line.heard == plays(0)
    line.at(30).arrive(1)
    assert line.heard == plays(0, 1, 2)
    line.at(60).arrive(3)
    assert line.heard == plays(0, 1, 2, 3)
    assert line.reorder.lost == 0


def test_a_duplicate_is_dropped_whether_it_was_played_or_is_kept() -> None:
    line = Line()
    line.arrive(0, 0, 1, 3, 3, 0, 2, 2, 3)
    assert line.heard == plays(0, 1, 2, 3)
    assert line.reorder.duplicates == 5


# -- losses -------------------------------------------------------------------------------


def test_one_lost_packet_is_concealed_after_20_ms_and_leaves_no_delay() -> None:
    line = Line()
    for number in range(20):
        if number != 5:
            line.at(number * 20).arrive(number)
        if number == 6:
            assert line.at(139).heard == plays(0, 1, 2, 3, 4)
            assert line.at(140).heard == [*plays(0, 1, 2, 3, 4), ("conceal", 20), ("play", 6)]
        if number > 6:
            assert line.heard[-1] == ("play", number)
    assert line.listener.ms() == 400
    assert line.reorder.lost == 1
    assert line.reorder.concealed_ticks == FRAME


def test_a_lost_packet_whose_successor_has_redundancy_is_recovered() -> None:
    line = Line()
    line.listener.redundant.add(3)
    line.arrive(0, 1)
    line.at(58).arrive(3)
    line.at(80)
    assert line.heard == [*plays(0, 1), ("recover", 2), ("play", 3)]
    assert (line.reorder.recovered, line.reorder.concealed_ticks) == (1, 0)


def test_of_two_lost_packets_redundancy_brings_back_the_second() -> None:
    line = Line()
    line.listener.redundant.add(4)
    line.arrive(0, 1)
    line.at(58).arrive(4)
    line.at(80)
    assert line.heard == [*plays(0, 1), ("conceal", 20), ("recover", 3), ("play", 4)]


def test_a_spare_copy_closes_the_gap_at_once() -> None:
    line = Line()
    line.arrive(0)
    line.at(40).spare(1)
    line.arrive(2)
    assert line.heard == plays(0, 1, 2)
    assert line.reorder.recovered == 1


def test_spare_copies_of_what_came_are_ignored() -> None:
    line = Line()
    line.arrive(0, 1)
    line.spare(0)
    line.spare(1)
    line.arrive(2)
    assert line.heard == plays(0, 1, 2)
    assert line.reorder.recovered == 0


def test_a_long_gap_fades_for_120_ms_and_is_silent_then() -> None:
    line = Line()
    line.arrive(0)
    line.arrive(12)  # the burst was shorter on the wire than in the stream
    line.at(20)
    assert line.heard == [("play", 0), ("conceal", 120), ("fill", 80), ("fill", 20), ("play", 12)]
    assert line.listener.ms() == 13 * 20


def test_an_outage_with_loss_takes_as_long_in_the_ring_as_on_the_clock() -> None:
    line = Line()
    line.arrive(0)
    line.at(600).arrive(30)
    line.at(640).arrive(31)
    assert line.heard[-2:] == plays(30, 31)
    assert {what for what, _ in line.heard[1:-2]} == {"fill"}
    assert line.listener.ms() == 32 * 20


def test_of_a_gap_that_silence_has_begun_to_fill_only_the_rest_is_bridged() -> None:
    line = Line()
    line.listener.redundant.add(5)
    line.arrive(0)
    line.at(100).arrive(5)
    line.at(120)
    assert line.heard == [
        ("play", 0), ("fill", 20), ("fill", 20), ("conceal", 20), ("recover", 4), ("play", 5),
    ]  # fmt: skip


def test_a_packet_that_came_too_late_makes_the_next_gap_wait_for_its_like() -> None:
    line = Line()
    line.arrive(0)
    line.at(40).arrive(2)
    line.at(75).arrive(1)  # 15 ms after its gap was given up
    assert line.heard == [("play", 0), ("conceal", 20), ("play", 2)]
    assert line.reorder.late == 1
    assert line.reorder.wait_ns == 36 * NS_PER_MS
    line.at(80).arrive(3)
    line.at(100).arrive(5)
    line.at(134).arrive(4)
    assert line.heard[-3:] == plays(3, 4, 5)


def test_waiting_is_bounded_and_forgotten_when_nothing_comes_late() -> None:
    line = Line()
    line.arrive(0)
    line.at(40).arrive(2)
    line.at(170).arrive(1)
    assert line.reorder.wait_ns == WAIT_MAX_NS
    for number in range(3, 2_000):
        line.at(number * 20).arrive(number)
    line.at(40_020).arrive(2_001)
    line.at(40_200)
    assert line.reorder.wait_ns == WAIT_MIN_NS


def test_a_backlog_never_becomes_delay() -> None:
    line = Line()
    line.arrive(0)
    line.at(40).arrive(2, 3, 4, 5, 6)
    line.at(60)
    assert line.heard == [("play", 0), ("conceal", 20), *plays(2, 3, 4, 5, 6)]


def test_a_packet_that_cannot_be_decoded_is_concealed() -> None:
    line = Line()
    line.listener.broken.add(1)
    line.arrive(0, 1, 2)
    assert line.heard == [("play", 0), ("conceal", 20), ("play", 2)]
    assert line.reorder.broken == 1


def test_what_is_kept_is_bounded() -> None:
    line = Line()
    line.arrive(0)
    line.arrive(*range(2, 1_000))
    assert line.heard[:2] == [("play", 0), ("conceal", 20)]
    assert [number for what, number in line.heard if what == "play"] == [0, *range(2, 1_000)]


# -- silence ------------------------------------------------------------------------------


def test_silence_begins_after_65_ms_and_keeps_the_pace_of_time() -> None:
    line = Line()
    line.arrive(0)
    line.at(64)
    assert line.heard == plays(0)
    line.at(1_066)
    assert line.heard == [("play", 0), *[("fill", 20)] * 51]


def test_who_never_says_anything_is_silent_from_the_beginning() -> None:
    line = Line()
    assert line.at(200).heard == [("fill", 20)] * 7


def test_a_pause_of_the_sender_takes_as_long_in_the_ring_as_in_its_timestamps() -> None:
    line = Line()
    line.arrive(0)
    line.at(420).arrive(1, step_ms=400)
    assert line.heard[0] == ("play", 0)
    assert line.heard[-1] == ("play", 1)
    assert line.listener.ms() == 440


def test_a_short_pause_is_filled_when_it_is_over() -> None:
    line = Line()
    line.arrive(0)
    line.at(50).arrive(1, step_ms=40)
    assert line.heard == [("play", 0), ("fill", 40), ("play", 1)]


def test_speech_that_comes_late_is_appended_and_the_surplus_leaves_the_next_silence() -> None:
    line = Line()
    line.arrive(0)
    line.at(300).arrive(*range(1, 16))  # 280 ms late, nothing lost; 260 ms of silence were made
    filled = sum(ms for what, ms in line.heard if what == "fill")
    assert [number for what, number in line.heard if what == "play"] == list(range(16))
    before = len(line.heard)
    line.at(366 + filled - 20)
    assert len(line.heard) == before, "the next silence is as much shorter"
    line.at(366 + filled + 20)
    assert line.heard[before:] == [("fill", 20)] * 2


def test_a_pause_that_the_network_made_shorter_pays_back_what_was_made_before() -> None:
    line = Line()
    line.arrive(0)
    line.at(300).arrive(1)  # 280 ms late; 240 ms of silence were made
    line.at(310).arrive(2, step_ms=200)  # a pause of 200 ms at the sender, 10 ms here
    line.at(350)
    assert line.heard == [("play", 0), *[("fill", 20)] * 12, ("play", 1), ("play", 2)]
    line.at(310 + 65 + 39)
    assert line.heard[-1] == ("play", 2)
    line.at(310 + 65 + 41)
    assert line.heard[-1] == ("fill", 20)


def test_a_packet_without_sound_keeps_its_place_and_its_time_becomes_silence() -> None:
    line = Line()
    line.listener.no_sound.add(1)
    line.arrive(0)
    line.at(20).arrive(1)
    line.at(40).arrive(2)
    assert line.heard == [("play", 0), ("fill", 20), ("play", 2)]


# -- another stream -----------------------------------------------------------------------


def test_a_jump_forward_begins_anew_without_a_gap() -> None:
    line = Line()
    line.arrive(0, 1)
    line.arrive(5_000)
    assert line.heard == plays(0, 1, 5_000)
    assert (line.reorder.restarts, line.reorder.lost) == (1, 0)


def test_a_jump_back_begins_anew_with_the_second_packet_in_a_row() -> None:
    line = Line(first_sequence=30_000)
    line.arrive(0, 1)
    line.arrive(-9_000 & 0xFFFF)
    assert line.heard == plays(0, 1)
    line.arrive(-8_999 & 0xFFFF, -8_998 & 0xFFFF)
    assert line.heard == plays(0, 1, -8_999 & 0xFFFF, -8_998 & 0xFFFF)
    assert line.reorder.restarts == 1


def test_another_source_begins_anew_after_what_was_kept() -> None:
    line = Line()
    line.arrive(0)
    line.arrive(2)
    line.reorder.restart(line.now_ns)
    line.arrive(40_000)
    assert line.heard == [("play", 0), ("conceal", 20), ("play", 2), ("play", 40_000)]


# -- any of them --------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.01, 0.1, 0.3]),
    st.sampled_from([0, 5, 30, 200]),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
)
def test_any_network_is_heard_in_order_once_and_in_real_time(
    seed: int, loss: float, jitter_ms: int, twice: float, redundant: bool
) -> None:
    rng = random.Random(seed)
    line = Line(rng.randrange(65_536), rng.randrange(2**32))
    if redundant:
        line.listener.redundant.update(range(200))
    arrivals: list[tuple[float, int]] = []
    for number in range(200):
        if number == 0 or rng.random() >= loss:
            times = 2 if rng.random() < twice else 1
            delays = [rng.uniform(0, jitter_ms if number else 0) for _ in range(times)]
            arrivals += [(number * 20 + delay, number) for delay in delays]
    for ms, number in sorted(arrivals):
        line.at(ms).arrive(number)
    line.at(200 * 20 + jitter_ms + 400)

    played = [number for what, number in line.heard if what in ("play", "recover")]
    assert played == sorted(set(played)), "in order, none twice"
    came = {number for _, number in arrivals}
    reorder = line.reorder
    assert len(came - set(played)) <= reorder.late
    assert reorder.received == len(arrivals)
    assert not reorder._kept
    # In the end everything that the sender's clock counted is there, and not more than the
    # silence that was made until the late speech came.
    assert line.listener.ms() >= 200 * 20 - jitter_ms
    assert line.listener.ms() <= line.now_ns // NS_PER_MS - BEGIN_NS // NS_PER_MS + jitter_ms + 80
    if jitter_ms < 20 and not redundant:
        assert reorder.concealed_ticks <= (200 - len(came)) * FRAME
