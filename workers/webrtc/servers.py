"""What STUN and TURN servers add to a leg's candidates, within a short deadline.

An answer waits for them, so nobody waits long for a server that is silent: what is known by then
is what is offered, and the next calls do without it for a while. The operator is told, not the
caller.
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
# A server that was silent is not asked for so long; then one call asks it for all.
SILENT_NS = 10 * NS_PER_S
# Whoever places calls may name any server.
MAX_KNOWN = 64


class SilentServers:
    """Which servers did not answer, by name; of too many, the first are forgotten."""

    def __init__(self) -> None:
        self._until_ns: dict[str, int] = {}
        self._warned_ns: dict[str, int] = {}

    def may_ask(self, name: str, now_ns: int) -> bool:
        """Whether it is worth while; if it was silent before, only one is told so at a time."""
        until_ns = self._until_ns.get(name)
        if until_ns is None:
            return True
        if now_ns < until_ns:
            return False
        self._until_ns[name] = now_ns + int(DEADLINE_S * NS_PER_S)
        return True

    def answered(self, name: str) -> None:
        """It lives."""
        self._until_ns.pop(name, None)

    def was_silent(self, name: str, now_ns: int) -> None:
        """It did not answer in time, or nothing leads to it."""
        _put(self._until_ns, name, now_ns + SILENT_NS)

    def warn(self, name: str, what: str, now_ns: int) -> None:
        """Tell the operator, once a minute for each server."""
        if now_ns - self._warned_ns.get(name, -WARN_AGAIN_NS) >= WARN_AGAIN_NS:
            _put(self._warned_ns, name, now_ns)
            log.warning("the %s %s", name, what)


def _put(table: dict[str, int], name: str, value: int) -> None:
    table.pop(name, None)
    table[name] = value
    if len(table) > MAX_KNOWN:
        del table[next(iter(table))]


_silent = SilentServers()


async def ask_servers(leg: MuxedConnection, component: int) -> list[Candidate]:
    """The reflexive and relayed candidates of a leg that has its host candidates."""
    found: list[Candidate] = []
    now_ns = leg.clock.now_ns
    asking: dict[asyncio.Task[None], str] = {}
    if leg.stun_server is not None:
        name = "STUN server {}:{}".format(*leg.stun_server)
        if _silent.may_ask(name, now_ns()):
            asking[asyncio.create_task(_reflexive(leg, found), name="asks STUN")] = name
    if leg.turn_server is not None:
        name = "TURN server {}:{}".format(*leg.turn_server)
        if leg.turn_transport != "udp":  # its other ways may be shut
            name = f"{name} over {'tls' if leg.turn_ssl else leg.turn_transport}"
        if _silent.may_ask(name, now_ns()):
            asking[asyncio.create_task(_relayed(leg, component, found), name="asks TURN")] = name
    if not asking:
        return found
    try:
        await asyncio.wait(asking, timeout=DEADLINE_S)
    finally:
        for task in asking:
            task.cancel()
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
    for name, outcome in zip(asking.values(), outcomes, strict=True):
        if isinstance(outcome, asyncio.CancelledError | OSError):
            _silent.was_silent(name, now_ns())
        else:
            _silent.answered(name)
        if isinstance(outcome, asyncio.CancelledError):
            _silent.warn(name, f"has not answered within {DEADLINE_S:g} s", now_ns())
        elif isinstance(outcome, Exception):
            _silent.warn(name, f"is of no use: {outcome!s:.200}", now_ns())
    return found


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
    relay = await open_relay(server, protocol, leg.clock, leg.mux.malformed)
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
