"""What a worker that cannot keep up does with what waits: it is dropped, and not served late."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest

from ipc.clock import NS_PER_MS, ManualClock
from tests.support import turn
from workers.udp_mux import UdpMux

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from workers.udp_mux import Address

HERE = "127.0.0.1"
CALLER, STRANGER = ("192.0.2.1", 1), ("192.0.2.9", 9)
NOISE = b"\x80?"
SLOT_NS = 4 * NS_PER_MS


class OpenGate:
    """Lets everything in at once."""

    def push(self, work: Callable[[], None]) -> bool:
        work()
        return True


class Waiting:
    """A socket, as far as the mux reads it."""

    def __init__(self) -> None:
        self.datagrams: deque[bytes] = deque()

    def recvfrom_into(self, buffer: bytearray) -> tuple[int, Address]:
        if not self.datagrams:
            raise BlockingIOError
        data = self.datagrams.popleft()
        buffer[: len(data)] = data
        return len(data), STRANGER if data == NOISE else CALLER

    def close(self) -> None:
        """The mux has closed."""


class SlowLeg:
    """A leg whose packets take their time."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.heard_ns = 0
        self.waiting = 0
        self.home: Address | None = None
        self.cost_ns = 0
        self.ages: list[int] = []
        self.handshakes: list[bytes] = []

    @property
    def leg(self) -> SlowLeg:
        return self

    def media(self, length: int, now_ns: int) -> None:
        """The packet says in which slot it was sent."""
        sent = int(bytes(self._call.mux.buffer[1:length]))
        self.ages.append(self._call.slot - sent)
        self._call.clock.advance_ms(self.cost_ns / NS_PER_MS)

    def let_in(self, data: bytes, _address: Address) -> None:
        self.waiting -= 1
        self.handshakes.append(data)

    def connection_lost(self, _error: Exception | None) -> None:
        """The mux has closed."""


class Call:
    """A mux with a caller, and the slots of its worker."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.slot = 0
        self._due_ns = clock.now_ns() + SLOT_NS
        self.mux = UdpMux(clock, OpenGate(), lambda: self._due_ns)  # type: ignore[arg-type]
        self.waiting = Waiting()
        self.mux._sockets = {HERE: self.waiting}  # type: ignore[dict-item]
        self.leg = SlowLeg(self)
        self.mux.connect(HERE, "leg", self.leg)
        self.mux.learn(CALLER, self.leg)

    def send(self, packets: int) -> None:
        """Media comes, and says when it did."""
        self.waiting.datagrams += packets * [b"\x80%d" % self.slot]

    async def run(self, slots: int, *, packets: int = 1) -> None:
        """So many slots, each with so many packets."""
        for _ in range(slots):
            self.send(packets)
            self.mux.drain()
            await turn()  # the rest of the slot
            self.slot += 1
            self._due_ns += SLOT_NS
            now_ns = self.clock.now_ns()
            self.clock.advance_ms(max(0, self._due_ns - SLOT_NS - now_ns) / NS_PER_MS)


@pytest.fixture
async def call(clock: ManualClock) -> AsyncIterator[Call]:
    call = Call(clock)
    yield call
    call.mux.close()


async def test_a_worker_that_cannot_keep_up_hears_less_and_not_later(call: Call) -> None:
    call.leg.cost_ns = NS_PER_MS  # a slot has time for four packets
    await call.run(500, packets=5)
    assert max(call.leg.ages) * SLOT_NS <= 100 * NS_PER_MS
    served, waiting = len(call.leg.ages), len(call.waiting.datagrams)
    assert served + call.mux.dropped["backlog"] + waiting == 2500
    assert served > 0.75 * 2500, "only what there is no time for is lost"


async def test_a_pause_of_the_machine_loses_nothing(call: Call) -> None:
    call.leg.cost_ns = NS_PER_MS // 4
    await call.run(10)
    call.send(50)  # they came while nobody ran
    await call.run(100)
    assert len(call.leg.ages) == 160
    assert call.leg.ages[-1] == 0
    assert call.mux.dropped == {}


async def test_what_is_not_media_is_not_dropped_for_being_late(call: Call) -> None:
    call.leg.cost_ns = 3 * NS_PER_MS
    for number in range(20):
        call.waiting.datagrams.append(b"\x16%d" % number)
        await call.run(5, packets=3)
    call.leg.cost_ns = 0
    await call.run(50, packets=0)
    assert call.leg.handshakes == [b"\x16%d" % number for number in range(20)]
    assert call.mux.dropped["backlog"] > 0


async def test_what_strangers_have_sent_is_no_callers_loss(call: Call) -> None:
    call.leg.cost_ns = 3 * NS_PER_MS
    for _ in range(100):
        call.waiting.datagrams += [NOISE] * 5
        await call.run(1, packets=3)
    call.leg.cost_ns = 0
    await call.run(50, packets=0)
    assert call.mux.dropped["backlog"] > 0
    assert len(call.leg.ages) + call.mux.dropped["backlog"] == 300
    assert call.mux.dropped["media_of_nobody"] == 500
