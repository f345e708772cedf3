"""permessage-deflate (RFC 7692; Autobahn's categories 12 and 13): asked for by a bot or not there.

A peer of our own deflates and inflates with zlib; our ends are the real ones, without an engine.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from typing import TYPE_CHECKING

import pytest

from ipc.errors import DialFailed
from tests.fakes.websocket_echo import CallerEcho
from tests.fakes.websocket_raw import BINARY, CLOSE, CONT, PING, TEXT, answering, call

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.websocket_raw import RawPeer

TAIL = b"\x00\x00\xff\xff"
COMPRESSED = 4  # RSV1
MAX_BYTES = 1 << 20
AGREED = "Sec-WebSocket-Extensions: permessage-deflate{}\r\n"
OFFERS = [
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    "permessage-deflate; server_max_window_bits=9, permessage-deflate",
    "x-webkit-deflate-frame, permessage-bzip2",
]
ANSWERS = [
    "",
    "; client_no_context_takeover",
    "; server_no_context_takeover",
    "; client_no_context_takeover; server_no_context_takeover",
    "; client_max_window_bits=9",
    "; server_max_window_bits=9",
    "; client_max_window_bits=15; server_max_window_bits=12",
    "; client_no_context_takeover; client_max_window_bits=10; server_no_context_takeover",
]


class Deflate:
    """A server's end of what was agreed."""

    def __init__(self, agreed: str) -> None:
        self._forgets = "server_no_context_takeover" in agreed
        self._client_forgets = "client_no_context_takeover" in agreed
        _, _, bits = agreed.partition("server_max_window_bits=")
        self._bits = int(bits.partition(";")[0]) if bits else 15
        self._out = self._packer()
        self._in = zlib.decompressobj(-15)

    def _packer(self) -> zlib._Compress:
        return zlib.compressobj(wbits=-self._bits)

    def pack(self, data: bytes) -> bytes:
        """A message as it goes."""
        if self._forgets:
            self._out = self._packer()
        return (self._out.compress(data) + self._out.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]

    def unpack(self, data: bytes) -> bytes:
        """A message that came."""
        if self._client_forgets:
            self._in = zlib.decompressobj(-15)
        return self._in.decompress(data + TAIL)


def messages() -> list[tuple[int, bytes]]:
    """Texts and bytes that deflate well, hardly, and not at all."""
    noise = random.Random(7692)
    found = []
    for size in (0, 1, 16, 64, 125, 126, 1_000, 65_536, 262_144):
        text = (b'{"label": "rtvi-ai", "type": "words"}' * (size // 37 + 1))[:size]
        found += [(TEXT, text), (BINARY, noise.randbytes(size)), (BINARY, bytes(size))]
    return found


@pytest.mark.parametrize("path", ["ws", "ws-client"])
async def test_callers_are_not_offered_any(path: str) -> None:
    async with CallerEcho() as echo:
        for number, offer in enumerate(OFFERS):
            more = f"Sec-WebSocket-Extensions: {offer}\r\n"
            peer = await call(echo.port, f"{path}?token={number}", more)
            try:
                assert "extensions" not in peer.head.lower()
                await peer.send(peer.frame(TEXT, b"plain"))
                assert await peer.read() == (TEXT, b"plain", True, 0)
                packed = Deflate("").pack(b"not agreed upon")
                await peer.send(peer.frame(TEXT, packed, rsv=COMPRESSED))
                assert await close_code(peer) == 1002
            finally:
                await peer.close()
            await echo.legs[str(number)].over()


async def test_a_server_is_not_asked_for_it_and_may_not_impose_it() -> None:
    async with answering() as (peer, _):
        assert "extensions" not in peer.head.lower()
    with pytest.raises(DialFailed) as refused:
        async with answering(AGREED.format("")):
            pass
    assert refused.value.code == "dial_protocol"


async def test_a_server_that_declines_it_is_spoken_to_plainly() -> None:
    async with answering(compression=True) as (peer, _):
        assert "permessage-deflate" in peer.head
        for opcode in (TEXT, BINARY):
            await peer.send(peer.frame(opcode, b"plain" * 100))
            assert await peer.read() == (opcode, b"plain" * 100, True, 0)


@pytest.mark.parametrize("agreed", ANSWERS)
async def test_messages_come_and_go_deflated_as_agreed(agreed: str) -> None:
    deflate = Deflate(agreed)
    async with answering(AGREED.format(agreed), compression=True) as (peer, leg):
        for opcode, data in messages():
            # Whole, and in two frames with a ping between them; what is plain stays allowed.
            await peer.send(peer.frame(opcode, deflate.pack(data), rsv=COMPRESSED))
            await peer.send(peer.frame(opcode, data))
            packed = deflate.pack(data)
            half = len(packed) // 2
            await peer.send(peer.frame(opcode, packed[:half], fin=False, rsv=COMPRESSED))
            await peer.send(peer.frame(PING))
            await peer.send(peer.frame(CONT, packed[half:]))
            answers: list[bytes] = []
            while len(answers) < 3:
                got = await peer.read()
                assert got is not None
                if got.opcode in (TEXT, BINARY):
                    answers.append(deflate.unpack(got.data) if got.rsv else got.data)
                    assert got.opcode == opcode
            assert answers == [data] * 3
        assert leg.ends == []


async def test_what_is_not_deflated_as_it_says_ends_the_connection() -> None:
    pieces = bytes(range(256))
    wrong: list[tuple[int, Callable[[RawPeer], bytes]]] = [
        (1002, lambda peer: peer.frame(PING, b"", rsv=COMPRESSED)),
        (1002, lambda peer: peer.frame(TEXT, b"", rsv=2)),
        (
            1002,
            lambda peer: (
                peer.frame(TEXT, Deflate("").pack(b"a"), fin=False, rsv=COMPRESSED)
                + peer.frame(CONT, b"b", rsv=COMPRESSED)
            ),
        ),
        (1002, lambda peer: peer.frame(BINARY, pieces[200:], rsv=COMPRESSED)),
        (1007, lambda peer: peer.frame(TEXT, Deflate("").pack(b"\xed\xa0\x80"), rsv=COMPRESSED)),
        (1009, lambda peer: peer.frame(TEXT, Deflate("").pack(bytes(64 << 20)), rsv=COMPRESSED)),
    ]
    for code, data in wrong:
        async with answering(AGREED.format(""), compression=True, max_message_bytes=MAX_BYTES) as (
            peer,
            leg,
        ):
            await peer.send(data(peer))
            assert await close_code(peer) == code
        assert len(leg.ends) == 1
        assert leg.messages == []


async def close_code(peer: RawPeer) -> int:
    """With which the other side ends it."""
    async with asyncio.timeout(30):
        while (got := await peer.read()) is not None and got.opcode != CLOSE:
            pass
    assert got is not None, "it ended without a close frame"
    return int.from_bytes(got.data[:2])
