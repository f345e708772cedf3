"""Checks without end by somebody who has a leg's password: counted, bounded, beside the beat."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, cast

import aioice
import pytest
from aioice import stun

from ipc.clock import NS_PER_MS, ManualClock
from tests.fakes.legs import leg
from tests.support import turn, until
from workers.gate import NEEDED_NS, SETTLING_TURNS, Gate
from workers.udp_mux import MAX_ADDRESSES, MAX_WAITING, UdpMux
from workers.webrtc.ice import MAX_CANDIDATES, MAX_EARLY_CHECKS, MuxedConnection, MuxedProtocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workers.udp_mux import Address

HERE = "127.0.0.1"
DEADLINE_S = 30
CHECKS = 100_000
SLOT_NS = 2 * NS_PER_MS
SLOTS = 100
COST_NS = 100_000  # of one that is let in


class Flood:
    """A mux on the manual clock whose slots a test runs by hand; what is let in takes time."""

    def __init__(self, clock: ManualClock, patch: pytest.MonkeyPatch) -> None:
        self.clock = clock
        self.due_ns = 1 << 62
        self.gate = Gate(asyncio.get_running_loop(), clock, lambda: self.due_ns)
        self.mux = UdpMux(clock, self.gate, lambda: self.due_ns)
        self.mux.open([HERE], [])
        self.let_in = 0
        take = MuxedProtocol.let_in

        def let_in(protocol: MuxedProtocol, data: bytes, address: Address) -> None:
            self.let_in += 1
            clock.advance_ms(COST_NS / NS_PER_MS)
            take(protocol, data, address)

        patch.setattr(MuxedProtocol, "let_in", let_in)

    def check(self, ours: MuxedConnection, peer: str) -> bytes:
        """An authentic check; whoever has seen one may send it from anywhere."""
        message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        message.attributes["USERNAME"] = f"{ours.local_username}:{peer}"
        message.attributes["PRIORITY"] = 1
        message.attributes["ICE-CONTROLLING"] = 7
        message.add_message_integrity(ours.local_password.encode())
        return bytes(message)

    async def pour(self, ours: MuxedConnection, peer: str, between: Any = lambda: None) -> int:
        """All of them, as many in each slot, and how many were looked at or counted as dropped.

        `between` is called in each slot like `drain`.
        """
        at_first = self.let_in + self.mux.dropped["leg_too_busy"]
        data, rng = self.check(ours, peer), random.Random(5)
        for _ in range(SLOTS):
            self.due_ns = self.clock.now_ns() + SLOT_NS
            before = self.let_in
            between()
            self.gate.open()
            for _ in range(CHECKS // SLOTS):
                address = (
                    f"127.{rng.randrange(1, 255)}.{rng.randrange(255)}.1",
                    rng.randrange(65_535),
                )
                self.mux._other(HERE, data, address)
            for _ in range(2 * (SETTLING_TURNS + 1) * SLOT_NS // COST_NS):
                await turn()
            assert self.let_in - before <= (SLOT_NS - NEEDED_NS) // COST_NS + 1
            assert self.clock.now_ns() < self.due_ns, "the next slot does not wait"
            self.clock.advance_ms((self.due_ns - self.clock.now_ns()) / NS_PER_MS)
        self.due_ns = 1 << 62
        self.gate.open()
        await until(lambda: not len(self.gate), what="the rest")
        return self.let_in + self.mux.dropped["leg_too_busy"] - at_first


@pytest.fixture
async def flood(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Flood]:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: [HERE])
    flood = Flood(clock, monkeypatch)
    yield flood
    flood.mux.close()


async def introduce(one: aioice.Connection, other: aioice.Connection) -> None:
    for a, b in ((one, other), (other, one)):
        for candidate in a.local_candidates:
            await b.add_remote_candidate(candidate)
        await b.add_remote_candidate(None)
        b.remote_username, b.remote_password = a.local_username, a.local_password


async def connect(ours: MuxedConnection, theirs: aioice.Connection) -> Address:
    """Where the peer lives."""
    await introduce(ours, theirs)
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(ours.connect(), theirs.connect())
    assert ours.chosen is not None
    return ours.chosen.remote


class Media:
    taken = 0

    def media(self, _length: int, _now_ns: int) -> None:
        self.taken += 1


async def test_a_live_session_keeps_its_beat_and_its_place(flood: Flood) -> None:
    ours = leg(flood.mux, flood.clock)
    theirs = aioice.Connection(ice_controlling=True)
    for side in (ours, theirs):
        await side.gather_candidates()
    home = await connect(ours, theirs)
    media = Media()
    ours.receiver = cast("Any", media)
    sender = theirs._protocols[0].transport

    def slot() -> None:
        sender.sendto(b"\x80" + bytes(20), (HERE, ours.local_candidates[0].port))
        flood.mux.drain()

    tasks = len(asyncio.all_tasks())
    assert await flood.pour(ours, theirs.local_username, slot) >= CHECKS
    assert media.taken == SLOTS
    assert flood.mux.dropped["leg_too_busy"] > 0.9 * CHECKS
    assert len(ours.remote_candidates) <= MAX_CANDIDATES
    assert len(ours._check_list) <= MAX_CANDIDATES + 1
    assert flood.mux.dropped["too_many_addresses"] > 0
    assert len(asyncio.all_tasks()) - tasks <= MAX_CANDIDATES
    assert len(flood.mux._legs) <= MAX_ADDRESSES
    assert home in flood.mux._legs
    await ours.close()
    await theirs.close()


async def test_checks_before_the_connection_begins_are_bounded_and_it_begins_all_the_same(
    flood: Flood,
) -> None:
    ours = leg(flood.mux, flood.clock)
    theirs = aioice.Connection(ice_controlling=True)
    for side in (ours, theirs):
        await side.gather_candidates()
    assert await flood.pour(ours, theirs.local_username) == CHECKS
    assert len(ours._early_checks) == MAX_EARLY_CHECKS
    assert len(ours.remote_candidates) == 0
    assert len(flood.mux._legs) <= MAX_ADDRESSES
    await connect(ours, theirs)
    assert len(ours.remote_candidates) <= MAX_EARLY_CHECKS + 1
    await ours.close()
    await theirs.close()


async def test_an_answer_to_our_own_question_gets_in_however_many_strangers_ask(
    flood: Flood,
) -> None:
    ours = leg(flood.mux, flood.clock)
    await ours.gather_candidates()
    flood.due_ns = 0  # nothing is let in
    data = flood.check(ours, "peer")
    for port in range(1, 3 * MAX_WAITING):
        flood.mux._other(HERE, data, (HERE, port))
    assert len(flood.gate) == MAX_WAITING
    question = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    flood.mux.asked(question.transaction_id, cast("Any", ours._protocols[0]))
    answer = stun.Message(
        stun.Method.BINDING, stun.Class.RESPONSE, transaction_id=question.transaction_id
    )
    flood.mux._other(HERE, bytes(answer), (HERE, 9))
    assert len(flood.gate) == MAX_WAITING + 1
    flood.due_ns = 1 << 62
    flood.gate.open()
    await until(lambda: not len(flood.gate), what="the rest")
    await ours.close()
