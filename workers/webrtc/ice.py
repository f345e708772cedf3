"""Where aioice meets the worker: which addresses are offered, and when datagrams are let in.

aioice offers every address of the machine but leaves loopback out. Here the list comes from
the settings, loopback included. Datagrams that are no media (ICE, DTLS) pass the worker's gate,
so that handshakes do not disturb the beat. aiortc and aioice make connections and protocols by
module-level names, which are replaced once per worker process.
"""

from __future__ import annotations

import ipaddress
from functools import partial
from typing import TYPE_CHECKING, Any

import aioice.ice
import aiortc.rtcicetransport
from aioice.ice import Connection, StunProtocol, get_host_addresses

from ipc.errors import ConfigError

if TYPE_CHECKING:
    from aioice import Candidate

    from workers.gate import Gate


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


def offer_addresses(addresses: list[str]) -> None:
    """From now on, every peer of this process offers exactly these addresses."""

    class LocalConnection(Connection):
        """An aioice connection on the configured addresses."""

        async def get_component_candidates(
            self,
            component: int,
            addresses: list[str],
            timeout: int = 5,
        ) -> list[Candidate]:
            return await super().get_component_candidates(component, list(chosen), timeout)

        async def connect(self) -> None:
            """Connect; when it was closed meanwhile, leave nothing running behind.

            aioice would start its consent checks after the close and never end them.
            """
            await super().connect()
            if self._closing and self._query_consent_task is not None:
                self._query_consent_task.cancel()
                raise ConnectionError("closed while it connected")

    chosen = tuple(addresses)
    aiortc.rtcicetransport.Connection = LocalConnection  # type: ignore[attr-defined]  # the hook


def let_in_through(gate: Gate) -> None:
    """From now on, datagrams that are no media wait in `gate` until there is time for them."""

    class GatedProtocol(StunProtocol):
        """An aioice socket: media at once, everything else when the beat allows."""

        def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
            assert isinstance(data, bytes)  # noqa: S101 - what a UDP socket gives
            if data and 127 < data[0] < 192:  # RTP and RTCP (RFC 7983)
                self.receiver.data_received(data, self.local_candidate.component)
            else:
                gate.push(partial(self._let_in, data, addr))

        def _let_in(self, data: bytes, addr: tuple[Any, ...]) -> None:
            if not self.transport.is_closing():
                super().datagram_received(data, addr)

    aioice.ice.StunProtocol = GatedProtocol  # type: ignore[misc]  # the hook
