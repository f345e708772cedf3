"""The bench's own WebSocket: frames, the upgrade, control frames, a far end that does not read."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from scripts.benchmarks import light_link
from scripts.benchmarks.light_link import BINARY, CLOSE, PING, PONG, Link

if TYPE_CHECKING:
    import socket

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = f"GET /far/12 HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: {KEY}\r\n\r\n".encode()


class FakeSocket:
    """Bytes come as they were given, at most so many leave at once."""

    def __init__(self) -> None:
        self.coming: list[bytes] = []
        self.sent = bytearray()
        self.takes = 1 << 30

    def setblocking(self, _on: bool) -> None: ...

    def setsockopt(self, *_: int) -> None: ...

    def recv(self, _size: int) -> bytes:
        if not self.coming:
            raise BlockingIOError
        return self.coming.pop(0)

    def recvmsg(self, size: int, _ancillary: int) -> tuple[bytes, list[object], int, None]:
        return self.recv(size), [], 0, None

    def send(self, data: bytes) -> int:
        count = min(len(data), self.takes)
        if not count:
            raise BlockingIOError
        self.sent += data[:count]
        return count


class World:
    """A link that has been opened, and what it noted."""

    def __init__(self) -> None:
        self.sock = FakeSocket()
        self.noted: list[tuple[int, bytes]] = []
        self.link = Link(
            cast("socket.socket", self.sock),
            lambda _link, opcode, head, _ns: self.noted.append((opcode, head)),
        )
        self.feed(UPGRADE)
        self.answer = bytes(self.sock.sent)
        self.sock.sent.clear()

    def feed(self, *pieces: bytes) -> bool:
        self.sock.coming += pieces
        alive = True
        while alive and self.sock.coming:
            alive = self.link.read()
        return alive


def masked(opcode: Opcode, payload: bytes) -> bytes:
    return Frame(opcode, payload).serialize(mask=True)


def test_the_upgrade_tells_the_number_and_proves_the_key() -> None:
    world = World()
    assert (world.link.open, world.link.number) == (True, 12)
    assert f"Sec-WebSocket-Accept: {accept_key(KEY)}\r\n".encode() in world.answer
    assert b"Extensions" not in world.answer


@pytest.mark.parametrize("size", [0, 125, 126, 2000, 70_000])
def test_messages_are_noted_by_their_first_bytes_however_they_are_cut(size: int) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    message = masked(Opcode.BINARY, payload[:size])
    for cut in (1, 3, 7, len(message)):
        world = World()
        assert world.feed(*(message[at : at + cut] for at in range(0, len(message), cut)))
        assert world.noted == [(BINARY, payload[: min(size, light_link.HEAD_BYTES)])]


def test_several_messages_in_one_piece_are_several() -> None:
    world = World()
    world.feed(masked(Opcode.BINARY, b"one") + masked(Opcode.TEXT, b"two"))
    assert [head for _, head in world.noted] == [b"one", b"two"]


def test_a_ping_is_answered_and_a_close_ends_it() -> None:
    world = World()
    assert world.feed(masked(Opcode.PING, b"beat"))
    assert bytes(world.sock.sent) == light_link.frame(PONG, b"beat")
    assert not world.feed(masked(Opcode.CLOSE, b"\x03\xe8bye"))
    assert world.sock.sent.endswith(light_link.frame(CLOSE, b"\x03\xe8"))
    assert world.noted == []


def test_a_far_end_that_does_not_read_gets_whole_frames_later() -> None:
    world = World()
    first, second = light_link.frame(BINARY, bytes(10)), light_link.frame(BINARY, bytes(20))
    world.sock.takes = 4
    world.link.say(first)
    world.sock.takes = 0
    world.link.say(second)
    assert (world.link.refused, bytes(world.sock.sent)) == (0, first[:4])
    world.sock.takes = 1 << 30
    world.link.say(second)
    assert bytes(world.sock.sent) == first + second


def test_a_clients_frame_is_masked_with_nothing() -> None:
    assert light_link.frame(PING, b"x", masked=True) == bytes((0x89, 0x81, 0, 0, 0, 0)) + b"x"
