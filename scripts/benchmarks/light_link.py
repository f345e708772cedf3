"""One WebSocket that costs next to nothing, at either end of a connection.

Frames that were built before go out; of what comes the first bytes are unmasked and noted, with
the kernel's time of arrival where it has one for TCP (Linux). Of what is read at once that is the
time of the last byte. Messages are not put together from fragments; nobody here sends any.
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
import struct
import sys
import time
from typing import TYPE_CHECKING

from websockets.utils import accept_key

if TYPE_CHECKING:
    from collections.abc import Callable

SO_TIMESTAMPNS = 35  # Linux; Python has no name for it before 3.14
HAS_KERNEL_TIME = sys.platform.startswith("linux")
ANCILLARY_BYTES = 64
TIMESPEC = struct.Struct("@qq")
READ_BYTES = 1 << 16
HEAD_BYTES = 128
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
LONG_SIZE, HUGE_SIZE = 126, 127
DIAL_S = 10.0


def frame(opcode: int, payload: bytes, *, masked: bool = False) -> bytes:
    """A whole frame (RFC 6455 section 5.2); a client's is masked, with zeros."""
    bit = 0x80 if masked else 0
    if len(payload) < LONG_SIZE:
        head = bytes((0x80 | opcode, bit | len(payload)))
    elif len(payload) < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, bit | LONG_SIZE, len(payload))
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, bit | HUGE_SIZE, len(payload))
    return head + (bytes(4) if masked else b"") + payload


class Link:
    """A server's end from the first byte, or a client's that is open. `number` is in its path."""

    def __init__(
        self,
        sock: socket.socket,
        note: Callable[[Link, int, bytes, int], None],
        *,
        number: int = -1,
    ) -> None:
        """`note(link, opcode, head, ns)` gets the first bytes of each message."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.number = number
        self.open = number >= 0
        # What the other end did not take in time, and messages whose time had no kernel's.
        self.refused = self.unstamped = 0
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        self._stamped = HAS_KERNEL_TIME and not self._is_tls
        if self._stamped:
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._is_client = self.open
        self._note = note
        self._data = bytearray()
        self._unsent = b""

    # -- in -------------------------------------------------------------------------------

    def read(self) -> bool:
        """Take what has come; False when the connection has ended."""
        try:
            if self._stamped:
                data, ancillary, _, _ = self.sock.recvmsg(READ_BYTES, ANCILLARY_BYTES)
                if not data:
                    return False
                return self._take(data, ancillary[0][2] if ancillary else b"")
            while True:  # TLS may hold more than the socket shows
                data = self.sock.recv(READ_BYTES)
                if not data or not self._take(data, b""):
                    return False
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        except (OSError, ValueError):
            return False

    def _take(self, data: bytes, when: bytes) -> bool:
        if when:
            seconds, nanoseconds = TIMESPEC.unpack_from(when)
            when_ns = seconds * 1_000_000_000 + nanoseconds
        else:
            when_ns = time.time_ns()
            self.unstamped += 1
        self._data += data
        if not self.open:
            self._upgrade()
        return not self.open or self._parse(when_ns)

    def _upgrade(self) -> None:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        first, *lines = self._data[:end].decode("latin-1").split("\r\n")
        del self._data[: end + 4]
        headers = {name.lower(): value.strip() for name, _, value in map(_halves, lines)}
        self.number = int(first.split(" ")[1].rpartition("/")[2])
        answer = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept_key(headers['sec-websocket-key'])}\r\n\r\n"
        )
        self.sock.send(answer.encode())
        self.open = True

    def _parse(self, when_ns: int) -> bool:
        data = self._data
        at, have, alive = 0, len(data), True
        while alive and have - at >= 2:
            size, start = data[at + 1] & 0x7F, at + 2
            if size >= LONG_SIZE:
                width = 2 if size == LONG_SIZE else 8
                size, start = int.from_bytes(data[start : start + width], "big"), start + width
            mask = b""
            if data[at + 1] & 0x80:
                mask = bytes(data[start : start + 4])
                start += 4
            if have < start + size:
                break
            head = bytes(data[start : start + min(size, HEAD_BYTES)])
            if any(mask):
                head = unmask(head, mask)
            alive = self._frame(data[at] & 0x0F, head, when_ns)
            at = start + size
        if at:
            del data[:at]
        return alive

    def _frame(self, opcode: int, head: bytes, when_ns: int) -> bool:
        if opcode == PING:
            self.say(frame(PONG, head, masked=self._is_client))
        elif opcode == CLOSE:
            self.say(frame(CLOSE, head[:2], masked=self._is_client))
            return False
        elif opcode != PONG:
            self._note(self, opcode, head, when_ns)
        return True

    # -- out ------------------------------------------------------------------------------

    def say(self, data: bytes) -> None:
        """Send a frame; not when the one before has not gone yet."""
        try:
            if self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
            if self._unsent:
                self.refused += 1
                return
            self._unsent = data
            self._unsent = data[self.sock.send(data) :]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:  # the end is noticed when it is read
            self._unsent = b""

    def close(self) -> None:
        """Drop it."""
        self.open = False
        self.sock.close()


def unmask(data: bytes, mask: bytes) -> bytes:
    """RFC 6455 section 5.3."""
    keys = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(keys, "big")).to_bytes(len(data), "big")


def _halves(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def dial(host: str, port: int, number: int) -> socket.socket:
    """An open connection to a far end, dialled while everything waits."""
    sock = socket.create_connection((host, port), DIAL_S)
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(
        f"GET /{number} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        piece = sock.recv(1)  # nothing of what follows
        if not piece:
            raise ConnectionError("the far end closed the connection")
        answer += piece
    return sock
