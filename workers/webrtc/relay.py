"""A TURN allocation that behaves like one of a leg's sockets (RFC 8656).

Each peer gets a channel, which also permits it; both are renewed before they expire. Who binds
or waits is bounded: what finds no room is lost, as on any path. Media leaves without a task of
its own. aioice's client does the allocation, its refresh and the long-term credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from aioice import stun
from aioice.turn import TurnClientTcpProtocol, TurnClientUdpProtocol

from ipc.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipc.clock import Clock
    from workers.udp_mux import Address

log = logging.getLogger(__name__)

LIFETIME_S = 600
# A permission lasts 5 minutes (section 9); binding its channel again renews it.
RENEW_S = 240.0
BIND_DEADLINE_S = 5.0
# A leg ends while others want its place: a server that does not answer keeps it no longer.
DELETE_DEADLINE_S = 0.4
FIRST_CHANNEL = 0x4000
MAX_PEERS = 128
MAX_HELD = 16  # datagrams of one peer that wait for its channel
MAX_BUFFERED_BYTES = 64 * 1024
# What a server has refused (a peer of a network that it keeps out of, say) it is asked for again
# after a pause, which doubles each time: media would ask 50 times a second.
PAUSE_NS = 1 * NS_PER_S
LONGEST_PAUSE_NS = 60 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnServer:
    """Where an allocation is asked for. `transport` is udp or tcp."""

    address: tuple[str, int]
    username: str | None
    credential: str | None
    transport: str = "udp"
    tls: bool = False


class Relayed(Protocol):
    """Whom a relay's datagrams are for: an aioice socket."""

    def datagram_received(self, data: bytes, address: Address) -> None:
        """From a peer."""
        ...

    def connection_lost(self, error: Exception | None) -> None:
        """Closed."""
        ...


class _Guarded:
    """A datagram that cannot be read must not reach the loop's exception handler."""

    on_malformed: Callable[[], None]

    def datagram_received(self, data: bytes | str, address: Any) -> None:
        try:
            super().datagram_received(data, address)  # type: ignore[misc]  # of aioice's client
        except Exception as error:  # aioice unpacks attributes of any length
            log.debug("a server's datagram cannot be read: %r", error)
            self.on_malformed()


class _UdpClient(_Guarded, TurnClientUdpProtocol):
    pass


class _TcpClient(_Guarded, TurnClientTcpProtocol):
    pass


class Relay:
    """What an aioice socket takes for a datagram transport of its own. `close` ends it."""

    def __init__(self, client: _UdpClient | _TcpClient, protocol: Relayed, clock: Clock) -> None:
        self._client = client
        self._protocol = protocol
        self._clock = clock
        self._numbers: dict[Address, int] = {}
        self._channels: dict[Address, int] = {}
        self._held: dict[Address, list[bytes]] = {}
        # Of peers without a channel: when to ask for one again, and how long that pause is.
        self._pauses: dict[Address, tuple[int, int]] = {}
        self._learnt: set[Address] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending: asyncio.Task[None] | None = None
        self._renewing = asyncio.create_task(self._renew(), name="relay renews")
        client.receiver = self  # type: ignore[assignment]  # all that the client calls is here

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`sockname` is the relayed address, `related_address` ours as the server sees it."""
        known = {
            "sockname": self._client.relayed_address,
            "related_address": self._client.mapped_address,
        }
        return known.get(name, default)

    def is_closing(self) -> bool:
        """Whether it was closed, or the server is gone."""
        return self._ending is not None or self._client.transport.is_closing()

    def close(self) -> None:
        """Give the allocation back; the protocol hears `connection_lost` within a moment."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(), name="relay ends")

    async def _end(self) -> None:
        self._stop()
        try:
            with contextlib.suppress(TimeoutError, OSError, stun.TransactionError):
                async with asyncio.timeout(DELETE_DEADLINE_S):
                    await self._client.delete()
        finally:
            self._client.transport.abort()

    def _stop(self) -> None:
        for task in (self._renewing, *self._tasks):
            task.cancel()
        self._held.clear()

    # -- who is where -----------------------------------------------------------------------

    def learn(self, address: Address) -> bool:
        """A check from there was authentic; False when it is one too many.

        Addresses behind a relay are of its own network: the mux' legs have others.
        """
        if len(self._learnt) >= MAX_PEERS and address not in self._learnt:
            return False
        self._learnt.add(address)
        return True

    def knows(self, address: Address) -> bool:
        """Whether an authentic check came from there."""
        return address in self._learnt

    # -- what goes ----------------------------------------------------------------------------

    def sendto(self, data: bytes, address: Address) -> None:
        """Send STUN or DTLS."""
        self.send_media(data, address)

    def send_media(self, data: bytes | memoryview, address: Address) -> bool:
        """Send without waiting; False when it cannot leave."""
        if self.is_closing():
            return False
        channel = self._channels.get(address)
        if channel is not None:
            return self._send(channel, data)
        held = self._held.get(address)
        if held is None:
            held = self._bind(address)
        if held is None or len(held) >= MAX_HELD:
            return False
        held.append(bytes(data))
        return True

    def _send(self, channel: int, data: bytes | memoryview) -> bool:
        if self._client.transport.get_write_buffer_size() > MAX_BUFFERED_BYTES:  # type: ignore[union-attr]  # both kinds have it
            return False
        self._client._send(struct.pack("!HH", channel, len(data)) + data)
        return True

    def _bind(self, address: Address) -> list[bytes] | None:
        """What waits for a channel to there; None when none can be had now."""
        if self._clock.now_ns() < self._pauses.get(address, (0, 0))[0]:
            return None
        # A failed binding is tried again with the same number, which is always allowed.
        number = self._numbers.get(address, FIRST_CHANNEL + len(self._numbers))
        if number >= FIRST_CHANNEL + MAX_PEERS:
            return None
        self._numbers[address] = number
        held = self._held[address] = []
        task = asyncio.create_task(self._open_channel(number, address), name="relay binds")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return held

    async def _open_channel(self, number: int, address: Address) -> None:
        try:
            async with asyncio.timeout(BIND_DEADLINE_S):
                await self._client.channel_bind(number, address)
        except (TimeoutError, OSError, stun.TransactionError) as error:
            log.debug("a relay does not reach a peer: %r", error)
            self._held.pop(address, None)
            self._pause(address)
            return
        self._pauses.pop(address, None)
        self._client.channel_to_peer[number] = address
        self._client.peer_to_channel[address] = number
        self._channels[address] = number
        for data in self._held.pop(address, []):
            self._send(number, data)

    def _pause(self, address: Address) -> None:
        last_ns = self._pauses.get(address, (0, 0))[1]
        pause_ns = min(max(2 * last_ns, PAUSE_NS), LONGEST_PAUSE_NS)
        self._pauses[address] = self._clock.now_ns() + pause_ns, pause_ns

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            for address, number in list(self._channels.items()):
                try:
                    async with asyncio.timeout(BIND_DEADLINE_S):
                        await self._client.channel_bind(number, address)
                except (TimeoutError, OSError, stun.TransactionError):
                    self._channels.pop(address, None)  # what is sent next binds it again

    # -- what comes ---------------------------------------------------------------------------

    def datagram_received(self, data: bytes, address: Address) -> None:
        """From a peer, through its channel or an indication."""
        self._protocol.datagram_received(data, address)

    def connection_lost(self, error: Exception | None) -> None:
        """The way to the server is gone, or was closed."""
        self._stop()
        if self._client.refresh_task is not None:
            self._client.refresh_task.cancel()
        self._protocol.connection_lost(error)


async def open_relay(
    server: TurnServer, protocol: Relayed, clock: Clock, on_malformed: Callable[[], None]
) -> Relay:
    """Ask for an allocation. Raises OSError, TransactionError; the caller sets the deadline."""
    loop = asyncio.get_running_loop()
    kind = _TcpClient if server.transport == "tcp" else _UdpClient
    client = kind(
        server.address,
        username=server.username,
        password=server.credential,
        lifetime=LIFETIME_S,
        channel_refresh_time=LIFETIME_S,  # of no effect: channels are renewed here
    )
    client.on_malformed = on_malformed
    host, port = server.address
    if isinstance(client, _TcpClient):
        await loop.create_connection(lambda: client, host, port, ssl=server.tls or None)
    else:
        await loop.create_datagram_endpoint(lambda: client, remote_addr=(host, port))
    try:
        await client.connect()
    except BaseException:
        client.transport.abort()
        raise
    return Relay(client, protocol, clock)
