"""What STUN and TURN servers add to a leg's candidates, within a short deadline.

An answer waits for them, so nobody waits for a server that is silent: what is known by then is
what is offered. The operator is told, not the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, cast

from aioice import Candidate, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import server_reflexive_candidate

from ipc.clock import NS_PER_S
from workers.webrtc.relay import TurnServer, open_relay

if TYPE_CHECKING:
    from workers.webrtc.ice import MuxedConnection

log = logging.getLogger(__name__)

DEADLINE_S = 1.5
# From some of our addresses (of a bridge, say) no way leads to the server: once another one has
# its answer, they have only this long.
GRACE_S = 0.1
WARN_AGAIN_NS = 60 * NS_PER_S
_warned_ns: dict[str, int] = {}


async def ask_servers(leg: MuxedConnection, component: int) -> list[Candidate]:
    """The reflexive and relayed candidates of a leg that has its host candidates."""
    found: list[Candidate] = []
    asking: dict[asyncio.Task[None], str] = {}
    if leg.stun_server is not None:
        name = "STUN server {}:{}".format(*leg.stun_server)
        asking[asyncio.create_task(_reflexive(leg, found), name="asks STUN")] = name
    if leg.turn_server is not None:
        name = "TURN server {}:{}".format(*leg.turn_server)
        asking[asyncio.create_task(_relayed(leg, component, found), name="asks TURN")] = name
    try:
        await asyncio.wait(asking, timeout=DEADLINE_S)
    finally:
        for task in asking:
            task.cancel()
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
    for name, outcome in zip(asking.values(), outcomes, strict=True):
        if isinstance(outcome, asyncio.CancelledError):
            _warn(leg, name, f"has not answered within {DEADLINE_S:g} s")
        elif isinstance(outcome, Exception):
            _warn(leg, name, f"is of no use: {outcome!s:.200}")
    return found


def _warn(leg: MuxedConnection, name: str, what: str) -> None:
    now_ns = leg.clock.now_ns()
    if now_ns - _warned_ns.get(name, -WARN_AGAIN_NS) >= WARN_AGAIN_NS:
        _warned_ns[name] = now_ns
        log.warning("the %s %s", name, what)


async def _reflexive(leg: MuxedConnection, found: list[Candidate]) -> None:
    """Ask from each IPv4 address. Raises what the last one met when none has an answer."""
    server = leg.stun_server
    assert server is not None  # noqa: S101 - the caller looked
    queries = {
        asyncio.create_task(server_reflexive_candidate(protocol, server), name="asks STUN")
        for protocol in leg.hosts
        if ":" not in protocol.local_candidate.host
    }
    hosts = {(host.local_candidate.host, host.local_candidate.port) for host in leg.hosts}
    answered, failure = False, None
    waiting = queries
    try:
        while waiting:
            grace_s = GRACE_S if answered else None
            done, waiting = await asyncio.wait(
                waiting, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                return
            for query in done:
                error = query.exception()
                if error is not None:
                    failure = error
                    continue
                answered = True
                candidate = query.result()[0]
                # Without a NAT it is the host candidate once more (RFC 8445 section 5.1.3).
                if (candidate.host, candidate.port) not in hosts:
                    found.append(candidate)
    finally:
        for query in queries:
            query.cancel()
    if failure is not None and not answered:
        raise failure


async def _relayed(leg: MuxedConnection, component: int, found: list[Candidate]) -> None:
    """Open a relay. Raises OSError, TransactionError."""
    assert leg.turn_server is not None  # noqa: S101 - the caller looked
    server = TurnServer(
        address=leg.turn_server,
        username=leg.turn_username,
        credential=leg.turn_password,
        transport=leg.turn_transport,
        tls=leg.turn_ssl,
    )
    protocol = leg.new_protocol()
    relay = await open_relay(server, protocol, leg.mux.malformed)
    protocol.connection_made(cast("asyncio.BaseTransport", relay))
    host, port = relay.get_extra_info("sockname")
    related_host, related_port = relay.get_extra_info("related_address")
    protocol.local_candidate = Candidate(
        foundation=candidate_foundation("relay", "udp", host),
        component=component,
        transport="udp",
        priority=candidate_priority(component, "relay"),
        host=host,
        port=port,
        type="relay",
        related_address=related_host,
        related_port=related_port,
    )
    if leg.adopt(protocol):
        found.append(protocol.local_candidate)
    else:
        with contextlib.suppress(stun.TransactionError):
            await protocol.close()
