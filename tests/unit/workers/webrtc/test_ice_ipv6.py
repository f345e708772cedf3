"""A call over IPv6, alone and beside IPv4 on the same port."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

import aioice
import pytest

from ipc.clock import MonotonicClock
from tests.fakes.legs import gather, leg
from tests.support import until
from workers.gate import Gate
from workers.udp_mux import UdpMux

if TYPE_CHECKING:
    from workers.webrtc.receiver import Receiver

HERE, HERE_6 = "127.0.0.1", "::1"
CLOCK = MonotonicClock()
DEADLINE_S = 30


class Media:
    heard_ns = 0

    def __init__(self, mux: UdpMux) -> None:
        self.mux = mux
        self.got: list[bytes] = []

    def media(self, length: int, _now_ns: int) -> None:
        self.got.append(bytes(self.mux.buffer[:length]))


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((HERE_6, 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
@pytest.mark.parametrize("addresses", [[HERE_6], [HERE, HERE_6]])
async def test_a_peer_that_has_ipv6_alone_has_data_and_media_both_ways(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: [HERE_6])
    gate = Gate(asyncio.get_running_loop(), CLOCK, lambda: 1 << 62)
    mux = UdpMux(CLOCK, gate, lambda: 1 << 62)
    port = mux.open(addresses, [])
    ours, theirs = leg(mux, CLOCK), aioice.Connection(ice_controlling=True)
    media = Media(mux)
    ours.receiver = cast("Receiver", media)
    assert await gather(ours) == ["host"] * len(addresses)
    await theirs.gather_candidates()
    for a, b in ((ours, theirs), (theirs, ours)):
        for candidate in a.local_candidates:
            await b.add_remote_candidate(candidate)
        await b.add_remote_candidate(None)
        b.remote_username, b.remote_password = a.local_username, a.local_password
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(ours.connect(), theirs.connect())
        chosen = ours.chosen
        assert chosen is not None
        assert chosen.local == (HERE_6, port)
        transport = next(
            one.transport for one in ours._protocols if one.local_candidate.host == HERE_6
        )
        transport.sendto(b"\x80ours", chosen.remote)
        assert await theirs.recv() == b"\x80ours"
        await theirs.send(b"\x80theirs")
        await until(lambda: media.got == [b"\x80theirs"], what="their media")
        await theirs.send(b"\x16handshake")
        assert await ours.recv() == b"\x16handshake"
    await ours.close()
    await theirs.close()
    mux.close()
