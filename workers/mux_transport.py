"""What aioice takes for a datagram transport: one leg's end of a socket that it shares."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from workers.udp_mux import Address, Receiving, UdpMux


class MuxTransport:
    """What an aioice socket takes for a datagram transport of its own."""

    def __init__(self, mux: UdpMux, sock: socket.socket, protocol: Receiving) -> None:
        self._mux = mux
        self._socket = sock
        self._protocol = protocol
        self._closed = False
        self.waiting = 0
        self.send_media: Callable[[bytes | memoryview, Address], bool] = self._send_now

    def sendto(self, data: bytes, address: Address) -> None:
        """Send STUN or DTLS."""
        if data[0] == 0 and data[1] == 1:  # a request: its response finds the way back
            self._mux.asked(data[8:20], self._protocol)
        self._send_now(data, address)

    def _send_now(self, data: bytes | memoryview, address: Address) -> bool:
        try:
            self._socket.sendto(data, address)
        except OSError:  # a full socket, an unreachable peer, a closed port: the packet is lost
            self._mux.dropped["send"] += 1
            return False
        return True

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What asyncio's transports tell of themselves."""
        if name == "sockname":
            return self._socket.getsockname()
        return default

    def close(self) -> None:
        """Nothing more comes or goes."""
        if not self._closed:
            self._closed = True
            self.send_media = _nowhere
            self._mux.forget(self._protocol)
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


def _nowhere(_data: bytes | memoryview, _address: Address) -> bool:
    return False
