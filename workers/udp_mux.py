"""All calls of a worker through one UDP port: who a datagram is for.

One socket per offered address. Media and DTLS belong to the leg whose peer has shown by an
authenticated check that it is at the sending address; checks to the leg whose name they carry;
responses to whoever asked. Media is handled at once, in one buffer; everything else passes the
worker's gate. What belongs to nobody is dropped and counted (RFC 7983, RFC 8445).

The slots read what has come. Between them, datagrams are read when they come only as long as
somebody `watch`es: with many callers, whose packets come at any time, waking up for each would
cost more than handling it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import socket
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ipc.clock import NS_PER_S
from ipc.errors import ConfigError, Overloaded
from workers.mux_transport import MuxTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipc.clock import Clock
    from workers.gate import Gate

Address = tuple[str, int]

BUFFER_BYTES = 2_048
SOCKET_BYTES = 4 << 20
# Datagrams read in one go: then the loop looks at its timers again.
BATCH = 64
DRAINED = 16
# Reading ends this long before the next slot: whoever sends is not kept waiting.
QUIET_NS = 100_000
MAX_TRANSACTIONS = 4_096
# Not read to its end for so many slots (0.1 s, in a crowd half of it), what waits is old.
BACKLOG_SLOTS = 25
# From so many on there is always this much time for it, whoever is kept waiting.
BEHIND_SLOTS = 5
LEAST_NS = 500_000
# How much of one leg's may wait at the gate.
MAX_WAITING = 32
# An address whose leg has heard nothing for so long may be taken by another one.
TAKEN_NS = 2 * NS_PER_S
# Addresses that one leg's peer may be at: it moves, and whoever has the password could name any.
MAX_ADDRESSES = 16
USERNAME = 0x0006
ANY_PORT_TRIES = 8
_BUSY = {errno.EADDRINUSE}


class Leg(Protocol):
    """Whom a remote address belongs to."""

    heard_ns: int

    @property
    def home(self) -> Address | None:
        """Where its peer is known to live, once that is settled."""
        ...

    def media(self, length: int, now_ns: int) -> None:
        """RTP or RTCP lies at the start of the mux' buffer."""
        ...


class Receiving(Protocol):
    """An aioice socket: the one end of a leg on one local address."""

    @property
    def leg(self) -> Leg:
        """Whom it belongs to."""
        ...

    def let_in(self, data: bytes, address: Address) -> None:
        """STUN or DTLS."""
        ...

    def connection_lost(self, error: Exception | None) -> None:
        """Closed."""
        ...


class UdpMux:
    """The sockets of a worker and the way from each datagram to its leg."""

    def __init__(
        self,
        clock: Clock,
        gate: Gate,
        due_ns: Callable[[], int],
        on_read: Callable[[], None] = lambda: None,
    ) -> None:
        """`due_ns` tells when the next slot begins; `on_read` hears of reading between slots."""
        self._clock = clock
        self._gate = gate
        self._due_ns = due_ns
        self._on_read = on_read
        self._sockets: dict[str, socket.socket] = {}
        self._legs: dict[Address, Receiving] = {}
        # The addresses of each leg, the one that was heard last at the end.
        self._places: dict[Leg, dict[Address, None]] = {}
        self._names: dict[tuple[str, str], Receiving] = {}
        self._asked: dict[bytes, Receiving] = {}
        self.buffer = bytearray(BUFFER_BYTES)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        self.dropped: Counter[str] = Counter()
        self.received = 0
        self.watching = False
        # By local address, the slots since everything that had come was read.
        self._behind: Counter[str] = Counter()

    # -- sockets ----------------------------------------------------------------------------

    def open(self, addresses: list[str], ports: list[int], *, all_of_them: bool = True) -> int:
        """Bind the addresses to the first port that is free on each; the port.

        Without `all_of_them`, one that has just gone (or is not there yet) is left out. Raises
        ConfigError for an address that is not ours, Overloaded when no port is free.
        """
        for port in ports or [0] * ANY_PORT_TRIES:
            bound: dict[str, socket.socket] = {}
            try:
                for address in addresses:
                    try:
                        bound[address] = _bind(address, port)
                    except OSError as error:
                        if all_of_them or error.errno != errno.EADDRNOTAVAIL:
                            raise
                        continue
                    port = port or bound[address].getsockname()[1]
                if not bound:
                    raise OSError(errno.EADDRNOTAVAIL, "none of the addresses is there")
            except OSError as error:
                for sock in bound.values():
                    sock.close()
                if error.errno not in _BUSY:
                    raise ConfigError(
                        f"UDP cannot bind {address}: {error.strerror}", code="ice_address"
                    ) from error
            else:
                self._sockets = bound
                self.watch(True)
                return port
        raise Overloaded(f"no UDP port is free among {ports}", code="no_port")

    def close(self) -> None:
        """Give the ports back."""
        self.watch(False)
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def watch(self, watching: bool) -> None:
        """Read each datagram when it comes, or what has come in the slots only."""
        if watching == self.watching:
            return
        self.watching = watching
        loop = asyncio.get_running_loop()
        for address, sock in self._sockets.items():
            if watching:
                loop.add_reader(sock.fileno(), self._readable, sock, address)
            else:
                loop.remove_reader(sock.fileno())

    @property
    def busy(self) -> bool:
        """Whether there is any leg to which datagrams may come."""
        return bool(self._names)

    @property
    def addresses(self) -> list[str]:
        """The local addresses."""
        return list(self._sockets)

    def connect(self, address: str, name: str, protocol: Receiving) -> MuxTransport:
        """An end of the leg called `name` (its ICE user name) on a local address."""
        self._names[address, name] = protocol
        return MuxTransport(self, self._sockets[address], protocol)

    # -- who is where -----------------------------------------------------------------------

    def learn(self, address: Address, protocol: Receiving) -> bool:
        """A check from there was authentic; False when another leg lives there.

        Of more addresses than a leg may have, the one that was heard longest ago is forgotten, but
        never its home.
        """
        known = self._legs.get(address)
        if (
            known is not None
            and known.leg is not protocol.leg
            and self._clock.now_ns() - known.leg.heard_ns < TAKEN_NS
        ):
            self.dropped["address_taken"] += 1
            return False
        if known is not None:
            self._leave(address, known)
        self._legs[address] = protocol
        places = self._places.setdefault(protocol.leg, {})
        places[address] = None
        if len(places) > MAX_ADDRESSES:
            home = protocol.leg.home
            oldest = next(place for place in places if place != home)
            del places[oldest], self._legs[oldest]
        return True

    def _leave(self, address: Address, protocol: Receiving) -> None:
        places = self._places[protocol.leg]
        del places[address]
        if not places:
            del self._places[protocol.leg]

    def asked(self, transaction: bytes, protocol: Receiving) -> None:
        """A request went out."""
        self._asked[transaction] = protocol
        if len(self._asked) > MAX_TRANSACTIONS:
            del self._asked[next(iter(self._asked))]

    def forget(self, protocol: Receiving) -> None:
        """That end is gone."""
        for address, known in self._legs.items():
            if known is protocol:
                self._leave(address, known)
        for table in (self._legs, self._names, self._asked):
            for key in [key for key, value in table.items() if value is protocol]:
                del table[key]  # type: ignore[arg-type]  # each key is of its own table

    # -- what comes ---------------------------------------------------------------------------

    def drain(self) -> None:
        """Handle what has come by now, but not so much that the next slot would wait for it.

        Half of the time until then is for those who encode.
        """
        if self.watching and not self.busy:
            return  # nobody calls this way: the loop tells when somebody does
        for address, sock in self._sockets.items():
            now_ns = self._clock.now_ns()
            until_ns = now_ns + (self._due_ns() - now_ns) // 2
            behind = self._behind[address] = self._behind[address] + 1
            if behind > BEHIND_SLOTS and until_ns < now_ns + LEAST_NS:
                until_ns = now_ns + LEAST_NS
            if behind > BACKLOG_SLOTS:
                self._behind[address] = 0
                self._shed(sock, address, until_ns)
            elif self._read(sock, address, DRAINED, until_ns):
                self._read_on(sock, address)

    def _readable(self, sock: socket.socket, local: str) -> None:
        until_ns = self._due_ns() - QUIET_NS
        # When the time is up, the next slot goes on.
        if self._read(sock, local, BATCH, until_ns) and self._clock.now_ns() < until_ns:
            self._read_on(sock, local)
        self._on_read()

    def _read_on(self, sock: socket.socket, local: str) -> None:
        """The rest of a burst, after the loop's other business; when watched it comes by itself."""
        if not self.watching:
            asyncio.get_running_loop().call_soon(self._readable, sock, local)

    def _read(self, sock: socket.socket, local: str, most: int, until_ns: int) -> bool:
        """Handle up to `most` datagrams before `until_ns`; whether there may be more."""
        buffer, legs, now = self.buffer, self._legs, self._clock.now_ns
        receive = sock.recvfrom_into
        # The end of a batch is told by an exception: that is once, not per packet.
        with contextlib.suppress(BlockingIOError, ConnectionError):
            for _ in range(most):
                now_ns = now()
                if now_ns >= until_ns:
                    return True
                length, address = receive(buffer)
                self.received += 1
                if length and 127 < buffer[0] < 192:
                    protocol = legs.get(address[:2])
                    if protocol is not None:
                        protocol.leg.media(length, now_ns)
                    else:
                        self.dropped["media_of_nobody"] += 1
                else:
                    self._other(local, bytes(buffer[:length]), address[:2])
            return True
        self._behind[local] = 0
        return False

    def _shed(self, sock: socket.socket, local: str, until_ns: int) -> None:
        """Drop the media that waits: there is more than we can serve, and it must not get late.

        What has been in the socket for long is worth less than what comes now; callers who are
        not heard for a moment go on, and those who are heard seconds late do not.
        """
        buffer, legs, now = self.buffer, self._legs, self._clock.now_ns
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while now() < until_ns:
                length, address = sock.recvfrom_into(buffer)
                self.received += 1
                if length and 127 < buffer[0] < 192:
                    known = address[:2] in legs
                    self.dropped["backlog" if known else "media_of_nobody"] += 1
                else:
                    self._other(local, bytes(buffer[:length]), address[:2])

    async def turn(self) -> None:
        """Wait for a moment in which there is time for something that is not on the beat."""
        await self._gate.turn()

    def malformed(self) -> None:
        """What was let in could not be read."""
        self.dropped["malformed"] += 1

    def inject(self, data: bytes, leg: Leg) -> None:
        """Media that came another way (a relay)."""
        length = len(data)
        if length <= BUFFER_BYTES:
            self.buffer[:length] = data
            leg.media(length, self._clock.now_ns())

    def _other(self, local: str, data: bytes, address: Address) -> None:
        """STUN or DTLS."""
        protocol: Receiving | None
        if len(data) >= 20 and data[0] < 2:
            if data[0] == 0 and data[1] == 1:
                name = user_name(data)
                protocol = self._names.get((local, name))
                why = "check_for_nobody"
            else:
                protocol = self._asked.pop(data[8:20], None)
                if protocol is not None:
                    self.wait(protocol, data, address, expected=True)
                    return
                why = "response_for_nobody"
        elif data and 19 < data[0] < 64:
            protocol = self._legs.get(address)
            why = "handshake_of_nobody"
        else:  # RFC 7983 knows no more that could be for us
            protocol, why = None, "unknown_kind"
        if protocol is None:
            self.dropped[why] += 1
            return
        self.wait(protocol, data, address)

    def wait(self, protocol: Any, data: bytes, address: Address, *, expected: bool = False) -> None:
        """Let a datagram in when there is time for it; a leg has only so many waiting.

        What it has asked for (`expected`) and what comes from where its peer lives have as much
        room again: strangers who know its name must not keep it from being found.
        """
        expected = expected or self._legs.get(address) is protocol
        most = 2 * MAX_WAITING if expected else MAX_WAITING
        if protocol.waiting >= most:
            self.dropped["leg_too_busy"] += 1
            return
        protocol.waiting += 1
        if not self._gate.push(partial(protocol.let_in, data, address)):
            protocol.waiting -= 1
            self.dropped["gate_full"] += 1


def user_name(message: bytes) -> str:
    """Whom a STUN request is for: the part before the colon of its USERNAME; "" when it is none."""
    at, size = 20, len(message)
    while at + 4 <= size:
        length = message[at + 2] << 8 | message[at + 3]
        if message[at] << 8 | message[at + 1] == USERNAME:
            name = message[at + 4 : at + 4 + length].partition(b":")[0]
            return name.decode("ascii", "replace")
        at += 4 + (length + 3 & ~3)
    return ""


def _bind(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BYTES)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
    except BaseException:
        sock.close()
        raise
    return sock
