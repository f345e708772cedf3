"""Where aioice meets the worker: its connections live on the mux, and decide by events.

aioice binds a socket per call, offers every address but loopback, sleeps 20 ms between checks
and misses a dead peer for half a minute. Here a call's sockets are ends of the worker's mux, the
addresses come from the settings, ICE is over when a pair is nominated, and a peer of whom
nothing authentic has come for 4 s is lost.
aiortc and aioice find both classes by module-level names, replaced once per worker process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import aioice.ice
import aiortc.rtcicetransport
from aioice import Candidate, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import Connection, StunProtocol
from aioice.utils import random_string

from ipc.clock import NS_PER_MS, NS_PER_S
from workers.webrtc.relay import Relay
from workers.webrtc.servers import ask_servers

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipc.clock import Clock
    from workers.udp_mux import Address, Leg, UdpMux
    from workers.webrtc.receiver import Receiver

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 0.02  # Ta of RFC 8445 section 14
CANDIDATES_DEADLINE_S = 30.0
# Addresses of one peer: each costs checks of ours, and whoever has the password could name any.
MAX_CANDIDATES = 128
MAX_QUEUED = 64
# Authentic checks that come before ICE begins: it answers all of them at once.
MAX_EARLY_CHECKS = 16
# What the media of one leg may take of the worker's time: a twentieth, and up to a second's share
# in advance for what a network has held back. What seems to take longer than `MOST_NS` was
# interrupted by somebody else; so 50 packets a second are always within it.
SHARE = 20
ADVANCE_NS = NS_PER_S
MOST_NS = NS_PER_MS
# A peer is asked whether it is there when it has been silent for one second, and now and then in
# any case (RFC 7675); it is lost after four, or when the question then under way has no answer.
SILENT_NS = 1 * NS_PER_S
WARN_NS = 2 * NS_PER_S
LOST_NS = 4 * NS_PER_S
ASK_S = 0.5
ASK_ANYWAY_NS = 5 * NS_PER_S
RETRANSMIT_NS = int(stun.RETRY_RTO * NS_PER_S)


@dataclass(frozen=True, slots=True)
class ChosenPair:
    """The path of the moment; the round trip is that of the newest check, None before any."""

    local: Address
    local_type: str
    remote: Address
    remote_type: str
    rtt_ns: int | None
    answers: int


class MuxedProtocol(StunProtocol):
    """An aioice socket that is an end of the mux, or a TURN relay."""

    receiver: MuxedConnection

    def __init__(self, receiver: Connection) -> None:
        super().__init__(receiver)
        self.waiting = 0

    @property
    def mux(self) -> UdpMux:
        """Where it lives."""
        return self.receiver.mux

    @property
    def leg(self) -> Leg:
        """Whom it belongs to."""
        return self.receiver

    def learn(self, addr: Address) -> bool:
        """A check from there was authentic; False when the address is not to be had."""
        transport: Any = self.transport
        if isinstance(transport, Relay):
            return transport.learn(addr)
        return self.mux.learn(addr, self)

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        """From a relay: the mux' own come by `let_in` and `media`."""
        relay: Any = self.transport
        assert isinstance(data, bytes)  # noqa: S101 - what a relay gives
        if not data:
            return
        address = (addr[0], addr[1])
        kind = data[0]
        if 127 < kind < 192:
            if relay.knows(address):
                self.mux.inject(data, self.receiver)
            else:
                self.mux.dropped["media_of_nobody"] += 1
        elif kind < 2 or (19 < kind < 64 and relay.knows(address)):
            self.mux.wait(self, data, address)
        else:
            self.mux.dropped["handshake_of_nobody" if 19 < kind < 64 else "unknown_kind"] += 1

    def let_in(self, data: bytes, address: Address) -> None:
        """STUN or DTLS, when there is time for it."""
        self.waiting -= 1
        if self.transport.is_closing():
            return
        try:
            super().datagram_received(data, address)
        except Exception as error:  # aioice unpacks attributes of any length, present or not
            log.debug("a datagram cannot be read: %r", error)
            self.mux.malformed()

    async def request(
        self,
        request: stun.Message,
        addr: Address,
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[stun.Message, Address]:
        """Ask a peer or a server; how long a peer took is remembered."""
        asked_ns = self.receiver.clock.now_ns()
        answer = await super().request(request, addr, integrity_key, retransmissions)
        if integrity_key is not None:
            self.receiver.answered(self.receiver.clock.now_ns() - asked_ns)
        return answer

    def send_stun(self, message: stun.Message, addr: Address) -> None:
        """Answering a check means that it was authentic: now we know who lives there."""
        if message.message_class == stun.Class.RESPONSE:
            if not self.learn(addr):
                return
            self.receiver.heard()
        super().send_stun(message, addr)


class MuxedConnection(Connection):
    """An aioice connection on the mux: ready by events, lost within 5 s."""

    mux: UdpMux
    clock: Clock
    public_addresses: dict[str, str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heard_ns = self.clock.now_ns()
        # aioice's four letters are too few for all calls of one port, and aiortc gives the
        # second transport of an offer without BUNDLE the name of the first.
        self._local_username = random_string(16)
        self.receiver: Receiver | None = None  # who takes media, once it is negotiated
        self.lost = False
        # Called once per silence of 2 s, whatever may have been expected: media, RTCP, pings.
        self.on_silent: Callable[[], None] = lambda: None
        self._warned = False
        self._rtt_ns: int | None = None
        self._answers = 0
        self._checking: asyncio.Task[None] | None = None
        self._candidate_came = asyncio.Event()
        self._early_checks = deque(self._early_checks, maxlen=MAX_EARLY_CHECKS)
        # When its share will have made good what its media has cost so far.
        self._paid_ns = 0

    def heard(self) -> None:
        """Something authentic has come from the peer."""
        self.heard_ns = self.clock.now_ns()

    def answered(self, took_ns: int) -> None:
        """The peer has answered a check of ours."""
        self._answers += 1
        # After a retransmission nobody knows which of the requests was answered.
        if took_ns < RETRANSMIT_NS:
            self._rtt_ns = took_ns

    @property
    def chosen(self) -> ChosenPair | None:
        """The pair that media takes; None before ICE has chosen one."""
        pair = self._nominated.get(1)
        if pair is None:
            return None
        local, remote = pair.local_candidate, pair.remote_candidate
        return ChosenPair(
            local=(local.host, local.port),
            local_type=local.type,
            remote=(remote.host, remote.port),
            remote_type=remote.type,
            rtt_ns=self._rtt_ns,
            answers=self._answers,
        )

    @property
    def home(self) -> Address | None:
        """Where the chosen pair leads."""
        pair = self._nominated.get(1)
        return None if pair is None else pair.remote_addr

    def media(self, length: int, now_ns: int) -> None:
        """RTP or RTCP lies in the mux' buffer."""
        receiver, paid_ns = self.receiver, self._paid_ns
        if receiver is None:
            return
        if paid_ns - now_ns > ADVANCE_NS:
            # Of whoever it is: what it costs to find out would be at the others' expense.
            self.mux.dropped["leg_too_costly"] += 1
            return
        try:
            receiver.media(length, now_ns)
        except Exception:
            # One call's fault (a bot that spoils its ring, say) must not stop the others' beat.
            log.exception("a call's media cannot be taken")
            self.receiver = None
            receiver.on_fault()
        if self.heard_ns >= now_ns:  # authentic: a forger must not use up the share of the peer
            took_ns = min(self.clock.now_ns() - now_ns, MOST_NS)
            self._paid_ns = max(paid_ns, now_ns) + took_ns * SHARE

    def data_received(self, data: bytes, component: int) -> None:
        """Only DTLS waits for aiortc, and only so much: nobody reads before ICE has a pair."""
        if 19 < data[0] < 64 and self._queue.qsize() < MAX_QUEUED:
            super().data_received(data, component)
        else:
            self.mux.dropped["handshake_unread"] += 1

    # -- candidates -------------------------------------------------------------------------

    async def get_component_candidates(
        self, component: int, addresses: list[str], timeout: int = 5
    ) -> list[Candidate]:
        """One host candidate per address of the mux, then what the servers know."""
        found: list[Candidate] = []
        for address in self.mux.addresses:
            protocol = self.new_protocol()
            transport = self.mux.connect(address, self.local_username, protocol)
            protocol.connection_made(cast("asyncio.BaseTransport", transport))
            port = transport.get_extra_info("sockname")[1]
            protocol.local_candidate = Candidate(
                foundation=candidate_foundation("host", "udp", address),
                component=component,
                transport="udp",
                priority=candidate_priority(component, "host"),
                host=self.public_addresses.get(address, address),
                port=port,
                type="host",
            )
            self._protocols.append(protocol)
            found.append(protocol.local_candidate)
        if self.stun_server or self.turn_server:
            found += await ask_servers(self, component)
        return found

    @property
    def hosts(self) -> list[StunProtocol]:
        """Its ends of the mux."""
        return [one for one in self._protocols if one.local_candidate.type == "host"]

    def new_protocol(self) -> MuxedProtocol:
        """One more socket of this leg's."""
        return MuxedProtocol(self)

    def adopt(self, protocol: MuxedProtocol) -> bool:
        """Take a relay; False when the leg was closed meanwhile and nobody would end it."""
        if not self._closing:
            self._protocols.append(protocol)
        return not self._closing

    def protocol_lost(self, protocol: StunProtocol) -> None:
        """A relay has broken down (or this leg ends): with the chosen path the peer is lost."""
        if not self._closing:
            self.lost |= any(pair.protocol is protocol for pair in self._nominated.values())
        super().protocol_lost(protocol)

    # -- checks -------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Return when a pair is nominated. Raises ConnectionError."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANDIDATES_DEADLINE_S):
                while self._expects_candidates():
                    self._candidate_came.clear()
                    await self._candidate_came.wait()
        try:
            await super().connect()
        finally:
            if self._checking is not None:
                self._checking.cancel()
        if self._closing and self._query_consent_task is not None:
            # Closed meanwhile: aioice would ask on and never end.
            self._query_consent_task.cancel()
            raise ConnectionError("closed while it connected")

    def _expects_candidates(self) -> bool:
        waiting = not self._remote_candidates and not self._early_checks
        return waiting and self._remote_candidates_expected() and not self._closing

    def _check_periodic(self) -> bool:
        # aioice would sleep after each check, also when the last one has settled everything.
        # Told that there is nothing to do, it waits for the outcome; the checks go on here.
        if self._checking is None:
            self._checking = asyncio.create_task(self._check(), name="ice checks")
        return False

    async def _check(self) -> None:
        while super()._check_periodic():  # noqa: ASYNC110 - the pace is the point
            await asyncio.sleep(CHECK_INTERVAL_S)

    def _add_remote_candidate(self, remote_candidate: Candidate, network_host: str) -> None:
        super()._add_remote_candidate(remote_candidate, network_host)
        self._candidate_came.set()

    def _end_remote_candidates(self) -> None:
        super()._end_remote_candidates()
        self._candidate_came.set()

    def request_received(
        self, message: stun.Message, addr: Address, protocol: StunProtocol
    ) -> None:
        """A check of the peer's."""
        if len(self._remote_candidates) >= MAX_CANDIDATES and not any(
            (known.host, known.port) == addr for known in self._remote_candidates
        ):
            self.mux.dropped["too_many_addresses"] += 1
            return
        super().request_received(message, addr, protocol)
        self._candidate_came.set()

    def check_complete(self, pair: Any) -> None:
        """A check of ours; a pair that works is where the peer lives."""
        if pair.state == pair.State.SUCCEEDED:
            self.heard()
            if isinstance(pair.protocol, MuxedProtocol):
                pair.protocol.learn(pair.remote_addr)
        super().check_complete(pair)

    # -- is the peer still there? ---------------------------------------------------------------

    async def query_consent(self) -> None:
        """Ask the peer when it is silent, and give it up when it stays so."""
        assert self.remote_password is not None  # noqa: S101 - it is connected
        key = self.remote_password.encode()
        asked_ns = self.clock.now_ns()
        while True:
            left_ns = max(0, self.heard_ns + LOST_NS - self.clock.now_ns())
            await asyncio.sleep(min(ASK_S * random.uniform(0.8, 1.2), left_ns / NS_PER_S))
            now_ns = self.clock.now_ns()
            silent_ns = now_ns - self.heard_ns
            if silent_ns >= LOST_NS:
                self.lost = True
                self._query_consent_task = None
                await self.close()
                return
            if silent_ns >= WARN_NS and not self._warned:
                self.on_silent()
            self._warned = silent_ns >= WARN_NS
            if silent_ns < SILENT_NS and now_ns - asked_ns < ASK_ANYWAY_NS:
                continue
            asked_ns = now_ns
            for pair in list(self._nominated.values()):
                request = self.build_request(pair, nominate=False)
                with contextlib.suppress(stun.TransactionError):
                    await pair.protocol.request(
                        request, pair.remote_addr, integrity_key=key, retransmissions=0
                    )
                    self.heard()

    async def close(self) -> None:
        """Close, also while it waits for candidates."""
        self._closing = True
        self._candidate_came.set()
        await super().close()


def live_on(mux: UdpMux, clock: Clock, public_addresses: dict[str, str]) -> None:
    """From now on, every peer of this process lives on this mux.

    `public_addresses` maps local addresses to those that callers see (a NAT, one to one).
    """
    here = {"mux": mux, "clock": clock, "public_addresses": public_addresses}
    connection = type("MuxedConnection", (MuxedConnection,), here)
    aioice.ice.StunProtocol = MuxedProtocol  # type: ignore[misc]  # the hook
    vars(aiortc.rtcicetransport)["Connection"] = connection  # the hook
