"""Carries out what the engine commands: each command is answered, or refused by an error.

A command passes the gate first, for most of them hold the loop for a moment. What they do to a
session is the session's; which sessions there are is the worker's, and what a failed command has
begun is ended here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ipc.errors import SessionNotFound, StateError, UnknownMessage
from ipc.messages import (
    Accepting,
    Admit,
    Answer,
    Candidates,
    CloseSession,
    Configure,
    Dial,
    Dialled,
    DropRing,
    GetStats,
    Message,
    Offer,
    Ok,
    OpenRing,
    RingAttached,
    SendMessage,
    SendRaw,
    Stats,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from workers.gate import Gate
    from workers.ring_opener import RingOpener
    from workers.session import Session
    from workers.websocket.acceptor import Acceptor
    from workers.websocket.sockets import Sockets


class Commands:
    """Those to one worker."""

    def __init__(
        self,
        worker: str,
        gate: Gate,
        sessions: Mapping[str, Session],
        *,
        begin: Callable[[str], Session],
        end: Callable[[Session, str], Awaitable[None]],
        on_offer: Callable[[], None],
        rings: RingOpener,
        sockets: Sockets,
        acceptor: Acceptor | None,
    ) -> None:
        """`begin` makes one of the `sessions`, `end` closes it; `on_offer` hears of each offer.

        Without an `acceptor` the worker takes no WebSocket callers.
        """
        self._worker = worker
        self._gate = gate
        self._sessions = sessions
        self._begin = begin
        self._end = end
        self._on_offer = on_offer
        self._rings = rings
        self._sockets = sockets
        self._acceptor = acceptor

    async def request(self, message: Message) -> Message:
        """Carry out a command that is answered. Raises a BackbeatError when it cannot be."""
        await self._gate.turn()
        if isinstance(message, Offer):
            return await self._offer(message)
        if isinstance(message, Candidates):
            session = self._session(message.session)
            async with session.signaling:
                await session.add_candidates(message.candidates)
            return Ok()
        if isinstance(message, Dial):
            return await self._dial(message)
        if isinstance(message, Admit):
            return self._admit(message)
        if isinstance(message, SendRaw):
            return self._send_raw(message)
        if isinstance(message, OpenRing):
            return self._rings.open(self._session(message.session), message)
        if isinstance(message, Configure):
            await self._session(message.session).configure(message.codec, message.mixer)
            return Ok()
        if isinstance(message, GetStats):
            return Stats(records=self._session(message.session).stats(time.time_ns()))
        if isinstance(message, RingAttached):
            await self._session(message.session).attach_rings(message.epoch)
            return Ok()
        if isinstance(message, CloseSession):
            ending = self._sessions.get(message.session)
            if ending is not None:
                await self._end(ending, message.reason)
            return Ok()
        raise UnknownMessage(f"a worker does not answer {type(message).__name__}")

    def notify(self, message: Message) -> None:
        """Carry out one that is not answered. Raises a BackbeatError when it cannot be."""
        if isinstance(message, SendMessage):
            self._session(message.session).say(message.data, message.at)
        elif isinstance(message, DropRing):
            session = self._sessions.get(message.session)
            if session is not None:
                session.withdraw_rings(message.epoch)
        elif isinstance(message, Accepting) and self._acceptor is not None:
            self._acceptor.switch(message.on)
        else:
            raise UnknownMessage(f"a worker does not take {type(message).__name__}")

    def _session(self, session_id: str) -> Session:
        session = self._sessions.get(session_id)
        if session is None:
            raise SessionNotFound(f"worker {self._worker} has no session {session_id}")
        return session

    async def _offer(self, message: Offer) -> Answer:
        self._on_offer()
        session = self._sessions.get(message.session)
        fresh = session is None
        if session is None:
            session = self._begin(message.session)
        try:
            async with session.signaling:
                sdp = await session.answer(
                    message.sdp, restart=message.restart, ice_servers=message.ice_servers
                )
                return Answer(sdp=sdp)
        except BaseException:
            if fresh:
                await self._end(session, "offer_failed")
            raise

    async def _dial(self, message: Dial) -> Dialled:
        if message.session in self._sessions:
            raise StateError("the session has a caller")
        session = self._begin(message.session)
        try:
            connection = await session.dial(message.websocket, self._sockets)
        except BaseException:
            await self._end(session, "dial_failed")
            raise
        return Dialled(
            session=message.session,
            remote_address=[*connection.remote_address],
            headers=[*connection.response.result().headers.raw_items()],
            subprotocol=connection.protocol.subprotocol,
        )

    def _admit(self, message: Admit) -> Ok:
        if self._acceptor is None:
            raise StateError("the worker takes no callers", code="caller_gone")
        websocket = self._acceptor.admit(message.caller)
        session = self._sessions.get(message.session) or self._begin(message.session)
        self._acceptor.admitted(message.caller, session.admit(websocket, self._sockets))
        return Ok()

    def _send_raw(self, message: SendRaw) -> Ok:
        leg = self._session(message.session).websocket
        if leg is None:
            raise StateError("the session has no WebSocket", code="not_connected")
        leg.data.send_raw(message.data.decode(errors="replace") if message.text else message.data)
        return Ok()
