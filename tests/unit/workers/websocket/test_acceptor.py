"""Taking callers' connections: when switched on, one at a time, with deadlines and bounds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from ipc.errors import BackbeatError, StateError
from ipc.messages import Claim, Claimed, Message, Refused
from tests.fakes.manual_loop import ManualLoop
from tests.fakes.websocket_wire import FakeTransport
from workers.websocket.acceptor import HEAD_DEADLINE_S, MAX_WAITING, Acceptor
from workers.websocket.caller import CallerPeer
from workers.websocket.reading import Reading

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Iterator

    from ipc.clock import ManualClock
    from workers.gate import Gate as RealGate
    from workers.websocket.sockets import Sockets


class Loop(ManualLoop):
    """A loop with a listening socket that a test fills."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.reader: Callable[[], None] | None = None
        self.protocols: list[asyncio.Protocol] = []
        self.transports: list[Transport] = []

    def add_reader(  # type: ignore[override]  # without typeshed's variadic types
        self, _fd: Any, callback: Callable[..., Any], *args: Any
    ) -> None:
        self.reader = lambda: callback(*args)

    def remove_reader(self, _fd: Any) -> bool:
        self.reader = None
        return True

    async def connect_accepted_socket(  # type: ignore[override]  # the same
        self, factory: Any, _sock: Any, **_: Any
    ) -> Any:
        protocol, transport = factory(), Transport()
        self.protocols.append(protocol)
        self.transports.append(transport)
        protocol.connection_made(transport)
        return transport, protocol


class Transport(FakeTransport):
    """One whose protocol may change."""

    protocol: Any = None

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol


class Taken:
    """An accepted socket."""

    def __init__(self) -> None:
        self.sent = b""
        self.closed = False

    def setblocking(self, _flag: bool) -> None:
        pass

    def send(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Taken:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Listener:
    """A listening socket with so many connections in its queue."""

    def __init__(self) -> None:
        self.queue = 0
        self.taken: list[Taken] = []
        self.failure: OSError | None = None
        self.closed = False

    def accept(self) -> tuple[Taken, tuple[str, int]]:
        if self.failure is not None:
            raise self.failure
        if not self.queue:
            raise BlockingIOError
        self.queue -= 1
        self.taken.append(Taken())
        return self.taken[-1], ("127.0.0.1", 1)

    def close(self) -> None:
        self.closed = True


class Gate:
    """Lets one in when a test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.full = False

    def push(self, work: Callable[[], None]) -> bool:
        if not self.full:
            self.waiting.append(work)
        return not self.full

    async def turn(self) -> None:
        pass

    def open(self) -> None:
        work, self.waiting = self.waiting, []
        for one in work:
            one()


class Setup:
    def __init__(self, clock: ManualClock, loop: Loop) -> None:
        self.clock, self.loop = clock, loop
        self.listener, self.gate = Listener(), Gate()
        self.claims: list[Claim] = []
        self.reply: Message | BackbeatError = Claimed(session="s_1")
        self.peers: list[CallerPeer] = []
        self.states: list[str] = []
        self.waiting: list[object] = []
        self.reading = Reading()
        self.acceptor = Acceptor(
            cast("socket.socket", self.listener),
            cast("Sockets", self),
            clock,
            cast("RealGate", self.gate),
            self.claim,
        )

    def add(self, connection: object) -> None:
        self.waiting.append(connection)

    async def claim(self, claim: Claim, _timeout_s: float) -> Message:
        self.claims.append(claim)
        if isinstance(self.reply, BackbeatError):
            raise self.reply
        if isinstance(self.reply, Claimed):
            websocket = self.acceptor.admit(claim.caller)
            peer = CallerPeer(
                websocket,
                cast("Sockets", self),
                self.clock,
                on_state=lambda _peer, state: self.states.append(state),
                on_mic=lambda: None,
                on_message=lambda _data, _cursor: None,
            )
            self.peers.append(peer)
            self.acceptor.admitted(claim.caller, peer)
        return self.reply

    def come(self, number: int = 1) -> None:
        """Callers connect, and are taken as far as that goes."""
        self.listener.queue += number
        while self.listener.queue and self.loop.reader is not None:
            self.loop.reader()
            self.gate.open()
            self.loop.run()

    def arrive(self, data: bytes, which: int = -1) -> None:
        protocol = self.loop.protocols[which]
        if not protocol.head.done():  # type: ignore[attr-defined]  # a paused transport gives none
            protocol.data_received(data)
        self.loop.run()

    def answer(self, which: int = -1) -> tuple[int, dict[str, Any]]:
        head, _, body = self.loop.transports[which].written.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), json.loads(body or b"{}")


@pytest.fixture
def setup(clock: ManualClock) -> Iterator[Setup]:
    with Loop(clock) as loop:  # type: ignore[abstract]  # as much as is needed
        made = Setup(clock, loop)
        made.acceptor.switch(True)
        yield made
        closing = loop.create_task(made.acceptor.close())
        loop.run()
        assert closing.done()
        assert made.listener.closed
        assert loop.errors == []


def request(target: str = "/ws-client?token=t") -> bytes:
    client = ClientProtocol(parse_uri(f"ws://here:1{target}"))
    client.send_request(client.connect())
    return b"".join(client.data_to_send())


def test_nobody_is_taken_but_while_switched_on(setup: Setup) -> None:
    setup.acceptor.switch(False)
    assert setup.loop.reader is None
    setup.acceptor.switch(True)
    setup.listener.queue = 2
    assert setup.loop.reader is not None
    setup.loop.reader()
    setup.acceptor.switch(False)
    setup.gate.open()
    assert (setup.listener.queue, setup.loop.reader) == (2, None)


def test_one_is_taken_at_a_time_when_the_gate_lets_it(setup: Setup) -> None:
    setup.listener.queue = 2
    assert setup.loop.reader is not None
    setup.loop.reader()
    assert setup.loop.reader is None  # nobody else is looked for meanwhile
    assert setup.listener.queue == 2
    setup.gate.open()
    assert setup.listener.queue == 1
    assert setup.loop.reader is not None


def test_a_caller_is_claimed_upgraded_and_given_to_its_leg(setup: Setup) -> None:
    setup.come()
    setup.arrive(request() + b"\x8a\x80\x00\x00\x00\x00")
    (claim,) = setup.claims
    assert (claim.token, claim.host, claim.origin) == ("t", "here:1", None)
    assert setup.answer()[0] == 101
    assert setup.states == ["connected"]
    assert setup.peers[0].connection is setup.loop.transports[0].protocol
    assert not setup.loop.transports[0].paused
    assert setup.acceptor.counts == {"accepted": 1}
    assert setup.waiting == 2 * [setup.peers[0].connection]


def test_a_request_may_come_in_pieces(setup: Setup) -> None:
    setup.come()
    for byte in request():
        setup.arrive(bytes([byte]))
    assert setup.answer()[0] == 101


@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        (Refused(status=401, code="bad_token", detail="no"), 401, "bad_token"),
        (BackbeatError("late", code="timeout"), 503, "timeout"),
    ],
)
def test_who_is_not_let_in_is_told_by_http(
    setup: Setup, reply: Message | BackbeatError, status: int, code: str
) -> None:
    setup.reply = reply
    setup.come()
    setup.arrive(request())
    found, body = setup.answer()
    assert (found, body["code"]) == (status, code)
    assert setup.loop.transports[0].closing
    assert setup.acceptor.counts == {code: 1}


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"\x16\x03\x01", 400, "malformed"),
        (b"GET / HTTP/1.1\r\n" + 20_000 * b"a", 431, "too_large"),
        (b"GET /else HTTP/1.1\r\n\r\n", 404, "not_found"),
    ],
)
def test_what_asks_for_nothing_we_have_costs_the_engine_nothing(
    setup: Setup, data: bytes, status: int, code: str
) -> None:
    setup.come()
    setup.arrive(data)
    found, body = setup.answer()
    assert (found, body["code"]) == (status, code)
    assert setup.claims == []


def test_who_does_not_ask_in_time_is_turned_away(setup: Setup) -> None:
    setup.come()
    setup.arrive(b"GET /ws-cl")
    setup.clock.advance_ms(1_000 * HEAD_DEADLINE_S + 1)
    setup.loop.run()
    assert setup.answer() == (408, {"code": "timeout", "detail": "the request was not here in 5 s"})
    assert setup.acceptor.counts == {"timeout": 1}


def test_those_who_only_connect_make_room_for_the_next(setup: Setup) -> None:
    setup.come(MAX_WAITING + 1)
    assert len(setup.loop.transports) == MAX_WAITING + 1
    assert setup.loop.transports[0].aborted
    assert not setup.loop.transports[1].aborted
    setup.arrive(request())
    assert setup.answer()[0] == 101
    assert setup.acceptor.counts == {"given_up": 1, "accepted": 1}


def test_when_all_wait_for_the_engine_the_next_is_refused_at_once(setup: Setup) -> None:
    asked = setup.loop.create_future()

    async def never(_claim: Claim, _timeout_s: float) -> Message:
        await asked
        raise AssertionError

    setup.acceptor._claim = never
    setup.come(MAX_WAITING)
    for which in range(MAX_WAITING):
        setup.arrive(request(), which)
    setup.come()
    assert setup.listener.taken[-1].sent.startswith(b"HTTP/1.1 503 ")
    assert setup.listener.taken[-1].closed
    assert setup.acceptor.counts == {"too_many_waiting": 1}


def test_a_caller_who_left_meanwhile_leaves_its_leg_lost(setup: Setup) -> None:
    setup.come()
    protocol = setup.loop.protocols[0]
    protocol.data_received(request())
    protocol.connection_lost(None)
    setup.loop.run()
    assert setup.states == ["lost"]
    assert setup.acceptor.counts == {"gone": 1}
    assert b"101" not in setup.loop.transports[0].written
    with pytest.raises(StateError):
        setup.acceptor.admit(1)


def test_a_system_that_gives_no_connection_is_asked_again_a_little_later(setup: Setup) -> None:
    setup.listener.failure = OSError(24, "too many open files")
    assert setup.loop.reader is not None
    setup.loop.reader()
    setup.gate.open()
    assert setup.loop.reader is None
    assert setup.acceptor.counts == {"not_taken": 1}
    setup.listener.failure = None
    setup.clock.advance_ms(250)
    setup.loop.run()
    setup.come()
    setup.arrive(request())
    assert setup.answer()[0] == 101


def test_a_gate_that_is_full_is_tried_again(setup: Setup) -> None:
    setup.gate.full = True
    assert setup.loop.reader is not None
    setup.loop.reader()
    assert setup.loop.reader is None
    setup.gate.full = False
    setup.clock.advance_ms(250)
    setup.loop.run()
    assert setup.loop.reader is not None
