"""How long an HTTP connection may be without a request, and how many there may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from engine.http import connections
from engine.http.connections import REQUEST_S, BoundedProtocol
from tests.fakes.manual_loop import ManualLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipc.clock import ManualClock

HEAD = b"POST /start HTTP/1.1\r\nHost: me\r\nContent-Length: 5\r\n\r\n"


class FakeTransport:
    """What uvicorn asks of a connection."""

    def __init__(self, lost: Callable[[], object]) -> None:
        self._lost = lost
        self.aborted = False
        self.written = b""

    def get_extra_info(self, _name: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = True
            self._lost()

    close = abort

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class World:
    """An application that answers when it has all of a request, and is let."""

    def __init__(self, clock: ManualClock, loop: ManualLoop) -> None:
        self.clock, self.loop = clock, loop
        self.state = ServerState()
        self.transports: list[FakeTransport] = []
        self.hold = loop.create_future()
        self.hold.set_result(None)
        self.config = uvicorn.Config(
            self._app, log_config=None, lifespan="off", interface="asgi3", proxy_headers=False
        )
        self.config.load()

    async def _app(self, _scope: object, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await self.hold
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    def connect(self) -> tuple[BoundedProtocol, FakeTransport]:
        protocol = BoundedProtocol(self.config, self.state, {}, _loop=cast("Any", self.loop))
        transport = FakeTransport(lambda: self.loop.call_soon(protocol.connection_lost, None))
        self.transports.append(transport)
        protocol.connection_made(cast("Any", transport))
        return protocol, transport

    def answer(self) -> None:
        """Let the application go on."""
        if not self.hold.done():
            self.hold.set_result(None)
        self.loop.run()

    def pass_s(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.clock.advance_ms(1_000)
            self.loop.run()


@pytest.fixture
def world(clock: ManualClock) -> Iterator[World]:
    with ManualLoop(clock) as loop:  # type: ignore[abstract]  # the rest is for sockets
        world = World(clock, loop)
        yield world
        world.answer()
        for transport in world.transports:
            transport.abort()
        loop.run()
        assert not world.state.connections


@pytest.mark.parametrize("sent", [b"", b"GET / HT", HEAD, HEAD + b"four"])
def test_a_connection_without_a_whole_request_ends(world: World, sent: bytes) -> None:
    protocol, transport = world.connect()
    if sent:
        protocol.data_received(sent)
    world.pass_s(REQUEST_S - 1)
    assert not transport.aborted
    world.pass_s(2 * REQUEST_S)
    assert transport.aborted


def test_one_that_is_being_answered_takes_the_time_that_it_takes(world: World) -> None:
    world.hold = world.loop.create_future()
    protocol, transport = world.connect()
    protocol.data_received(HEAD + b"whole")
    world.pass_s(10 * REQUEST_S)
    assert not transport.aborted
    world.answer()
    assert transport.written.startswith(b"HTTP/1.1 200")


def test_half_a_second_request_ends_it_as_well(world: World) -> None:
    protocol, transport = world.connect()
    protocol.data_received(HEAD + b"whole")
    world.loop.run()
    assert b"200" in transport.written
    protocol.data_received(HEAD[:20])
    world.pass_s(3 * REQUEST_S)
    assert transport.aborted


def test_a_connection_that_is_over_is_not_looked_at_any_more(world: World) -> None:
    protocol, transport = world.connect()
    protocol.connection_lost(ConnectionResetError())
    world.pass_s(3 * REQUEST_S)
    assert not transport.aborted


def test_beyond_the_bound_who_has_waited_longest_makes_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 2)
    world.hold = world.loop.create_future()
    busy, _ = world.connect()
    busy.data_received(HEAD + b"whole")
    world.loop.run()
    world.pass_s(1)
    _, waiting = world.connect()
    world.pass_s(1)
    _, third = world.connect()
    assert (waiting.aborted, third.aborted) == (True, False)
    world.loop.run()
    assert len(world.state.connections) == 2


def test_when_all_are_being_answered_nobody_else_comes_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 1)
    world.hold = world.loop.create_future()
    busy, answered = world.connect()
    busy.data_received(HEAD + b"whole")
    world.loop.run()
    _, late = world.connect()
    assert (answered.aborted, late.aborted) == (False, True)
