"""Takes callers' connections from the listening socket and sees them through to a WebSocket.

Only while the engine has switched this worker on, one at a time, and only when there is time
before the next slot (`workers.gate`). Who is let in is decided by the engine. Every connection
that is not yet a WebSocket has a deadline, and there are never many of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
from collections import Counter
from typing import TYPE_CHECKING, cast

from ipc.errors import BackbeatError, StateError
from ipc.messages import Claim, Claimed, Message, Refused
from workers.websocket.connection import Connection
from workers.websocket.upgrade import MAX_HEAD_BYTES, Refusal, Wanted, read

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ipc.clock import Clock
    from ipc.websocket import Websocket
    from workers.gate import Gate
    from workers.websocket.caller import CallerPeer
    from workers.websocket.sockets import Sockets

log = logging.getLogger(__name__)

# For the request to be here, from the moment the connection was taken.
HEAD_DEADLINE_S = 5.0
CLAIM_DEADLINE_S = 5.0
# Connections that are no WebSockets yet.
MAX_WAITING = 64
# Speech takes 50 to 100, and 375 from a page that sends each block of its sound processor (128
# samples at 48 kHz) by itself.
MAX_FRAMES_PER_S = 500
# An answer has so long to leave.
GOODBYE_S = 1.0
# After the system could not give us a connection (it has no descriptors left, for one).
PAUSE_S = 0.2
MAX_CODES = 64
TOO_MANY = Refusal(503, "too_many_waiting", "too many callers are coming in; try again soon")


class Acceptor:
    """One worker's part of the listening socket. Its owner calls `close`."""

    def __init__(
        self,
        listener: socket.socket,
        sockets: Sockets,
        clock: Clock,
        gate: Gate,
        claim: Callable[[Claim, float], Awaitable[Message]],
    ) -> None:
        """`claim` asks the engine, with a deadline in s."""
        self._listener = listener
        self._sockets = sockets
        self._clock = clock
        self._gate = gate
        self._claim = claim
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._on = self._reading = False
        self._pause: asyncio.TimerHandle | None = None
        # How requests ended: `accepted`, or the code of the refusal.
        self.counts: Counter[str] = Counter()

    def switch(self, on: bool) -> None:
        """Take connections from now on, or leave them to others; what was taken goes on."""
        self._on = on
        self._watch()

    def admit(self, caller: int) -> Websocket:
        """What the caller of that claim will speak. Raises StateError when it is gone."""
        waiting = self._waiting.get(caller)
        if waiting is None or waiting.wanted is None:
            raise StateError("the caller is gone", code="caller_gone")
        return waiting.wanted.websocket

    def admitted(self, caller: int, peer: CallerPeer) -> None:
        """That caller gets this leg, if the engine lets it in."""
        self._waiting[caller].peer = peer

    async def close(self) -> None:
        """Take no more, and drop those that are not in yet."""
        self.switch(False)
        if self._pause is not None:
            self._pause.cancel()
        tasks = [waiting.task for waiting in self._waiting.values() if waiting.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    # -- taking connections ---------------------------------------------------------------------

    def _watch(self) -> None:
        wanted = self._on and self._pause is None
        if wanted and not self._reading:
            self._loop.add_reader(self._listener, self._come)
        elif not wanted and self._reading:
            self._loop.remove_reader(self._listener)
        self._reading = wanted

    def _come(self) -> None:
        """Somebody is there: taken when there is time, and until then nobody else is looked for."""
        self._loop.remove_reader(self._listener)
        self._reading = False
        if not self._gate.push(self._take_one):
            self._rest()

    def _take_one(self) -> None:
        if not self._on:
            return
        try:
            taken, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            pass  # another worker was quicker, or the caller has left
        except OSError as error:
            self._count("not_taken")
            log.warning("no connection can be taken: %s", error)
            self._rest()
        else:
            self._begin(taken)
        self._watch()

    def _rest(self) -> None:
        def go_on() -> None:
            self._pause = None
            self._watch()

        self._pause = self._loop.call_later(PAUSE_S, go_on)

    def _begin(self, taken: socket.socket) -> None:
        taken.setblocking(False)
        if len(self._waiting) >= MAX_WAITING and not self._make_room():
            self._count(TOO_MANY.code)
            with taken, contextlib.suppress(OSError):
                taken.send(TOO_MANY.serialize())
            return
        number = next(self._numbers)
        waiting = self._waiting[number] = _Waiting(number, self._loop.create_future())
        waiting.task = self._loop.create_task(self._serve(waiting, taken), name="caller comes")

    def _make_room(self) -> bool:
        """Who has been longest without a whole request makes room for the next."""
        for waiting in self._waiting.values():
            if not waiting.head.done() and waiting.task is not None:
                waiting.task.cancel()
                del self._waiting[waiting.number]
                return True
        return False

    # -- one connection -------------------------------------------------------------------------

    async def _serve(self, waiting: _Waiting, taken: socket.socket) -> None:
        try:
            outcome = await self._let_in(waiting, taken)
            self._count("accepted" if outcome is None else outcome.code)
            if outcome is not None:
                waiting.answer(outcome)
        except asyncio.CancelledError:
            self._count("given_up")
            waiting.drop(taken)
            raise
        except Exception:  # it must not be more than this caller's misfortune
            self._count("internal")
            log.exception("a caller could not be let in")
            waiting.drop(taken)
        finally:
            self._waiting.pop(waiting.number, None)
            if waiting.peer is not None:
                waiting.peer.never_came()

    async def _let_in(self, waiting: _Waiting, taken: socket.socket) -> Refusal | None:
        try:
            async with asyncio.timeout(HEAD_DEADLINE_S):
                await self._loop.connect_accepted_socket(lambda: waiting, taken)
                head = await waiting.head
        except TimeoutError:
            return Refusal(408, "timeout", f"the request was not here in {HEAD_DEADLINE_S:g} s")
        except OSError as error:
            taken.close()
            return Refusal(400, "gone", str(error))
        if isinstance(head, Refusal):
            return head
        await self._gate.turn()
        wanted = read(head)
        if isinstance(wanted, Refusal):
            return wanted
        waiting.wanted = wanted
        claim = Claim(
            caller=waiting.number, token=wanted.token, host=wanted.host, origin=wanted.origin
        )
        try:
            reply = await self._claim(claim, CLAIM_DEADLINE_S)
        except BackbeatError as error:
            return Refusal(503, error.code, "the engine does not answer; try again soon")
        if isinstance(reply, Refused):
            return Refusal(reply.status, reply.code, reply.detail)
        await self._gate.turn()
        peer = waiting.peer
        if not isinstance(reply, Claimed) or peer is None or peer.closing:
            return Refusal(503, "session_closed", "the call has ended before it began")
        return waiting.become(self._connection(wanted), wanted, peer)

    def _connection(self, wanted: Wanted) -> Connection:
        wanted.protocol.send_response(wanted.answer)
        return Connection(
            wanted.protocol,
            self._sockets,
            self._clock,
            ping_interval_s=wanted.websocket.ping_interval_s,
            ping_timeout_s=wanted.websocket.ping_timeout_s,
            close_timeout_s=wanted.websocket.close_timeout_s,
            data_is_life=True,
            max_frames_per_s=MAX_FRAMES_PER_S,
        )

    def _count(self, code: str) -> None:
        known = code in self.counts or len(self.counts) < MAX_CODES
        self.counts[code if known else "other"] += 1


def inherited(descriptor: int) -> socket.socket:
    """The listening socket that the engine has left this process."""
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


class _Waiting(asyncio.Protocol):
    """A connection on which a request comes, or has come and is being decided."""

    def __init__(self, number: int, head: asyncio.Future[bytes | Refusal]) -> None:
        self.number = number
        # The request up to its empty line, or why there will be none.
        self.head = head
        self.wanted: Wanted | None = None
        self.peer: CallerPeer | None = None
        self.task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        before, self._data = max(0, len(self._data) - 3), self._data + data
        if self.head.done():
            return
        end = self._data.find(b"\r\n\r\n", before)
        if 0 <= end <= MAX_HEAD_BYTES:
            head, self._data = self._data[: end + 4], self._data[end + 4 :]
            self.head.set_result(head)
        elif not self._data[:1].isalpha():
            self.head.set_result(Refusal(400, "malformed", "this port speaks HTTP"))
        elif len(self._data) > MAX_HEAD_BYTES:
            self.head.set_result(Refusal(431, "too_large", "a request has at most 16 KiB"))
        else:
            return
        if self._transport is not None:  # what follows waits in the system until it is in
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if not self.head.done():
            self.head.set_result(Refusal(400, "gone", "the caller has left"))

    def become(self, connection: Connection, wanted: Wanted, peer: CallerPeer) -> Refusal | None:
        """It is a WebSocket from now on, and the leg's."""
        transport = self._transport
        if transport is None or self._lost or transport.is_closing():
            return Refusal(400, "gone", "the caller has left")
        transport.set_protocol(connection)
        transport.resume_reading()  # of what comes after this; the connection may stop it again
        connection.connection_made(transport)
        peer.take(connection)
        if self._data:
            connection.data_received(self._data)
        return None

    def answer(self, refusal: Refusal) -> None:
        """Refuse, and end the connection."""
        transport = self._transport
        if transport is None or self._lost:
            return
        transport.write(refusal.serialize())
        transport.close()
        asyncio.get_running_loop().call_later(GOODBYE_S, transport.abort)

    def drop(self, taken: socket.socket) -> None:
        """End the connection without a word."""
        if self._transport is not None:
            self._transport.abort()
        else:
            taken.close()
