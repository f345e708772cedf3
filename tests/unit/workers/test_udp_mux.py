"""Whom a datagram is for: on real loopback sockets, with legs that only listen."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from aioice import stun

from ipc.clock import NS_PER_MS, NS_PER_S, ManualClock
from tests.support import turn, until
from workers import udp_mux
from workers.udp_mux import DRAINED, MAX_ADDRESSES, MAX_WAITING, UdpMux

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from workers.mux_transport import MuxTransport
    from workers.udp_mux import Address

HERE = "127.0.0.1"


class OpenGate:
    """Lets everything in at once, unless it is held."""

    def __init__(self) -> None:
        self.held: list[Callable[[], None]] | None = None

    def push(self, work: Callable[[], None]) -> bool:
        if self.held is None:
            work()
        else:
            self.held.append(work)
        return True


class Leg:
    """A leg and its one end."""

    def __init__(self, mux: UdpMux, name: str, clock: ManualClock) -> None:
        self.mux = mux
        self.heard_ns = clock.now_ns()
        self.waiting = 0
        self.lost = 0
        self.home: Address | None = None
        self.cost_ms = 0.0
        self._clock = clock
        self.got: list[bytes] = []
        self.handshakes: list[tuple[bytes, Address]] = []
        self.transport: MuxTransport = mux.connect(HERE, name, self)

    @property
    def leg(self) -> Leg:
        return self

    def media(self, length: int, _now_ns: int) -> None:
        self.got.append(bytes(self.mux.buffer[:length]))
        self._clock.advance_ms(self.cost_ms)

    def let_in(self, data: bytes, address: Address) -> None:
        self.waiting -= 1
        self.handshakes.append((data, address))

    def connection_lost(self, _error: Exception | None) -> None:
        self.lost += 1


class Caller:
    """A socket somewhere else."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((HERE, 0))
        self.socket.connect((HERE, port))
        self.socket.settimeout(5)

    @property
    def address(self) -> Address:
        host, port = self.socket.getsockname()
        return host, port

    def send(self, data: bytes) -> None:
        self.socket.send(data)


class Setup:
    """A mux with two legs and two callers."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock, self.gate = clock, OpenGate()
        self.due_ns = 1 << 62
        self.mux = UdpMux(clock, self.gate, lambda: self.due_ns)  # type: ignore[arg-type]
        port = self.mux.open([HERE], [])
        self.one, self.two = (Leg(self.mux, name, clock) for name in ("one", "two"))
        self.callers = [Caller(port), Caller(port)]

    async def arrived(self, count: int) -> None:
        """So many datagrams were looked at."""
        await until(lambda: self.mux.received >= count, what=f"{count} datagrams")


@pytest.fixture
async def setup(clock: ManualClock) -> AsyncIterator[Setup]:
    setup = Setup(clock)
    yield setup
    setup.mux.close()
    for caller in setup.callers:
        caller.socket.close()


def check(name: str) -> bytes:
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["PRIORITY"] = 5
    message.attributes["USERNAME"] = f"{name}:peer"
    return bytes(message)


# -- who gets what ------------------------------------------------------------------------


async def test_media_goes_to_the_leg_that_is_known_to_live_there(setup: Setup) -> None:
    first, second = setup.callers
    setup.mux.learn(first.address, setup.one)
    setup.mux.learn(second.address, setup.two)
    first.send(b"\x80first")
    second.send(b"\xbfsecond")
    first.send(b"\x81third")
    await setup.arrived(3)
    assert setup.one.got == [b"\x80first", b"\x81third"]
    assert setup.two.got == [b"\xbfsecond"]


async def test_handshakes_follow_the_address_and_checks_the_name(setup: Setup) -> None:
    first, second = setup.callers
    setup.mux.learn(first.address, setup.one)
    first.send(b"\x16handshake")
    question = check("two")
    second.send(question)
    await setup.arrived(2)
    assert setup.one.handshakes == [(b"\x16handshake", first.address)]
    assert setup.two.handshakes == [(question, second.address)]


async def test_a_response_goes_to_whoever_asked_and_only_once(setup: Setup) -> None:
    caller = setup.callers[0]
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    setup.two.transport.sendto(bytes(request), caller.address)
    assert caller.socket.recv(2_000) == bytes(request)
    response = stun.Message(
        stun.Method.BINDING, stun.Class.RESPONSE, transaction_id=request.transaction_id
    )
    for _ in range(2):
        caller.send(bytes(response))
    await setup.arrived(2)
    assert setup.two.handshakes == [(bytes(response), caller.address)]
    assert setup.mux.dropped == {"response_for_nobody": 1}


async def test_what_belongs_to_nobody_is_dropped_and_counted(setup: Setup) -> None:
    caller = setup.callers[0]
    for data in (b"\x80media", b"\x16handshake", check("three"), b"", b"\0", b"\xff", bytes(20)):
        caller.send(data)
    await setup.arrived(7)
    assert setup.mux.dropped == {
        "media_of_nobody": 1,
        "handshake_of_nobody": 1,
        "unknown_kind": 3,
        "check_for_nobody": 1,
        "response_for_nobody": 1,
    }
    assert not setup.one.got + setup.one.handshakes + setup.two.got + setup.two.handshakes


async def test_who_moves_is_known_at_both_addresses(setup: Setup) -> None:
    first, second = setup.callers
    setup.mux.learn(first.address, setup.one)
    setup.mux.learn(second.address, setup.one)
    first.send(b"\x80old")
    second.send(b"\x80new")
    await setup.arrived(2)
    assert sorted(setup.one.got) == [b"\x80new", b"\x80old"]


async def test_an_address_is_one_legs_until_that_leg_falls_silent(setup: Setup) -> None:
    caller = setup.callers[0]
    assert setup.mux.learn(caller.address, setup.one)
    assert not setup.mux.learn(caller.address, setup.two)
    caller.send(b"\x80x")
    await setup.arrived(1)
    assert (setup.one.got, setup.two.got) == ([b"\x80x"], [])
    assert setup.mux.dropped == {"address_taken": 1}
    setup.clock.advance_ms(2 * NS_PER_S / 1e6)
    assert setup.mux.learn(caller.address, setup.two)
    caller.send(b"\x80y")
    await setup.arrived(2)
    assert setup.two.got == [b"\x80y"]


async def test_a_leg_that_is_gone_gets_nothing_more(setup: Setup) -> None:
    caller = setup.callers[0]
    setup.mux.learn(caller.address, setup.one)
    setup.one.transport.close()
    setup.one.transport.close()
    await until(lambda: setup.one.lost, what="the end")
    caller.send(b"\x80x")
    caller.send(check("one"))
    await setup.arrived(2)
    assert not setup.one.got
    assert not setup.one.handshakes
    assert setup.one.lost == 1
    assert setup.one.transport.is_closing()


# -- bounds ---------------------------------------------------------------------------------


async def test_one_legs_handshakes_do_not_crowd_out_the_others(setup: Setup) -> None:
    setup.gate.held = []
    first, second = setup.callers
    setup.mux.learn(first.address, setup.one)
    for _ in range(3 * MAX_WAITING):
        first.send(b"\x16flood")
    second.send(check("two"))
    await setup.arrived(3 * MAX_WAITING + 1)
    assert len(setup.gate.held) == 2 * MAX_WAITING + 1
    assert setup.mux.dropped == {"leg_too_busy": MAX_WAITING}
    for work in setup.gate.held:
        work()
    assert (len(setup.one.handshakes), len(setup.two.handshakes)) == (2 * MAX_WAITING, 1)


async def test_strangers_who_know_a_legs_name_do_not_crowd_out_its_peer(setup: Setup) -> None:
    setup.gate.held = []
    peer, stranger = setup.callers
    setup.mux.learn(peer.address, setup.one)
    for _ in range(2 * MAX_WAITING):
        stranger.send(check("one"))
    await setup.arrived(2 * MAX_WAITING)
    peer.send(check("one"))
    await setup.arrived(2 * MAX_WAITING + 1)
    assert len(setup.gate.held) == MAX_WAITING + 1


async def test_a_leg_lives_only_where_it_was_heard_last(setup: Setup) -> None:
    mux, neighbour, current = setup.mux, ("192.0.2.1", 1), ("192.0.2.2", 1)
    mux.learn(neighbour, setup.two)
    mux.learn(current, setup.one)
    for port in range(3 * MAX_ADDRESSES):
        assert mux.learn((HERE, port), setup.one)
        assert mux.learn(current, setup.one), "it is checked again and again"
    newest = [(HERE, port) for port in range(2 * MAX_ADDRESSES + 1, 3 * MAX_ADDRESSES)]
    assert {*mux._legs} == {neighbour, current, *newest}
    setup.one.home = newest[0]
    for port in range(3 * MAX_ADDRESSES):
        mux.learn(("192.0.2.3", port), setup.one)
    assert newest[0] in mux._legs, "where it is known to live"
    setup.one.transport.close()
    assert {*mux._legs} == {neighbour}
    assert len(mux._places) == 1


async def test_where_a_leg_lives_nothing_gets_in_that_is_neither_stun_nor_dtls(
    setup: Setup,
) -> None:
    caller = setup.callers[0]
    setup.mux.learn(caller.address, setup.one)
    for data in (b"", b"\0", b"\x02" + bytes(30), b"\x13x", b"\x40" + bytes(8), b"\xff", b"\xc0"):
        caller.send(data)
    await setup.arrived(7)
    assert setup.one.handshakes == []
    assert setup.mux.dropped == {"unknown_kind": 7}


async def test_just_before_a_slot_nothing_is_read_except_by_the_slot_itself(setup: Setup) -> None:
    caller = setup.callers[0]
    setup.mux.learn(caller.address, setup.one)
    setup.due_ns = setup.clock.now_ns() + 50_000
    for _ in range(3):
        caller.send(b"\x80x")
    setup.mux._readable(setup.mux._sockets[HERE], HERE)
    assert setup.one.got == []

    def slot() -> bool:
        setup.mux.drain()
        return setup.mux.received == 3

    await until(slot, what="the slot")
    assert len(setup.one.got) == 3


async def test_however_long_packets_take_the_next_slot_does_not_wait_for_them(setup: Setup) -> None:
    setup.mux.watch(False)
    caller = setup.callers[0]
    setup.mux.learn(caller.address, setup.one)
    setup.one.cost_ms = 0.3
    for _ in range(DRAINED):
        caller.send(b"\x80x")
    begin_ns = setup.clock.now_ns()
    setup.due_ns = begin_ns + 2 * NS_PER_MS

    def slot() -> bool:
        setup.mux.drain()
        return bool(setup.one.got)

    await until(slot, what="the slot")
    assert len(setup.one.got) == 4, "the first half is for reading"
    await until(lambda: len(setup.one.got) == 7, what="the rest of the time")
    for _ in range(10):
        await turn()
    assert len(setup.one.got) == 7
    assert setup.clock.now_ns() - begin_ns < 2.3 * NS_PER_MS
    setup.due_ns += 20 * NS_PER_MS
    setup.mux.drain()
    await setup.arrived(DRAINED)


async def test_what_nobody_watches_for_waits_for_the_slot_which_lets_the_loop_turn(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp_mux, "DRAINED", 2)
    monkeypatch.setattr(udp_mux, "BATCH", 2)
    caller = setup.callers[0]
    setup.mux.learn(caller.address, setup.one)
    setup.mux.watch(False)
    caller.send(b"\x80first")
    turns = 0

    def turn_often() -> bool:
        nonlocal turns
        turns += 1
        return turns > 20

    await until(turn_often)
    assert setup.one.got == []
    for _ in range(6):
        caller.send(b"\x80next")
    setup.mux.drain()
    assert setup.mux.received == 2, "the rest after the loop's other business"
    await setup.arrived(7)
    setup.mux.watch(True)
    caller.send(b"\x80last")
    await setup.arrived(8)
    assert setup.one.got == [b"\x80first", *6 * [b"\x80next"], b"\x80last"]


async def test_reading_between_slots_is_told(clock: ManualClock) -> None:
    told: list[int] = []
    mux = UdpMux(clock, OpenGate(), lambda: 1 << 62, on_read=lambda: told.append(mux.received))  # type: ignore[arg-type]
    caller = Caller(mux.open([HERE], []))
    caller.send(b"\x80x")
    await until(lambda: told, what="the datagram")
    assert told == [1]
    mux.close()
    caller.socket.close()


async def test_questions_that_are_never_answered_are_forgotten(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp_mux, "MAX_TRANSACTIONS", 10)
    for number in range(50):
        setup.mux.asked(number.to_bytes(12, "big"), setup.one)
    assert len(setup.mux._asked) == 10


async def test_what_cannot_be_sent_is_counted(setup: Setup) -> None:
    assert not setup.one.transport.send_media(bytes(70_000), setup.callers[0].address)
    assert setup.mux.dropped == {"send": 1}


async def test_media_of_a_relay_comes_through_the_same_buffer(setup: Setup) -> None:
    setup.mux.inject(b"\x80relayed", setup.one)
    setup.mux.inject(bytes(5_000), setup.one)
    assert setup.one.got == [b"\x80relayed"]


async def test_while_nobody_calls_this_way_only_the_loop_reads(clock: ManualClock) -> None:
    mux = UdpMux(clock, OpenGate(), lambda: clock.now_ns() + NS_PER_S)  # type: ignore[arg-type]
    port = mux.open([HERE], [], all_of_them=True)
    caller = Caller(port)
    mux.watch(True)
    caller.socket.send(b"\xff")
    mux.drain()
    assert mux.received == 0
    await until(lambda: mux.received == 1)
    leg = Leg(mux, "name", clock)
    caller.socket.send(b"\xff")
    mux.drain()
    assert (mux.busy, mux.received) == (True, 2)
    mux.forget(leg)
    assert not mux.busy
    mux.close()
    caller.socket.close()
