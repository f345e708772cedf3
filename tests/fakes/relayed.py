"""Callers behind firewalls: one is reached by relays alone, one reaches others by its own alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from aioice.ice import Connection
from aiortc import RTCConfiguration, RTCIceServer, RTCIceTransportPolicy

from tests.fakes.caller import FakeCaller

if TYPE_CHECKING:
    from tests.fakes.turn import TurnServer

CANDIDATE = re.compile(r"a=candidate:\S+ 1 udp \d+ \S+ \d+ typ (\S+).*\r\n")


class RelayedCaller(FakeCaller):
    """Has no candidate but that of a relay of its own, on `server`."""

    def __init__(self, url: str, server: TurnServer, *arguments: Any, **options: Any) -> None:
        host, port = server.address
        turn = RTCIceServer(f"turn:{host}:{port}", username="ada", credential="swordfish")
        relay_only = RTCConfiguration(
            iceServers=[turn], iceTransportPolicy=RTCIceTransportPolicy.RELAY
        )
        super().__init__(url, *arguments, configuration=relay_only, **options)
        self._connection = _NoHost


class FirewalledCaller(FakeCaller):
    """Sends to relays alone, those of the answer, and lets in only what comes from `server`'s."""

    def __init__(self, url: str, server: TurnServer, *arguments: Any, **options: Any) -> None:
        super().__init__(url, *arguments, **options)
        self._connection = type("_Firewall", (_Firewall, self._connection), {"server": server})

    async def _ask(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await super()._ask(method, body)
        if "sdp" in answer:
            answer["sdp"] = CANDIDATE.sub(
                lambda line: line[0] if line[1] == "relay" else "", answer["sdp"]
            )
        return answer


class _NoHost(Connection):
    async def get_component_candidates(
        self, component: int, addresses: list[str], timeout: int = 5
    ) -> Any:
        return await super().get_component_candidates(component, [], timeout)


class _Firewall(Connection):
    server: ClassVar[TurnServer]

    def request_received(self, message: Any, addr: tuple[str, int], protocol: Any) -> None:
        if addr in self.server.relayed:
            super().request_received(message, addr, protocol)
