"""Where a worker's mux lives, and the names in the checks that it is sent."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from aioice import stun

from ipc.errors import ConfigError, Overloaded
from workers.udp_mux import UdpMux, user_name

if TYPE_CHECKING:
    from ipc.clock import ManualClock

HERE = "127.0.0.1"
GATE: Any = None  # nothing comes


def check(name: str) -> bytes:
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["PRIORITY"] = 5
    message.attributes["USERNAME"] = f"{name}:peer"
    return bytes(message)


async def test_the_first_free_port_is_taken_on_every_address(clock: ManualClock) -> None:
    addresses = [HERE, "127.0.0.2", "::1"]
    first = UdpMux(clock, GATE, lambda: 0)
    second = UdpMux(clock, GATE, lambda: 0)
    third = UdpMux(clock, GATE, lambda: 0)
    try:
        port = first.open(addresses, [])
        assert first.addresses == addresses
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((HERE, 0))
            other = probe.getsockname()[1]
        assert second.open(["127.0.0.2", HERE], [port, other]) == other
        with pytest.raises(Overloaded) as raised:
            third.open([HERE], [port, other])
        assert raised.value.code == "no_port"
    finally:
        for mux in (first, second, third):
            mux.close()


async def test_an_address_that_is_not_ours_is_refused(clock: ManualClock) -> None:
    mux = UdpMux(clock, GATE, lambda: 0)
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        mux.open([HERE, "192.0.2.1"], [])
    assert mux.addresses == []


def test_a_checks_name_is_read_wherever_it_stands() -> None:
    assert user_name(check("abcd")) == "abcd"
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    assert user_name(bytes(message)) == ""


@pytest.mark.parametrize(
    "tail",
    [b"\0", b"\0\x06\xff\xff", b"\0\x06\0\x04", b"\x80\x22\xff\xff" * 5, b"\0\x06\0\x02\xff\xff"],
)
def test_names_that_lie_are_harmless(tail: bytes) -> None:
    assert isinstance(user_name(bytes(20) + tail), str)
