"""Speech through a network that is uneven, swaps, doubles or stands still: rows Q8 and Q10."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.fakes.audio import FRAME, level_db
from tests.fakes.impaired import Impaired, speech
from tests.fakes.network import Faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipc.clock import ManualClock

MOST_RESTART_MS = 60.0
FILL_AFTER_MS = 66  # 65, seen each 2 ms


@pytest.fixture
def call(clock: ManualClock) -> Iterator[Impaired]:
    call = Impaired(clock)
    yield call
    call.close()


def spoken(call: Impaired) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    """What the bot was given, without the silence that was made meanwhile."""
    return np.concatenate([call.sound_of(event) for event in call.of("play")])


# -- jitter -------------------------------------------------------------------------------


@pytest.mark.parametrize("jitter_ms", [10, 30, 60])
def test_jitter_that_keeps_the_order_loses_nothing_and_adds_no_delay_of_ours(
    clock: ManualClock, jitter_ms: int
) -> None:
    call = Impaired(clock, Faults(delay_ms=3 * jitter_ms, jitter_ms=jitter_ms), seed=jitter_ms)
    call.say(speech(30))
    call.wait(6 * jitter_ms)
    call.close()

    assert call.played() == list(range(1_500))
    reorder = call.reorder
    assert (reorder.lost, reorder.late, reorder.concealed_ticks) == (0, 0, 0)
    # Each packet is in the ring at the moment at which it came.
    arrived = call.arrived_ns
    assert [event.at_ns for event in call.of("play")] == [arrived[n] for n in range(1_500)]
    # Silence is made when nothing comes for 65 ms, and taken out of the next one: it does not add
    # up to more than the longest wait.
    delays = call.delays_ms().values()
    first = call.of("play")[0].start
    invented_ms = (call.cursor - first) / 48 - 1_500 * 20
    assert 0 <= invented_ms <= max(delays) - min(delays) + 20


def test_reordering_is_put_right_and_almost_nothing_comes_too_late(clock: ManualClock) -> None:
    faults = Faults(delay_ms=60, jitter_ms=10, reorder=0.02, held_ms=30)
    call = Impaired(clock, faults, seed=2)
    call.say(speech(40))
    call.wait(200)
    call.close()
    assert call.network.counts.held > 20
    assert call.reorder.late <= 0.005 * len(call.payloads)
    assert call.played() == sorted(call.played())
    assert len(call.played()) == len(call.payloads) - call.reorder.late
    assert call.longest_stall_ms() <= 60


def test_what_comes_twice_is_heard_once(clock: ManualClock) -> None:
    call = Impaired(clock, Faults(duplicate=0.3), seed=6)
    call.say(speech(10))
    call.close()
    assert call.network.counts.duplicated > 100
    assert call.reorder.duplicates == call.network.counts.duplicated
    assert np.array_equal(call.heard(), np.concatenate(call.reference()))


# -- outages ------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.2, 0.9, 2, 10])
def test_after_an_outage_speech_is_back_with_its_first_packets_and_nothing_is_played_in_a_burst(
    call: Impaired, seconds: float
) -> None:
    packets = round(seconds * 50)
    first = 100 + packets
    call.drops = lambda number: 100 <= number < first
    call.say(speech(2 + seconds + 2))
    delays = call.delays_ms()
    assert delays[first] <= MOST_RESTART_MS
    assert set(range(first, first + 100)) <= set(delays)
    assert {delay for number, delay in delays.items() if number > first + 1} == {0}
    # As long in the ring as on the clock, but for the 65 ms after which silence begins.
    assert abs(call.cursor / 48 - len(call.payloads) * 20) <= FILL_AFTER_MS
    # At no time did the ring grow faster than the clock, but for what waited for a gap to close.
    growth: dict[int, int] = {}
    for event in call.events:
        growth[event.at_ns] = growth.get(event.at_ns, 0) + event.samples
    assert max(growth.values()) <= (packets if packets < 50 else 3) * FRAME
    after = [number for number in call.played() if number >= first]
    assert after == list(range(first, first + 100))


def test_a_link_that_stood_still_loses_nothing_and_its_delay_is_gone_with_the_next_pause(
    call: Impaired,
) -> None:
    call.say(speech(2))
    call.network.faults = Faults(delay_ms=1_000)  # all of it comes when the link moves again
    call.say(speech(0.5))
    call.network.faults = Faults()
    call.wait(500)
    call.sender.miss(25)  # the caller says nothing for half a second, which sends nothing
    call.say(speech(2))
    assert call.played() == list(range(len(call.payloads)))
    assert call.cursor / 48 > 5_000 + 300, "silence was made for what came later"
    call.wait(2_000)
    assert call.cursor / 48 == pytest.approx(7_000, abs=FILL_AFTER_MS + 20)


def test_a_caller_who_says_nothing_more_is_heard_as_silence(call: Impaired) -> None:
    call.say(speech(1))
    before = call.cursor
    call.wait(3_000)
    heard = call.heard()[before:]
    assert abs(len(heard) / 48 - 3_000) <= FILL_AFTER_MS
    assert level_db(heard[120 * 48 :]) < -100
    assert call.reorder.concealed_ticks == 0


# -- a slow link --------------------------------------------------------------------------


def test_a_link_that_is_too_slow_for_a_moment_delays_and_recovers(call: Impaired) -> None:
    call.say(speech(1))
    call.network.faults = Faults(rate_bps=30_000, queue_bytes=4_000)
    call.say(speech(3))
    assert call.network.counts.dropped > 0
    call.network.faults = Faults()
    call.wait(2_000)
    call.say(speech(1))
    last = len(call.payloads)
    assert set(range(last - 49, last)) <= set(call.played())
    assert call.delays_ms()[last - 1] == 0
    assert call.played() == sorted(call.played())
