"""The socket of a light peer: aioice speaks through it until media may flow, then it is bare.

What is not media goes to aioice at once. Media is handed on as it came, with the kernel's time of
arrival where it has one (Linux).
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Any

from aioice import Candidate
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import Connection, StunProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

SO_TIMESTAMPNS = 35  # Linux; Python has no name for it before 3.14
HAS_KERNEL_TIME = sys.platform.startswith("linux")
ANCILLARY_BYTES = 64
RECEIVE_BUFFER_BYTES = 1 << 20
MAX_DATAGRAM_BYTES = 2048
TIMESPEC = struct.Struct("@qq")


class LightSocket:
    """A UDP socket on `address` that plays an asyncio transport for aioice."""

    address = "127.0.0.1"

    def __init__(self, on_media: Callable[[bytes, bytes], None]) -> None:
        self._on_media = on_media
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if HAS_KERNEL_TIME:
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.bind((self.address, 0))
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._protocol: StunProtocol | None = None
        self._watched = False
        self._closed = False

    def serve(self, protocol: StunProtocol) -> None:
        """Give what is not media to `protocol`, as soon as it comes."""
        self._protocol = protocol
        protocol.connection_made(self)  # type: ignore[arg-type]  # as much of one as aioice uses
        self._loop.add_reader(self.sock, self.drain)
        self._watched = True

    def unwatch(self) -> None:
        """From now on somebody calls `drain` on a timer; the loop has one descriptor less."""
        if self._watched:
            self._watched = False
            self._loop.remove_reader(self.sock)

    def drain(self) -> None:
        """Take everything that has arrived."""
        recvmsg = self.sock.recvmsg
        try:
            while True:
                data, ancillary, _, address = recvmsg(MAX_DATAGRAM_BYTES, ANCILLARY_BYTES)
                if 128 <= data[0] < 192 and not 192 <= data[1] <= 208:
                    self._on_media(data, ancillary[0][2][:16] if ancillary else now())
                elif self._protocol is not None:
                    self._protocol.datagram_received(data, address)
        except BlockingIOError:
            pass
        except OSError:  # the other end is gone (ICMP), or this one
            pass

    # -- what aioice asks of a transport ----------------------------------------------------

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        """Send one datagram; a full buffer drops it."""
        if not self._closed:
            try:
                self.sock.sendto(data, address)
            except OSError:
                pass

    def close(self) -> None:
        """Close; the protocol hears of it in the next turn of the loop."""
        if self._closed:
            return
        self._closed = True
        self.unwatch()
        self.sock.close()
        if self._protocol is not None:
            self._loop.call_soon(self._protocol.connection_lost, None)

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def get_extra_info(self, name: str) -> Any:
        """`sockname`, which is all that aioice asks for."""
        return self.sock.getsockname() if name == "sockname" else None


def now() -> bytes:
    return TIMESPEC.pack(*divmod(time.time_ns(), 1_000_000_000))


class LightConnection(Connection):
    """An aioice connection on a socket of ours, and on nothing else."""

    async def get_component_candidates(
        self, component: int, addresses: list[str], timeout: int = 5
    ) -> list[Candidate]:
        """One host candidate."""
        self.on_media: Callable[[bytes, bytes], None] = lambda data, when: None
        light = self.light = LightSocket(lambda data, when: self.on_media(data, when))
        protocol = StunProtocol(self)
        light.serve(protocol)
        host, port = light.sock.getsockname()
        protocol.local_candidate = Candidate(
            foundation=candidate_foundation("host", "udp", host),
            component=component,
            transport="udp",
            priority=candidate_priority(component, "host"),
            host=host,
            port=port,
            type="host",
        )
        self._protocols.append(protocol)
        return [protocol.local_candidate]
