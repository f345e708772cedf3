"""Servers that do not answer, and peers that they refuse: asked again, ever less often."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aioice
import pytest
from aioice import stun

from ipc.clock import NS_PER_MS, NS_PER_S
from tests.fakes.legs import gather, leg, relay_of
from tests.fakes.turn import TurnServer
from tests.support import DEADLINE_S, until
from workers.gate import Gate
from workers.udp_mux import UdpMux
from workers.webrtc import relay, servers
from workers.webrtc.servers import MAX_KNOWN, SILENT_NS, SilentServers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ipc.clock import ManualClock

HERE = "127.0.0.1"
SILENT_MS = SILENT_NS / NS_PER_MS


@pytest.fixture
async def mux(clock: ManualClock) -> AsyncIterator[UdpMux]:
    gate = Gate(asyncio.get_running_loop(), clock, lambda: 1 << 62)
    mux = UdpMux(clock, gate, lambda: 1 << 62)
    mux.open([HERE], [])
    yield mux
    mux.close()


@pytest.fixture
async def server() -> AsyncIterator[TurnServer]:
    async with TurnServer() as server:
        yield server


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: [HERE])
    monkeypatch.setattr(servers, "_silent", SilentServers())
    # Whoever answers is waited for, and asked once, however long the machine stands still.
    monkeypatch.setattr(servers, "DEADLINE_S", DEADLINE_S)
    monkeypatch.setattr(stun, "RETRY_RTO", DEADLINE_S)


def is_silent(server: TurnServer, patch: pytest.MonkeyPatch, silent: bool = True) -> None:
    """It does not answer, and a test does not wait for that; or it does again."""
    server.silent = silent
    patch.setattr(servers, "DEADLINE_S", 0.05 if silent else DEADLINE_S)


async def call(mux: UdpMux, clock: ManualClock, **at: Any) -> list[str]:
    """What a call finds that is answered now, and ends."""
    ours = leg(mux, clock, **at)
    found = await gather(ours)
    await ours.close()
    return sorted(found)


# -- servers that are silent ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stun_at", "turn_at"])
async def test_only_the_first_call_waits_for_a_server_that_is_silent(
    mux: UdpMux,
    clock: ManualClock,
    server: TurnServer,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    is_silent(server, monkeypatch)
    at: Any = {kind: server.address}
    assert await call(mux, clock, **at) == ["host"]
    await until(lambda: server.did["unanswered"] == 1, what="the question")
    for _ in range(20):
        assert await call(mux, clock, **at) == ["host"]
        clock.advance_ms(SILENT_MS / 25)
    assert server.did["unanswered"] == 1


async def test_after_a_while_one_call_asks_for_all(
    mux: UdpMux, clock: ManualClock, server: TurnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_silent(server, monkeypatch)
    await call(mux, clock, turn_at=server.address)
    for asked in (2, 3):
        clock.advance_ms(SILENT_MS)
        calls = [call(mux, clock, turn_at=server.address) for _ in range(5)]
        assert await asyncio.gather(*calls) == [["host"]] * 5
        await until(lambda: server.did["unanswered"] == asked, what="one question")  # noqa: B023
    clock.advance_ms(SILENT_MS)
    is_silent(server, monkeypatch, False)
    for _ in range(3):
        assert await call(mux, clock, turn_at=server.address) == ["host", "relay"]


async def test_another_server_is_asked_all_the_same(
    mux: UdpMux, clock: ManualClock, server: TurnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_silent(server, monkeypatch)
    await call(mux, clock, turn_at=server.address)
    async with TurnServer() as another:
        is_silent(another, monkeypatch, False)
        found = await call(mux, clock, turn_at=another.address)
    assert found == ["host", "relay"]


async def test_a_server_that_refuses_at_once_is_not_silent(
    mux: UdpMux, clock: ManualClock, server: TurnServer
) -> None:
    wrong: Any = {"turn_at": server.address, "credential": "cuttlefish"}
    assert await call(mux, clock, **wrong) == ["host"]
    assert await call(mux, clock, turn_at=server.address) == ["host", "relay"]


def test_of_too_many_servers_the_first_are_forgotten() -> None:
    silent = SilentServers()
    for number in range(2 * MAX_KNOWN):
        silent.was_silent(str(number), 0)
        silent.warn(str(number), "is silent", 0)
    assert [*silent._until_ns] == [*silent._warned_ns]
    assert [*silent._until_ns] == [str(number) for number in range(MAX_KNOWN, 2 * MAX_KNOWN)]


def test_whoever_is_told_to_ask_and_gives_up_keeps_the_others_away_for_a_moment_only() -> None:
    silent, name = SilentServers(), "one"
    silent.was_silent(name, 0)
    assert not silent.may_ask(name, SILENT_NS - 1)
    assert silent.may_ask(name, SILENT_NS)
    assert not silent.may_ask(name, SILENT_NS)
    assert silent.may_ask(name, SILENT_NS + int(servers.DEADLINE_S * NS_PER_S))
    silent.answered(name)
    assert all(silent.may_ask(name, SILENT_NS) for _ in range(3))


# -- peers that are refused -----------------------------------------------------------------------


async def test_for_a_peer_that_the_server_refuses_it_is_asked_ever_less_often(
    mux: UdpMux, clock: ManualClock, server: TurnServer
) -> None:
    peer = ("192.0.2.1", 9)
    server.forbidden.add(peer[0])
    ours = leg(mux, clock, turn_at=server.address)
    await gather(ours)
    through = relay_of(ours)
    asked_at: list[int] = []
    for second in range(200):
        refused = server.did["403"]
        sent = [through.send_media(b"\x80", peer) for _ in range(50)]
        if any(sent):
            await until(lambda: peer not in through._held, what="the refusal")
            assert server.did["403"] == refused + 1
            asked_at.append(second)
        clock.advance_ms(1_000)
    assert asked_at == [0, 1, 3, 7, 15, 31, 63, 123, 183]

    server.forbidden.clear()
    clock.advance_ms(relay.LONGEST_PAUSE_NS / NS_PER_MS)
    assert through.send_media(b"\x80", peer)
    await until(lambda: server.did["channel data"], what="what waited for the channel")
    assert not through._pauses
    await ours.close()


async def test_other_peers_do_not_wait_for_one_that_is_refused(
    mux: UdpMux, clock: ManualClock, server: TurnServer
) -> None:
    server.forbidden.add("192.0.2.1")
    ours = leg(mux, clock, turn_at=server.address)
    await gather(ours)
    through = relay_of(ours)
    for peer in (("192.0.2.1", 9), (HERE, 9)):
        through.send_media(b"\x80", peer)
    await until(lambda: server.did["channel data"] and server.did["403"], what="both answers")
    assert not through.send_media(b"\x80", ("192.0.2.1", 9))
    assert through.send_media(b"\x80", (HERE, 9))
    await ours.close()
