"""Who reads the sockets: the loop while there are few, the slots when there are many."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING, Any

import pytest
from websockets.frames import Opcode

from tests.fakes.websocket_wire import FakeTransport, Wire, frame
from workers.websocket.connection import MAX_DRAIN_BYTES, MAX_RECEIVED_BYTES
from workers.websocket.reading import BATCH, PIECE_BYTES, Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="only Linux has epoll")


class SocketTransport(FakeTransport):
    """As a loop's: knows the socket, and reads nothing by itself."""

    def __init__(self, sock: socket.socket, *, tls: bool = False) -> None:
        super().__init__()
        self._socket = sock
        self._tls = tls

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return self._socket
        if name == "sslcontext" and self._tls:
            return object()
        return super().get_extra_info(name, default)


class Line(Wire):
    """An open end over a real socket, whose other end is `far`."""

    def __init__(self, reading: Reading, *, tls: bool = False, **options: Any) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)
        super().__init__(SocketTransport(self.near, tls=tls), reading=reading, **options)

    def close(self) -> None:
        self.near.close()
        self.far.close()


class World:
    def __init__(self) -> None:
        self.reading = Reading()
        self.lines: list[Line] = []

    def line(self, **options: Any) -> Line:
        line = Line(self.reading, **options)
        self.lines.append(line)
        return line

    def slot(self, *, late: bool = False) -> None:
        self.reading.receive(lambda: late)
        for line in self.lines:
            line.slot()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.reading.watch(True)
    for line in world.lines:
        line.close()


HELLO = frame(Opcode.TEXT, b"hello")


async def test_the_loop_reads_until_it_is_told_not_to(world: World) -> None:
    line = world.line()
    line.far.send(HELLO)
    world.slot()
    assert not line.transport.paused
    assert line.messages == []
    world.reading.watch(False)
    assert line.transport.paused
    world.slot()
    assert line.messages == ["hello"]
    world.reading.watch(True)
    assert not line.transport.paused


async def test_one_that_comes_while_there_are_many_is_read_in_the_slots(world: World) -> None:
    world.reading.watch(False)
    line = world.line()
    assert line.transport.paused
    line.far.send(HELLO)
    world.slot()
    world.slot()  # in which there is nothing
    assert line.messages == ["hello"]
    assert not world.reading.left


async def test_tls_stays_the_loops(world: World) -> None:
    world.reading.watch(False)
    line = world.line(tls=True)
    line.far.send(HELLO)
    world.slot()
    assert not line.transport.paused
    assert line.messages == []


async def test_of_one_that_says_much_a_slot_takes_a_part_and_the_next_one_more(
    world: World,
) -> None:
    line = world.line(max_size=None)
    world.reading.watch(False)
    message = frame(Opcode.BINARY, bytes(PIECE_BYTES))
    sent = 0
    while sent < MAX_DRAIN_BYTES + 2 * PIECE_BYTES:
        sent += line.far.send(message[sent % len(message) :])
    world.slot()
    assert world.reading.left
    before = len(line.messages)
    for _ in range(4):
        world.slot()
    assert not world.reading.left
    assert len(line.messages) > before
    assert len(line.messages) == sent // len(message)


async def test_whoever_is_full_is_not_read(world: World) -> None:
    line = world.line(max_size=None)
    world.reading.watch(False)
    line.connection.is_full = lambda: True
    message = frame(Opcode.TEXT, bytes(1_000)) * 60
    refused = False
    for _ in range(1_000):
        try:
            line.far.send(message)
        except BlockingIOError:  # it waits in the system, and with whoever sends
            refused = True
            break
        world.slot()
    assert refused
    assert line.messages == []
    assert not world.reading.left
    line.connection.is_full = lambda: False
    line.connection.resume()
    for _ in range(40):
        world.slot()
    assert len(line.messages) > MAX_RECEIVED_BYTES // 1_000
    assert line.transport.paused  # still the slots'
    world.reading.watch(True)
    assert not line.transport.paused


async def test_an_end_is_left_to_the_loop(world: World) -> None:
    line = world.line()
    world.reading.watch(False)
    line.far.send(HELLO)
    line.far.close()
    world.slot()
    world.slot()
    assert line.messages == ["hello"]
    assert not line.transport.paused
    assert line.ends == []  # until the loop has found it
    line.connection.connection_lost(None)
    line.settle()
    assert line.ends == ["connection_lost"]


async def test_one_that_says_goodbye_is_read_by_the_loop_again(world: World) -> None:
    line = world.line(close_timeout_s=0.01)
    world.reading.watch(False)
    line.connection.gone.set()
    await line.connection.close()
    assert not line.transport.paused
    line.far.send(HELLO)
    world.slot()
    assert line.messages == []


async def test_a_socket_that_was_closed_is_not_read_under_its_number(world: World) -> None:
    line = world.line()
    world.reading.watch(False)
    line.transport.closing = True
    line.far.send(HELLO)
    world.slot()
    assert line.messages == []


async def test_when_a_slot_is_late_the_others_get_their_turn(world: World) -> None:
    lines = [world.line() for _ in range(3 * BATCH)]
    world.reading.watch(False)
    for line in lines:
        line.far.send(HELLO)
    world.slot(late=True)
    assert sum(len(line.messages) for line in lines) == BATCH
    assert world.reading.left
    for line in lines:
        line.far.send(HELLO)
    world.slot(late=True)
    world.slot(late=True)
    assert all(line.messages for line in lines)
    world.slot()
    assert not world.reading.left


async def test_an_answer_to_a_ping_that_lies_in_the_system_counts(world: World) -> None:
    line = world.line(ping_interval_s=1.0, ping_timeout_s=0.5)
    world.reading.watch(False)
    line.clock.advance_ms(1_000)
    line.connection.keep_alive(line.clock.now_ns())
    (ping,) = line.answers()
    line.far.send(frame(Opcode.PONG, bytes(ping.data)))
    line.clock.advance_ms(5_000)  # the worker stood still
    line.connection.keep_alive(line.clock.now_ns())
    line.settle()
    assert line.ends == []
    line.clock.advance_ms(1_000)
    line.connection.keep_alive(line.clock.now_ns())
    line.clock.advance_ms(500)
    line.connection.keep_alive(line.clock.now_ns())
    assert line.ends == ["ping_timeout"]
