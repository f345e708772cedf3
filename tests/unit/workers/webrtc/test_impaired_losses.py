"""Speech through a network that loses packets: rows Q2, Q3 and Q4, and redundancy (RED)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ipc.codec import Codec
from tests.fakes.audio import FRAME, level_db
from tests.fakes.impaired import STEP_MS, Impaired, speech
from tests.fakes.network import Faults
from workers.audio import opus
from workers.audio.decoder import CELT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipc.clock import ManualClock
    from tests.fakes.impaired import Event

WAIT_MS = 20.0
MOST_STALL_MS = 60.0
MOST_CONCEALED_MS = 120
INAUDIBLE_DB = -60.0


@pytest.fixture
def call(clock: ManualClock) -> Iterator[Impaired]:
    call = Impaired(clock)
    yield call
    call.close()


def share_of(call: Impaired, *what: str) -> float:
    """How much of what the bot was given is of these kinds."""
    return sum(event.samples for event in call.events if event.what in what) / call.cursor


def gaps(call: Impaired) -> list[list[Event]]:
    """What was made up between packets that were played, stretch by stretch."""
    found: list[list[Event]] = [[]]
    for event in call.events:
        if event.what in ("conceal", "fill"):
            found[-1].append(event)
        elif found[-1]:
            found.append([])
    return [gap for gap in found if gap]


def has_redundancy(packet: bytes) -> bool:
    library = opus.libopus()
    assert library is not None
    return not packet[0] & CELT and library.opus_packet_has_lbrr(packet, len(packet)) == 1


# -- one packet ---------------------------------------------------------------------------


def test_a_clean_link_adds_nothing_to_what_was_said(call: Impaired) -> None:
    call.say(speech(5))
    assert np.array_equal(call.heard(), np.concatenate(call.reference()))
    assert set(call.delays_ms().values()) == {0}
    assert call.longest_stall_ms() == 0


def test_one_lost_packet_every_two_seconds_is_concealed_and_the_delay_returns(
    call: Impaired,
) -> None:
    call.drops = lambda number: number % 100 == 50
    call.say(speech(20))
    lost = set(range(50, 1_000, 100))
    delays = call.delays_ms()
    assert set(delays) == set(range(1_000)) - lost
    assert {delay for number, delay in delays.items() if number - 1 not in lost} == {0}
    assert {delay for number, delay in delays.items() if number - 1 in lost} == {WAIT_MS}
    assert call.longest_stall_ms() == 40 <= MOST_STALL_MS
    assert len(call.heard()) == 1_000 * FRAME
    concealed = call.of("conceal")
    assert [event.samples for event in concealed] == [FRAME] * len(lost)
    assert not call.of("fill")
    heard = call.heard()
    softer_db = [
        level_db(heard[event.start - FRAME : event.start]) - level_db(call.sound_of(event))
        for event in concealed
    ]
    assert 0 < np.median(softer_db) < 6, "it goes on about as loud as it was"


# -- random losses ------------------------------------------------------------------------


@pytest.mark.parametrize("fec", [True, False])
@pytest.mark.parametrize("loss", [0.01, 0.05, 0.1, 0.2])
def test_random_losses_are_recovered_by_fec_or_concealed_and_never_a_stall(
    clock: ManualClock, loss: float, fec: bool
) -> None:
    percent = round(loss * 100)
    codec = Codec(application="voip", fec=fec, expected_loss_percent=percent if fec else 0)
    call = Impaired(clock, Faults(loss=loss), seed=percent, codec=codec)
    call.say(speech(20))
    call.wait(100)
    call.close()

    lost = set(call.network.counts.losses) - {0, 999}  # behind the last one nothing tells
    assert len(lost) >= 5
    recovered = set(call.recovered())
    isolated = {number for number in lost if not {number - 1, number + 1} & lost}
    assert recovered <= lost
    if fec:
        # Into soft frames libopus puts no redundancy, so of all it cannot be quite as many.
        carried = {number for number in isolated if has_redundancy(call.payloads[number + 1])}
        assert len(carried & recovered) >= 0.95 * len(carried)
        assert len(isolated & recovered) >= 0.9 * len(isolated)
    else:
        assert not recovered
    unrecovered = len(lost - recovered) / len(call.payloads)
    assert share_of(call, "conceal") <= unrecovered + 0.005
    assert call.longest_stall_ms() <= MOST_STALL_MS
    assert sorted(set(range(1_000)) - lost - {0, 999}) == [
        number for number in call.played() if 0 < number < 999
    ]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_at_20_percent_with_two_levels_of_redundancy_95_percent_of_the_lost_are_there_exactly(
    clock: ManualClock, seed: int
) -> None:
    call = Impaired(clock, Faults(loss=0.2), seed=seed, red_level=2)
    call.say(speech(40))
    call.wait(100)
    call.close()

    last = len(call.payloads) - 1
    lost = {number for number in call.network.counts.losses if 0 < number < last - 1}
    assert len(lost) > 350
    assert all(event.exact for event in call.of("play"))
    played = call.played()
    assert played == sorted(set(played))
    carried = {number for number in lost if not {number + 1, number + 2} <= lost}
    assert carried <= set(played), "whatever a later packet carried is there"
    assert len(lost & set(played)) >= 0.95 * len(lost)
    assert call.longest_stall_ms() <= MOST_STALL_MS
    # The rest is made up, for as long as it was.
    made_up = sum(event.samples for event in call.of("conceal", "fill"))
    missing = set(range(last + 1)) - set(played)
    assert abs(made_up - len(missing) * FRAME) <= 4 * FRAME
    assert call.reorder.recovered == len(set(call.network.counts.losses) & set(played))


def test_after_a_loss_with_redundancy_nothing_waits(clock: ManualClock) -> None:
    call = Impaired(clock, red_level=1)
    call.drops = lambda number: number % 10 == 5
    call.say(speech(4))
    call.close()
    assert call.played() == list(range(200))
    assert np.array_equal(call.heard(), np.concatenate(call.reference()))
    assert set(call.delays_ms().values()) == {0, 20}
    assert call.longest_stall_ms() == 20


# -- bursts -------------------------------------------------------------------------------


def test_bursts_of_losses_fade_and_what_comes_after_them_is_there_within_20_ms(
    clock: ManualClock,
) -> None:
    call = Impaired(clock, Faults(loss=0.05, burst=3), seed=4)
    call.say(speech(60))
    call.close()
    lost = set(call.network.counts.losses)
    assert any({n, n + 1, n + 2, n + 3} <= lost for n in lost), "long ones are among them"
    delays = call.delays_ms()
    assert all(delay <= WAIT_MS for delay in delays.values())
    assert all(
        delay == 0 for number, delay in delays.items() if not {number - 1, number - 2} & lost
    )
    for gap in gaps(call):
        sound = np.concatenate([call.sound_of(event) for event in gap])
        concealed = MOST_CONCEALED_MS * 48
        assert level_db(sound[concealed:]) < INAUDIBLE_DB, "no loop for longer than 120 ms"
    assert call.longest_stall_ms() <= MOST_STALL_MS
    assert abs(call.cursor - 3_000 * FRAME) <= 4 * FRAME


@pytest.mark.parametrize("packets", [4, 6, 10, 20])
def test_speech_that_breaks_off_fades_out_and_does_not_click(call: Impaired, packets: int) -> None:
    call.drops = lambda number: 100 <= number < 100 + packets
    call.say(speech(4))
    call.wait(40)
    heard = call.heard()
    (gap,) = gaps(call)
    start, end = gap[0].start, gap[-1].start + gap[-1].samples
    assert end - start == packets * FRAME
    before = heard[start - 2 * FRAME : start].astype(int)
    steps = np.abs(np.diff(heard[start - 1 : end].astype(int)))
    assert steps.max() <= 1.5 * np.abs(np.diff(before)).max(), "no step that speech had not made"
    levels = [level_db(frame) for frame in heard[start:end].reshape(-1, FRAME)]
    assert levels[0] > level_db(before.astype(np.int16)) - 12
    assert all(after <= earlier for earlier, after in itertools.pairwise(levels))
    assert all(level < INAUDIBLE_DB for level in levels[MOST_CONCEALED_MS // 20 :])
    assert {delay for number, delay in call.delays_ms().items() if number > 101 + packets} <= {
        0.0,
        float(STEP_MS),
    }
