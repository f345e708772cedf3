"""Which addresses a worker offers to callers, and what they are called outside.

From the settings, or from what the machine has. Text in, text out; binds nothing.
"""

from __future__ import annotations

import ipaddress

from aioice.ice import get_host_addresses

from ipc.errors import ConfigError


def local_addresses(wanted: list[str]) -> list[str]:
    """The addresses to offer: those wanted, else every non-loopback one, else loopback.

    Raises ConfigError for something that is not an address.
    """
    if wanted:
        return [check_address(address) for address in wanted]
    found: list[str] = [
        address
        for address in get_host_addresses(use_ipv4=True, use_ipv6=True)
        if not ipaddress.ip_address(address.partition("%")[0]).is_loopback
    ]
    return found or ["127.0.0.1"]


def check_address(address: str) -> str:
    """An IP address in its usual form. Raises ConfigError."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        raise ConfigError(f"{address!r} is not an IP address", code="ice_address") from None


def public_addresses(local: list[str], wanted: list[str]) -> dict[str, str]:
    """What callers see of each local address: of `PUBLIC` or `LOCAL=PUBLIC`, the fitting one."""
    found: dict[str, str] = {}
    for entry in wanted:
        inner, _, outer = entry.rpartition("=")
        outer = check_address(outer)
        for address in [check_address(inner)] if inner else local:
            if (":" in address) == (":" in outer):
                found.setdefault(address, outer)
    return found
