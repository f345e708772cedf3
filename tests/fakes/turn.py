"""A STUN and TURN server on loopback, over UDP and TCP: what RFC 8656 asks of one, and no more.

Long-term credentials with a nonce that `forget_nonce` makes stale, Allocate, Refresh,
CreatePermission, ChannelBind, Send and ChannelData. What it did is counted by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import struct
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from aioice import stun
from aioice.turn import TurnStreamMixin, make_integrity_key

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

Address = tuple[str, int]
HERE = "127.0.0.1"
REALM = "fake.example"


class _Allocation:
    """A relayed socket of one client."""

    def __init__(self, server: TurnServer, reply: Callable[[bytes], None]) -> None:
        self.permitted: set[str] = set()
        self.channels: dict[int, Address] = {}
        self._server = server
        self._reply = reply
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((HERE, 0))
        self.address: Address = self._socket.getsockname()
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def send(self, data: bytes, peer: Address) -> None:
        if peer[0] not in self.permitted:
            self._server.did["forbidden"] += 1
            return
        with contextlib.suppress(OSError):
            self._socket.sendto(data, peer)

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                data, peer = self._socket.recvfrom(65_536)
                if peer[0] not in self.permitted:
                    self._server.did["unpermitted"] += 1
                    continue
                self._server.did["relayed"] += 1
                for number, address in self.channels.items():
                    if address == peer:
                        header = struct.pack("!HH", number, len(data))
                        self._reply(header + data + bytes(-len(data) % 4))
                        break
                else:
                    message = stun.Message(stun.Method.DATA, stun.Class.INDICATION)
                    message.attributes["XOR-PEER-ADDRESS"] = peer
                    message.attributes["DATA"] = data
                    self._reply(bytes(message))


class TurnServer:
    """Use as an async context manager. With `silent` it takes everything and says nothing."""

    def __init__(
        self,
        *,
        username: str = "ada",
        credential: str = "swordfish",
        silent: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.silent = silent
        self.forbidden: set[str] = set()  # peers that nobody may reach through us
        self.mapped: Address | None = None  # what Binding answers, in place of the truth
        self.did: Counter[str] = Counter()
        self.allocations: dict[object, _Allocation] = {}
        self.relayed: set[Address] = set()  # every relayed address that there ever was
        self._username = username
        self._tls = tls  # of what comes over TCP
        self._key = make_integrity_key(username, REALM, credential)
        self.forget_nonce()

    def forget_nonce(self) -> None:
        """The next request with the old one gets a 438."""
        self._nonce = secrets.token_hex(8).encode()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), (HERE, 0))
        self.address: Address = self._udp.get_extra_info("sockname")
        self._connections: set[asyncio.Transport] = set()
        self._tcp = await loop.create_server(lambda: _Tcp(self), HERE, 0, ssl=self._tls)
        self.tcp_address: Address = self._tcp.sockets[0].getsockname()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.die()

    def die(self) -> None:
        """Be gone, with all allocations."""
        self._udp.close()
        self._tcp.close()
        for connection in self._connections:
            connection.abort()
        for client in list(self.allocations):
            self.free(client)

    def free(self, client: object) -> None:
        """End a client's allocation."""
        allocation = self.allocations.pop(client, None)
        if allocation is not None:
            allocation.close()

    def take(
        self, data: bytes, client: object, source: Address, reply: Callable[[bytes], None]
    ) -> None:
        """A message of a client."""
        if self.silent:
            self.did["unanswered"] += 1
            return
        allocation = self.allocations.get(client)
        if data[0] & 0xC0 == 0x40:
            number, length = struct.unpack("!HH", data[:4])
            if allocation is not None and number in allocation.channels:
                self.did["channel data"] += 1
                allocation.send(data[4 : 4 + length], allocation.channels[number])
            return
        request = stun.parse_message(data)
        self.did[request.message_method.name] += 1
        if request.message_class == stun.Class.INDICATION:
            if allocation is not None and request.message_method == stun.Method.SEND:
                fields = request.attributes
                allocation.send(fields["DATA"], fields["XOR-PEER-ADDRESS"])
            return
        answer = stun.Message(
            request.message_method,
            stun.Class.RESPONSE,
            transaction_id=request.transaction_id,
        )
        if request.message_method == stun.Method.BINDING:
            answer.attributes["XOR-MAPPED-ADDRESS"] = self.mapped or source
        elif (code := self._refusal(request)) is not None:
            answer.message_class = stun.Class.ERROR
            answer.attributes |= {"ERROR-CODE": code, "REALM": REALM, "NONCE": self._nonce}
            self.did[str(code[0])] += 1
        else:
            self._serve(request, answer, client, source, reply)
            answer.add_message_integrity(self._key)
        reply(bytes(answer))

    def _refusal(self, request: stun.Message) -> tuple[int, str] | None:
        fields = request.attributes
        known = fields.get("USERNAME") == self._username and fields.get("REALM") == REALM
        if not (known and request.check_message_integrity(self._key)):
            return 401, "Unauthorized"
        return None if fields.get("NONCE") == self._nonce else (438, "Stale Nonce")

    def _serve(
        self,
        request: stun.Message,
        answer: stun.Message,
        client: object,
        source: Address,
        reply: Callable[[bytes], None],
    ) -> None:
        fields, method = request.attributes, request.message_method
        allocation = self.allocations.get(client)
        if method == stun.Method.ALLOCATE and allocation is None:
            allocation = self.allocations[client] = _Allocation(self, reply)
            self.relayed.add(allocation.address)
            answer.attributes["XOR-RELAYED-ADDRESS"] = allocation.address
            answer.attributes["XOR-MAPPED-ADDRESS"] = source
            answer.attributes["LIFETIME"] = 600
        elif allocation is None or method == stun.Method.ALLOCATE:
            answer.message_class = stun.Class.ERROR
            answer.attributes["ERROR-CODE"] = (437, "Allocation Mismatch")
        elif method == stun.Method.REFRESH:
            answer.attributes["LIFETIME"] = fields["LIFETIME"]
            if not fields["LIFETIME"]:
                self.free(client)
        else:  # CreatePermission, ChannelBind
            peer = fields["XOR-PEER-ADDRESS"]
            if peer[0] in self.forbidden:
                answer.message_class = stun.Class.ERROR
                answer.attributes["ERROR-CODE"] = (403, "Forbidden")
                self.did["403"] += 1
                return
            allocation.permitted.add(peer[0])
            if method == stun.Method.CHANNEL_BIND:
                allocation.channels[fields["CHANNEL-NUMBER"]] = peer


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: TurnServer) -> None:
        self._server = server

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, source: Any) -> None:
        self._server.take(data, source, source, lambda answer: self._send(answer, source))

    def _send(self, data: bytes, to: Address) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(data, to)


class _Tcp(TurnStreamMixin, asyncio.Protocol):
    def __init__(self, server: TurnServer) -> None:
        self._server = server
        self.datagram_received = self._message

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._server._connections.add(transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._server._connections.discard(self.transport)
        self._server.free(self)

    def _message(self, data: bytes, source: Address) -> None:
        transport: Any = self.transport
        self._server.take(data, self, source, transport.write)
