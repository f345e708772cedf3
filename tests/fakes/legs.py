"""ICE connections on a mux with STUN and TURN servers, as aiortc would make them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.support import DEADLINE_S
from workers.webrtc.ice import MuxedConnection
from workers.webrtc.relay import Relay

if TYPE_CHECKING:
    from ipc.clock import Clock
    from workers.udp_mux import UdpMux


def leg(
    mux: UdpMux,
    clock: Clock,
    *,
    stun_at: tuple[str, int] | None = None,
    turn_at: tuple[str, int] | None = None,
    transport: str = "udp",
    tls: bool = False,
    credential: str = "swordfish",
) -> MuxedConnection:
    """The answering side of a call; the fake server's user is ada."""
    here: dict[str, Any] = {"mux": mux, "clock": clock, "public_addresses": {}}
    made: MuxedConnection = type("Here", (MuxedConnection,), here)(
        ice_controlling=False,
        stun_server=stun_at,
        turn_server=turn_at,
        turn_username="ada",
        turn_password=credential,
        turn_transport=transport,
        turn_ssl=tls,
    )
    return made


async def gather(one: MuxedConnection) -> list[str]:
    """The types of the candidates found."""
    async with asyncio.timeout(DEADLINE_S):
        await one.gather_candidates()
    return [candidate.type for candidate in one.local_candidates]


def relay_of(one: MuxedConnection) -> Relay:
    """Its only relay."""
    transports: list[Any] = [protocol.transport for protocol in one._protocols]
    (found,) = [transport for transport in transports if isinstance(transport, Relay)]
    return found
