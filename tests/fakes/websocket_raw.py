"""The far end of a WebSocket that writes exactly the bytes it is told, in either role.

It knows frames only as far as a test must to build and to read them: nothing here refuses what is
wrong. RFC 6455 sections 4 and 5.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from tests.fakes.websocket_echo import CallerEcho, Echo, dialled_echo
from tests.support import DEADLINE_S, turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = base64.b64encode(bytes(16)).decode()
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MASK = b"\x37\xfa\x21\x3d"
# Of the loop, in which the other side reads what was written.
TURNS = 2
GREETING = (
    "GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)
WELCOME = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
)


def masked_by(key: bytes, data: bytes) -> bytes:
    """Masked, or no longer."""
    mask = int.from_bytes((key * (len(data) // 4 + 1))[: len(data)])
    return (int.from_bytes(data) ^ mask).to_bytes(len(data))


class Got(NamedTuple):
    """A frame that came."""

    opcode: int
    data: bytes
    fin: bool = True
    rsv: int = 0


class RawPeer:
    """One end. `masks` is whether it is the client's."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        masks: bool,
        head: str = "",
    ) -> None:
        self.masks = masks
        # What the other side's request or answer was.
        self.head = head
        self._reader, self._writer = reader, writer

    def frame(
        self,
        opcode: int,
        data: bytes = b"",
        *,
        fin: bool = True,
        rsv: int = 0,
        masked: bool | None = None,
        size: int | None = None,
    ) -> bytes:
        """A frame as bytes; `size` is what it says of its length, `masked` whether it is."""
        bit = 0x80 if (self.masks if masked is None else masked) else 0
        count = len(data) if size is None else size
        head = bytes([fin << 7 | rsv << 4 | opcode])
        if count < 126:
            head += bytes([bit | count])
        elif count < 1 << 16:
            head += bytes([bit | 126]) + struct.pack("!H", count)
        else:
            head += bytes([bit | 127]) + struct.pack("!Q", count)
        return head + MASK + masked_by(MASK, data) if bit else head + data

    async def send(self, data: bytes, pieces_of: int = 0) -> None:
        """Write these bytes, in pieces of so many if it is not 0; each piece arrives by itself."""
        size = pieces_of or max(1, len(data))
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(data), size):
                self._writer.write(data[at : at + size])
                await self._writer.drain()
                for _ in range(TURNS):
                    await turn()

    def finish(self) -> None:
        """Write no more; what comes is still read."""
        self._writer.write_eof()

    async def read(self) -> Got | None:
        """The next frame, or None at the end."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                first, second = await self._reader.readexactly(2)
                size = second & 0x7F
                if size == 126:
                    (size,) = struct.unpack("!H", await self._reader.readexactly(2))
                elif size == 127:
                    (size,) = struct.unpack("!Q", await self._reader.readexactly(8))
                key = await self._reader.readexactly(4) if second & 0x80 else b""
                assert bool(key) is not self.masks, "a client masks and a server does not"
                data = await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        if key:
            data = masked_by(key, data)
        return Got(first & 0x0F, data, bool(first & 0x80), first >> 4 & 7)

    async def close(self) -> None:
        """Leave without a word."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


async def call(port: int, path: str = "ws?token=t", more: str = "") -> RawPeer:
    """Come to our port as a client; the answer must let it in. `more` is further header lines."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GREETING.format(path=path, key=KEY, more=more).encode())
    async with asyncio.timeout(DEADLINE_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 101 "), head
    return RawPeer(reader, writer, masks=True, head=head)


@asynccontextmanager
async def calling(echo: CallerEcho, token: str) -> AsyncIterator[tuple[RawPeer, Echo]]:
    """A peer that is the client of one of our caller legs, and that leg."""
    peer = await call(echo.port, f"ws?token={quote(token)}")
    try:
        yield peer, echo.legs[token]
    finally:
        await peer.close()


@asynccontextmanager
async def answering(more: str = "", **options: object) -> AsyncIterator[tuple[RawPeer, Echo]]:
    """A peer that is the server that one of our legs has dialled, and that leg.

    `more` is further header lines of its answer, `options` are fields of `Websocket`.
    """
    came: asyncio.Future[RawPeer] = asyncio.get_running_loop().create_future()

    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        found = re.search(r"(?im)^sec-websocket-key: *(\S+)", head)
        assert found is not None
        digest = hashlib.sha1(found[1].encode() + GUID, usedforsecurity=False).digest()
        accept = base64.b64encode(digest).decode()
        writer.write(WELCOME.format(accept=accept, more=more).encode())
        came.set_result(RawPeer(reader, writer, masks=False, head=head))

    server = await asyncio.start_server(welcome, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        leg = await dialled_echo(f"ws://127.0.0.1:{port}/", **options)
        try:
            yield await came, leg
        finally:
            await came.result().close()
            await leg.over()
    finally:
        if came.done():  # it may have been refused
            await came.result().close()
        server.close()
        await server.wait_closed()
