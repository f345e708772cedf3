"""A peer that has ended: what is left of it, taken apart, goes without the collector's help."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import aioice.ice
import aiortc.rtcicetransport
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from ipc.clock import MonotonicClock
from tests.support import LoopErrors, until
from workers.gate import Gate
from workers.udp_mux import UdpMux
from workers.webrtc import ice
from workers.webrtc.peer import Peer
from workers.webrtc.receiver import Receiver
from workers.webrtc.sender import Sender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = "127.0.0.1"
CLOCK = MonotonicClock()
FAR_NS = 1 << 62


@pytest.fixture
async def mux(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[UdpMux]:
    """A worker's mux, on which peers of ours live and no others."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: [HERE])
    for owner, name in (
        (aiortc.rtcicetransport, "Connection"),
        (aioice.ice, "StunProtocol"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # undone afterwards
    gate = Gate(asyncio.get_running_loop(), CLOCK, lambda: FAR_NS)
    mux = UdpMux(CLOCK, gate, lambda: FAR_NS)
    mux.open([HERE], [])
    gc.collect()
    gc.disable()
    yield mux
    gc.enable()
    mux.close()


class Call:
    """A peer of ours that answers, and the caller's own connection."""

    def __init__(self, mux: UdpMux) -> None:
        self.states: list[str] = []
        self.remains: list[object] = []
        self.caller = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.caller.addTransceiver("audio")
        self.channel = self.caller.createDataChannel("test")
        self._mux = mux

    async def begin(self) -> Peer:
        """An offer and its answer."""
        await self.caller.setLocalDescription(await self.caller.createOffer())
        ice.live_on(self._mux, CLOCK, {})
        sender = Sender(CLOCK)
        peer = Peer(
            self._mux,
            sender=sender,
            receiver=Receiver(CLOCK, lambda: None, sender.heard),
            on_state=lambda _peer, state: self.states.append(state),
            on_message=lambda _data: None,
            on_track_status=lambda _index, _enabled: None,
            clock=CLOCK,
            on_remains=self.remains.extend,
        )
        answer = await peer.answer(self.caller.localDescription.sdp)
        await self.caller.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        return peer

    def take_apart(self) -> list[weakref.ref[Any]]:
        """What `Garbage` does with the remains; what was taken apart."""
        parts = [weakref.ref(part) for part in self.remains]
        while self.remains:
            vars(self.remains.pop()).clear()
        return parts


def alive(parts: list[weakref.ref[Any]]) -> list[str]:
    return [type(part()).__name__ for part in parts if part() is not None]


@pytest.mark.parametrize("connected", [True, False])
async def test_what_is_left_of_a_peer_goes_when_it_is_taken_apart(
    mux: UdpMux, connected: bool
) -> None:
    errors = LoopErrors()
    call = Call(mux)
    peer = await call.begin()
    if connected:
        await until(lambda: "connected" in call.states, what="the connection")
        await until(lambda: call.channel.readyState == "open", what="the channel")
    assert call.remains == []
    await peer.close()
    await call.caller.close()
    parts: list[weakref.ref[Any]] = [weakref.ref(peer), weakref.ref(peer._pc)]
    del peer
    await until(lambda: call.remains)
    assert alive(parts) == ["Peer", "RTCPeerConnection"], "it takes the collector, or"
    parts += call.take_apart()
    await until(lambda: not alive(parts), what=f"the end of {alive(parts)}")
    assert len(parts) > 10
    assert errors.seen == []


async def test_a_peer_that_does_not_close_in_time_is_left_to_the_collector(
    mux: UdpMux, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.webrtc.peer.CLOSE_DEADLINE_S", 0)
    call = Call(mux)
    peer = await call.begin()
    await until(lambda: "connected" in call.states, what="the connection")
    await until(lambda: call.channel.readyState == "open", what="the channel")
    close = peer._pc.close
    monkeypatch.setattr(peer._pc, "close", asyncio.Event().wait)
    await peer.close()
    assert call.remains == []
    await close()
    await call.caller.close()
