"""What the media of one leg may cost a worker: its share, and never more at the others' expense."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ipc.clock import NS_PER_MS, NS_PER_S
from workers.webrtc.ice import ADVANCE_NS, MOST_NS, SHARE, MuxedConnection

if TYPE_CHECKING:
    from ipc.clock import ManualClock
    from workers.webrtc.receiver import Receiver

LENGTH = 100
US = 1_000


class Media:
    """A receiver each of whose packets takes `cost_ns`, and is authentic or not."""

    def __init__(self, leg: MuxedConnection, clock: ManualClock, cost_ns: int) -> None:
        self.cost_ns, self.authentic = cost_ns, True
        self.taken = 0
        self._leg, self._clock = leg, clock
        leg.receiver = cast("Receiver", self)

    def media(self, _length: int, _now_ns: int) -> None:
        self.taken += 1
        if self.authentic:
            self._leg.heard()
        self._clock.advance_ms(self.cost_ns / NS_PER_MS)


class Legs:
    """Legs of one worker, without sockets."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.dropped: Counter[str] = Counter()
        here: dict[str, Any] = {"mux": SimpleNamespace(dropped=self.dropped), "clock": clock}
        self._kind = type("Here", (MuxedConnection,), here)

    def add(self, cost_us: int = 40) -> tuple[MuxedConnection, Media]:
        leg: MuxedConnection = self._kind(ice_controlling=False)
        return leg, Media(leg, self.clock, cost_us * US)

    def send(self, leg: MuxedConnection) -> None:
        self.clock.advance_ms(0.001)
        leg.media(LENGTH, self.clock.now_ns())


@pytest.fixture
async def legs(clock: ManualClock) -> Legs:
    return Legs(clock)


@pytest.mark.parametrize("cost_us", [10, 40, 300, 5_000])
async def test_who_sends_without_end_has_a_twentieth_of_the_time_and_no_more(
    legs: Legs, cost_us: int
) -> None:
    leg, media = legs.add(cost_us)
    begin_ns = legs.clock.now_ns()
    while legs.clock.now_ns() - begin_ns < 2 * NS_PER_S:
        legs.send(leg)
        if legs.dropped:
            legs.clock.advance_ms(0.5)  # the others' turn
    counted_ns = media.taken * min(cost_us * US, MOST_NS)
    assert counted_ns <= (2 * NS_PER_S + ADVANCE_NS) // SHARE + cost_us * US
    assert counted_ns >= 0.9 * 2 * NS_PER_S / SHARE
    assert legs.dropped["leg_too_costly"] > 0


async def test_what_one_leg_sends_too_much_costs_the_others_nothing(legs: Legs) -> None:
    (hostile, flood), (quiet, speech) = legs.add(300), legs.add()
    for _ in range(200):
        for _ in range(100):
            legs.send(hostile)
        legs.send(quiet)
        legs.clock.advance_ms(20)
    assert speech.taken == 200
    assert flood.taken < 0.1 * 200 * 100


async def test_what_seems_to_come_from_a_leg_and_is_not_authentic_uses_nothing_up(
    legs: Legs,
) -> None:
    leg, media = legs.add()
    media.authentic = False
    for _ in range(100_000):
        legs.send(leg)
    media.authentic = True
    legs.send(leg)
    assert media.taken == 100_001
    assert not legs.dropped


async def test_what_a_network_held_back_for_five_seconds_is_taken_at_once(legs: Legs) -> None:
    leg, media = legs.add(150)
    for _ in range(5 * 50):
        legs.send(leg)
    assert media.taken == 250
    assert not legs.dropped


async def test_usual_speech_is_taken_even_where_each_packet_is_interrupted(legs: Legs) -> None:
    leg, media = legs.add(100_000)
    for _ in range(500):
        legs.send(leg)
        legs.clock.advance_ms(20)
    media.cost_ns = 0
    assert media.taken == 500
    for _ in range(1_000):  # somebody else had the processor: a millisecond of it counts, no more
        media.cost_ns = 19 * NS_PER_MS
        legs.send(leg)
        legs.clock.advance_ms(1)
    assert media.taken == 1_500
    assert not legs.dropped


async def test_who_was_too_costly_is_taken_again_when_its_share_has_grown(legs: Legs) -> None:
    leg, media = legs.add(500)
    while not legs.dropped:
        legs.send(leg)
    taken = media.taken
    legs.clock.advance_ms(500 * US * SHARE / NS_PER_MS)
    legs.send(leg)
    assert media.taken == taken + 1
