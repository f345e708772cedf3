"""Datagrams at a worker's socket: media goes straight on, all else passes the gate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import aioice.ice
import pytest
from aioice import stun

from workers.webrtc import ice

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.gate import Gate

ADDRESS = ("127.0.0.1", 4000)


class HeldGate:
    """A gate that stays closed until the test opens it."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def push(self, work: Callable[[], None]) -> bool:
        self.waiting.append(work)
        return True


class Receiver:
    """Where aioice's socket passes things on to."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.requests = 0

    def data_received(self, data: bytes, _component: int) -> None:
        self.data.append(data)

    def request_received(self, *_: Any) -> None:
        self.requests += 1


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> HeldGate:
    monkeypatch.setattr(aioice.ice, "StunProtocol", aioice.ice.StunProtocol)
    gate = HeldGate()
    ice.let_in_through(cast("Gate", gate))
    return gate


@pytest.fixture
async def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def protocol(gate: HeldGate, receiver: Receiver) -> aioice.ice.StunProtocol:
    protocol = aioice.ice.StunProtocol(cast("Any", receiver))
    protocol.local_candidate = cast("Any", SimpleNamespace(component=1))
    protocol.transport = cast("Any", SimpleNamespace(is_closing=lambda: False))
    return protocol


@pytest.mark.parametrize("first", [0x80, 0x90, 0xBF])
def test_media_goes_straight_on(
    protocol: aioice.ice.StunProtocol, gate: HeldGate, receiver: Receiver, first: int
) -> None:
    data = bytes([first]) + bytes(20)
    protocol.datagram_received(data, ADDRESS)
    assert receiver.data == [data]
    assert gate.waiting == []


@pytest.mark.parametrize("data", [b"", b"\x14rest", b"\x7f", b"\xc0", b"\x00" * 3])
def test_all_else_waits_and_then_arrives(
    protocol: aioice.ice.StunProtocol, gate: HeldGate, receiver: Receiver, data: bytes
) -> None:
    protocol.datagram_received(data, ADDRESS)
    assert receiver.data == []
    gate.waiting.pop()()
    assert receiver.data == [data]


def test_a_connectivity_check_waits_and_then_arrives(
    protocol: aioice.ice.StunProtocol, gate: HeldGate, receiver: Receiver
) -> None:
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    protocol.datagram_received(bytes(request), ADDRESS)
    assert receiver.requests == 0
    gate.waiting.pop()()
    assert receiver.requests == 1


def test_what_waited_for_a_socket_that_was_closed_is_dropped(
    protocol: aioice.ice.StunProtocol, gate: HeldGate, receiver: Receiver
) -> None:
    protocol.datagram_received(b"\x14handshake", ADDRESS)
    protocol.transport = cast("Any", SimpleNamespace(is_closing=lambda: True))
    gate.waiting.pop()()
    assert receiver.data == []
