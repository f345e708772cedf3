"""Our two WebSocket ends as echoes, over real sockets and without an engine.

`CallerEcho` is the listening end with its real upgrade, `dialled_echo` the dialling one; behind
both is the real connection, and in place of a session something that says all back.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Self, cast

from ipc.clock import NS_PER_S, MonotonicClock
from ipc.messages import Claim, Claimed, Message
from ipc.websocket import Websocket
from tests.fakes.serve import NO_TLS
from tests.support import DEADLINE_S
from workers.gate import Gate
from workers.websocket.acceptor import Acceptor
from workers.websocket.dialer import dial
from workers.websocket.reading import Reading
from workers.websocket.sockets import Drained, Sockets

if TYPE_CHECKING:
    from workers.websocket.caller import CallerPeer
    from workers.websocket.connection import Connection

# What the far end has not taken yet; beyond it no more is read.
MAX_UNSENT = 256 << 10
LOOK_S = 0.002


class PromptSockets(Sockets):
    """Its slots come as soon as there is something to drain."""

    def __init__(self, clock: MonotonicClock) -> None:
        # Not as the base does: it reads the authorities of the world, for 20 ms.
        self.tls = NO_TLS
        self._waiting = {}
        self.reading = Reading()
        self._clock = clock
        self._due = False

    def add(self, connection: Drained) -> None:
        super().add(connection)
        self._call()

    def _call(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._slot)

    def _slot(self) -> None:
        self._due = False
        self.drain(self._clock.now_ns())
        if self._waiting:
            self._call()


class Echo:
    """Takes the place of a leg: says every message back, and keeps how the connection ended."""

    closing = False

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.messages: list[str | bytes] = []
        self.refused = 0
        self.ends: list[str] = []

    def take(self, connection: Connection) -> None:
        self.connection = connection
        connection.on_message = self._say_back
        connection.is_full = self._is_full
        connection.on_end = lambda _connection, reason: self.ends.append(reason)
        connection.listen()

    def never_came(self) -> None:
        """The acceptor has done its part."""

    def _say_back(self, message: str | bytes, _now_ns: int) -> None:
        assert self.connection is not None
        self.messages.append(message)
        if not self.connection.send(message):
            self.refused += 1

    def _is_full(self) -> bool:
        connection = self.connection
        assert connection is not None
        full = connection.unsent_bytes > MAX_UNSENT
        if full:
            asyncio.get_running_loop().call_later(LOOK_S, connection.resume)
        return full

    async def over(self, timeout_s: float = DEADLINE_S) -> None:
        """Wait until its connection is gone, and drop what does not go."""
        assert self.connection is not None
        try:
            async with asyncio.timeout(timeout_s):
                await self.connection.gone.wait()
        finally:
            self.connection.abort()


class CallerEcho:
    """A port on the loopback where callers are let in and echoed. Use as a context manager."""

    def __init__(self) -> None:
        # By the token with which their callers came.
        self.legs: dict[str, Echo] = {}
        self._clock = MonotonicClock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor: Acceptor | None = None

    async def __aenter__(self) -> Self:
        loop, clock = asyncio.get_running_loop(), self._clock
        gate = Gate(loop, clock, lambda: clock.now_ns() + NS_PER_S)
        self._acceptor = Acceptor(self._listener, PromptSockets(clock), clock, gate, self._let_in)
        self._acceptor.switch(True)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._acceptor is not None
        await self._acceptor.close()
        for leg in self.legs.values():
            if leg.connection is not None:
                leg.connection.abort()
                await leg.connection.gone.wait()

    async def _let_in(self, claim: Claim, _timeout_s: float) -> Message:
        assert self._acceptor is not None
        leg = self.legs[claim.token] = Echo()
        self._acceptor.admitted(claim.caller, cast("CallerPeer", leg))
        return Claimed(session="s_1")


async def dialled_echo(uri: str, **options: Any) -> Echo:
    """The leg that has dialled this server. Raises DialFailed."""
    clock = MonotonicClock()
    websocket = Websocket(uri=uri, wire="messages", **options)
    leg = Echo()
    leg.take(await dial(websocket, PromptSockets(clock), clock))
    return leg
