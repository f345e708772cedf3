"""The addresses that callers are offered."""

from __future__ import annotations

import pytest

from ipc.errors import ConfigError
from workers.webrtc import addresses


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "::g"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        addresses.check_address(text)
    assert raised.value.code == "ice_address"


def test_the_addresses_are_those_wanted_or_all_but_loopback_or_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = ["127.0.0.1", "192.0.2.4", "fe80::1%eth0"]
    monkeypatch.setattr(addresses, "get_host_addresses", lambda use_ipv4, use_ipv6: found)
    assert addresses.local_addresses(["::1", "127.0.0.9"]) == ["::1", "127.0.0.9"]
    assert addresses.local_addresses([]) == found[1:]
    found[1:] = []
    assert addresses.local_addresses([]) == ["127.0.0.1"]


def test_public_addresses_stand_for_the_local_ones_they_are_given_for() -> None:
    local = ["10.0.0.2", "10.0.1.2", "fd00::2"]
    assert addresses.public_addresses(local, []) == {}
    assert addresses.public_addresses(local, ["203.0.113.7"]) == {
        "10.0.0.2": "203.0.113.7",
        "10.0.1.2": "203.0.113.7",
    }
    assert addresses.public_addresses(local, ["10.0.1.2=203.0.113.8", "2001:db8::1"]) == {
        "10.0.1.2": "203.0.113.8",
        "fd00::2": "2001:db8::1",
    }
