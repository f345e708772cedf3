"""Two aioice connections, one of them on the mux: ready by events, lost when silent."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from typing import TYPE_CHECKING, Any, cast

import aioice
import pytest
from aioice import stun

from ipc.clock import NS_PER_S, MonotonicClock
from tests.support import until
from workers.gate import Gate
from workers.udp_mux import UdpMux
from workers.webrtc import ice
from workers.webrtc.ice import MuxedConnection, MuxedProtocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workers.webrtc.receiver import Receiver

HERE = "127.0.0.1"
DEADLINE_S = 30


class Clock(MonotonicClock):
    """The machine's clock, which a test may put forward, and stop: then only the test moves it."""

    ahead_ns = 0
    stopped_ns = 0

    def now_ns(self) -> int:
        return (self.stopped_ns or super().now_ns()) + self.ahead_ns

    def stop(self) -> None:
        self.stopped_ns = super().now_ns()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def mux(clock: Clock) -> AsyncIterator[UdpMux]:
    gate = Gate(asyncio.get_running_loop(), clock, lambda: 1 << 62)
    mux = UdpMux(clock, gate, lambda: 1 << 62)
    mux.open([HERE], [])
    yield mux
    mux.close()


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: [HERE])


def muxed(mux: UdpMux, clock: Clock, public: dict[str, str] | None = None) -> MuxedConnection:
    here: dict[str, Any] = {"mux": mux, "clock": clock, "public_addresses": public or {}}
    made: MuxedConnection = type("Here", (MuxedConnection,), here)(ice_controlling=False)
    return made


def waits(ours: MuxedConnection) -> bool:
    """Whether `connect` waits for a candidate."""
    return bool(ours._candidate_came._waiters)


async def introduce(one: aioice.Connection, other: aioice.Connection) -> None:
    for a, b in ((one, other), (other, one)):
        await a.gather_candidates()
        for candidate in a.local_candidates:
            await b.add_remote_candidate(candidate)
        await b.add_remote_candidate(None)
        b.remote_username, b.remote_password = a.local_username, a.local_password


@pytest.fixture
async def pair(mux: UdpMux, clock: Clock) -> AsyncIterator[tuple[MuxedConnection, Any]]:
    ours, theirs = muxed(mux, clock), aioice.Connection(ice_controlling=True)
    await introduce(ours, theirs)
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(ours.connect(), theirs.connect())
    yield ours, theirs
    await ours.close()
    await theirs.close()


class Media:
    """Takes what is media."""

    heard_ns = 0

    def __init__(self, mux: UdpMux) -> None:
        self.mux = mux
        self.got: list[bytes] = []

    def media(self, length: int, _now_ns: int) -> None:
        self.got.append(bytes(self.mux.buffer[:length]))


async def test_data_goes_both_ways_and_media_takes_the_short_one(
    pair: tuple[MuxedConnection, Any], mux: UdpMux
) -> None:
    ours, theirs = pair
    media = Media(mux)
    ours.receiver = cast("Receiver", media)
    async with asyncio.timeout(DEADLINE_S):
        await ours.send(b"\x16ours")
        assert await theirs.recv() == b"\x16ours"
        await theirs.send(b"\x80media")
        await theirs.send(b"\x16theirs")
        assert await ours.recv() == b"\x16theirs"
    assert media.got == [b"\x80media"]
    # On a machine that stood still a check was sent twice, and answered twice.
    assert mux.dropped.keys() <= {"response_for_nobody"}


async def test_many_share_one_port(mux: UdpMux, clock: Clock) -> None:
    pairs = [(muxed(mux, clock), aioice.Connection(ice_controlling=True)) for _ in range(5)]
    for ours, theirs in pairs:
        await introduce(ours, theirs)
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*(side.connect() for both in pairs for side in both))
        for number, (ours, theirs) in enumerate(pairs):
            await theirs.send(b"\x16%d" % number)
            assert await ours.recv() == b"\x16%d" % number
    ports = {candidate.port for ours, _ in pairs for candidate in ours.local_candidates}
    assert len(ports) == 1
    for both in pairs:
        for side in both:
            await side.close()
    assert not mux._legs
    assert not mux._names


async def test_a_pair_that_works_is_not_waited_for_any_longer(
    mux: UdpMux, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes decides, and not the pace of the checks."""
    monkeypatch.setattr(ice, "CHECK_INTERVAL_S", 1_000)
    ours, theirs = muxed(mux, clock), aioice.Connection(ice_controlling=True)
    await introduce(ours, theirs)
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(ours.connect(), theirs.connect())
    await ours.close()
    await theirs.close()


async def test_candidates_may_come_while_it_connects(mux: UdpMux, clock: Clock) -> None:
    ours, theirs = muxed(mux, clock), aioice.Connection(ice_controlling=True)
    for side in (ours, theirs):
        await side.gather_candidates()
    ours.remote_username, ours.remote_password = theirs.local_username, theirs.local_password
    theirs.remote_username, theirs.remote_password = ours.local_username, ours.local_password
    connecting = asyncio.create_task(ours.connect())
    await until(lambda: waits(ours), what="the wait for candidates")
    assert not connecting.done()
    for candidate in theirs.local_candidates:
        await ours.add_remote_candidate(candidate)
    for candidate in ours.local_candidates:
        await theirs.add_remote_candidate(candidate)
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(connecting, theirs.connect())
    await ours.close()
    await theirs.close()


async def test_without_any_candidate_it_fails_when_they_have_ended(
    mux: UdpMux, clock: Clock
) -> None:
    ours = muxed(mux, clock)
    await ours.gather_candidates()
    ours.remote_username, ours.remote_password = "them", "a password of theirs, 22+"
    connecting = asyncio.create_task(ours.connect())
    await until(lambda: waits(ours), what="the wait for candidates")
    await ours.add_remote_candidate(None)
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(DEADLINE_S):
            await connecting
    await ours.close()


async def test_closing_ends_what_is_still_connecting(mux: UdpMux, clock: Clock) -> None:
    ours = muxed(mux, clock)
    await ours.gather_candidates()
    ours.remote_username, ours.remote_password = "them", "a password of theirs, 22+"
    connecting = asyncio.create_task(ours.connect())
    await until(lambda: waits(ours), what="the wait for candidates")
    await ours.close()
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(DEADLINE_S):
            await connecting


async def test_a_peer_that_answers_stays_and_one_that_is_silent_is_lost(
    pair: tuple[MuxedConnection, Any], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    monkeypatch.setattr(ice, "ASK_S", 0.01)
    silences: list[int] = []
    ours.on_silent = lambda: silences.append(clock.now_ns())
    event = asyncio.create_task(ours.get_event())
    clock.stop()
    ours.heard()
    clock.ahead_ns += 3 * NS_PER_S
    await until(lambda: clock.now_ns() - ours.heard_ns < NS_PER_S, what="an answer")
    assert not event.done()
    assert len(silences) == 1, "one word about one silence"
    await theirs.close()
    clock.ahead_ns += 5 * NS_PER_S
    async with asyncio.timeout(DEADLINE_S):
        assert isinstance(await event, aioice.ConnectionClosed)


async def test_no_pause_between_two_questions_outlasts_the_deadline(
    pair: tuple[MuxedConnection, Any], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    monkeypatch.setattr(ice, "ASK_S", 60.0)
    await theirs.close()
    clock.ahead_ns += 2 * NS_PER_S
    async with asyncio.timeout(DEADLINE_S):
        assert isinstance(await ours.get_event(), aioice.ConnectionClosed)


async def test_the_address_that_callers_see_is_the_one_that_is_offered(
    mux: UdpMux, clock: Clock
) -> None:
    ours = muxed(mux, clock, {HERE: "203.0.113.7"})
    await ours.gather_candidates()
    assert [candidate.host for candidate in ours.local_candidates] == ["203.0.113.7"]
    await ours.close()


async def test_a_stun_server_tells_our_address_through_the_same_socket(
    mux: UdpMux, clock: Clock
) -> None:
    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            question = aioice.stun.parse_message(data)
            answer = aioice.stun.Message(
                question.message_method,
                aioice.stun.Class.RESPONSE,
                transaction_id=question.transaction_id,
            )
            answer.attributes["XOR-MAPPED-ADDRESS"] = ("198.51.100.9", addr[1])
            self.transport.sendto(bytes(answer), addr)

    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(Server, local_addr=(HERE, 0))
    ours = muxed(mux, clock)
    ours.stun_server = server.get_extra_info("sockname")
    async with asyncio.timeout(DEADLINE_S):
        await ours.gather_candidates()
    host, reflexive = ours.local_candidates
    assert (reflexive.type, reflexive.host, reflexive.port) == ("srflx", "198.51.100.9", host.port)
    await ours.close()
    server.close()


async def test_nonsense_from_anywhere_leaves_a_call_alone(
    pair: tuple[MuxedConnection, Any], mux: UdpMux, clock: Clock
) -> None:
    ours, theirs = pair
    rng = random.Random(3)
    protocol = ours._protocols[0]
    assert isinstance(protocol, MuxedProtocol)
    for _ in range(3_000):
        size = rng.choice([0, 1, 4, 19, 20, 24, 100])
        data = bytearray(rng.randbytes(size))
        if size and rng.random() < 0.5:
            data[0] &= 1
        if size >= 20 and rng.random() < 0.5:  # as if it were STUN, for us
            data[:2] = b"\0\x01"
            data[2:4] = (size - 20).to_bytes(2, "big")
            data[4:8] = b"\x21\x12\xa4\x42"
        protocol.waiting += 1
        protocol.let_in(bytes(data), (HERE, 9))
        mux._other(HERE, bytes(data), (HERE, 9))
    async with asyncio.timeout(DEADLINE_S):
        await theirs.send(b"\x16still here")
        while await ours.recv() != b"\x16still here":
            pass


# -- hostile checks ---------------------------------------------------------------------------


def check_with(name: str, kind: int, value: bytes) -> bytes:
    """A check for `name` with one more attribute of any bytes, as nobody's library writes it."""
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["USERNAME"] = f"{name}:peer"
    body = bytes(message)[20:] + struct.pack("!HH", kind, len(value)) + value
    body += bytes(-len(value) % 4)
    return stun.set_body_length(bytes(message)[:20] + body, len(body))


async def test_checks_that_cannot_be_read_are_counted_and_shut_nobody_out(
    pair: tuple[MuxedConnection, Any], mux: UdpMux
) -> None:
    ours, theirs = pair
    address = (HERE, ours.local_candidates[0].port)
    hostile = [
        check_with(ours.local_username, 0x0024, b"abc"),  # PRIORITY of three bytes
        check_with(ours.local_username, 0x802A, b""),
        check_with(ours.local_username, 0x0020, b""),
        check_with(ours.local_username, 0x0006, b"\xff\xfe"),
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for data in hostile:
            stranger.sendto(data, address)
        await until(lambda: mux.dropped["malformed"] == 2, what="the malformed ones")
    async with asyncio.timeout(DEADLINE_S):
        await theirs.send(b"\x16theirs")
        while await ours.recv() != b"\x16theirs":
            pass


async def test_an_authentic_check_without_a_priority_is_harmless(
    pair: tuple[MuxedConnection, Any], mux: UdpMux
) -> None:
    ours, theirs = pair
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{ours.local_username}:{theirs.local_username}"
    request.add_message_integrity(ours.local_password.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
        elsewhere.sendto(bytes(request), (HERE, ours.local_candidates[0].port))
        await until(lambda: mux.dropped["malformed"] == 1, what="the malformed one")
    async with asyncio.timeout(DEADLINE_S):
        await theirs.send(b"\x16theirs")
        assert await ours.recv() == b"\x16theirs"


async def test_the_chosen_pair_and_its_round_trip_are_known(
    pair: tuple[MuxedConnection, Any],
) -> None:
    ours, theirs = pair

    def measured() -> bool:
        return ours.chosen is not None and ours.chosen.rtt_ns is not None

    await until(measured, what="a check that was sent once")
    chosen = ours.chosen
    assert chosen is not None
    assert chosen.local == (HERE, ours.local_candidates[0].port)
    assert chosen.remote == (HERE, theirs.local_candidates[0].port)
    assert chosen.local_type == "host"
    assert chosen.answers >= 1
    assert chosen.rtt_ns is not None
    assert 0 < chosen.rtt_ns < ice.RETRANSMIT_NS


async def test_a_call_whose_media_cannot_be_taken_is_the_only_one_to_suffer(
    pair: tuple[MuxedConnection, Any],
) -> None:
    class Broken(Media):
        faults = 0

        def media(self, length: int, _now_ns: int) -> None:
            raise ValueError("a ring was spoilt")

        def on_fault(self) -> None:
            self.faults += 1

    ours, theirs = pair
    broken = Broken(ours.mux)
    ours.receiver = cast("Receiver", broken)
    for _ in range(3):
        await theirs.send(b"\x80media")
    await theirs.send(b"\x16behind it")
    async with asyncio.timeout(DEADLINE_S):
        assert await ours.recv() == b"\x16behind it"
    assert broken.faults == 1
    assert vars(ours)["receiver"] is None


async def test_before_anybody_reads_only_so_many_handshakes_wait(mux: UdpMux, clock: Clock) -> None:
    ours = muxed(mux, clock)
    for _ in range(200):
        ours.data_received(b"\x16handshake", 1)
    ours.data_received(b"\xffnonsense", 1)
    assert ours._queue.qsize() == ice.MAX_QUEUED
    assert mux.dropped["handshake_unread"] == 200 - ice.MAX_QUEUED + 1
    await ours.close()
