"""Callers who dial us over WebSocket: the worker that took the connection claims its token here.

The engine makes the session, has it made there, and offers it to a bot, or says with which HTTP
status the caller is refused. Who comes back with its token goes on with its session, on whatever
worker it comes to. No socket passes through this process.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import structlog

from engine.access import Access
from engine.http.errors import status_of
from engine.tokens import Ticket, Tokens
from ipc.errors import AuthError, BackbeatError, StateError
from ipc.messages import Admit, Claim, Claimed, CloseSession, Message, Refused

if TYPE_CHECKING:
    from engine.attachments import Attachments
    from engine.config import Settings
    from engine.moving import Moving
    from engine.session import Session
    from engine.sessions import Sessions
    from engine.supervisor import Supervisor, WorkerHandle

log = structlog.get_logger(__name__)

PATH = "/ws-client"
# So long is waited for the end of a session that could not begin.
GIVE_UP_S = 1.0


class Callers:
    """Lets WebSocket callers in."""

    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        attachments: Attachments,
        moving: Moving,
        supervisor: Supervisor,
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._attachments = attachments
        self._moving = moving
        self._supervisor = supervisor
        self._access = Access.of_callers(settings)
        self._tokens = Tokens()
        # Where the workers take connections; 0 while they do not.
        self.port = 0

    def issue(self, data: Any, client: str) -> str:
        """A token for one session, whose bot gets `data`, asked for by this address.

        Raises RateLimited or LimitError, both `too_many_tokens`.
        """
        return self._tokens.issue(data, client)

    def url(self, scheme: str, host: str) -> str:
        """Where a caller goes who has reached us by HTTP at `host`, with this scheme."""
        public = self._settings.public_ws_url
        if public:
            return public if public.endswith(PATH) else public.rstrip("/") + PATH
        return f"{'wss' if scheme == 'https' else 'ws'}://{host}:{self.port}{PATH}"

    async def request(self, worker: WorkerHandle, message: Message) -> Message:
        """A claim of a worker. Raises nothing that is the caller's own fault."""
        assert isinstance(message, Claim)  # noqa: S101 - the supervisor takes no other
        try:
            self._access.check_host(message.host)
            self._access.check_origin(message.origin)
        except AuthError as error:
            return Refused(status=403, code=error.code, detail=error.message)
        try:
            return Claimed(session=await self._claim(worker, message))
        except BackbeatError as error:
            log.debug("caller_refused", worker=worker.name, code=error.code)
            return Refused(status=status_of(error), code=error.code, detail=error.message)

    async def _claim(self, worker: WorkerHandle, claim: Claim) -> str:
        ticket = self._tokens.find(claim.token)
        if ticket.claiming:
            raise StateError("somebody is coming in with this token", code="token_in_use")
        ticket.claiming = True
        try:
            before = ticket.session
            if before is not None and before.over and not before.was_connected:
                await _given_up(before)
            if ticket.session is None:
                return await self._begin(ticket, worker, claim.caller)
            return await self._come_back(ticket.session, worker, claim.caller)
        finally:
            ticket.claiming = False
            self._supervisor.switch()

    async def _begin(self, ticket: Ticket, worker: WorkerHandle, caller: int) -> str:
        session = self._sessions.create(ticket.data, worker, transport="websocket")
        self._tokens.use(ticket, session)
        session.on_end = lambda: self._ended(ticket, session)
        try:
            await self._admit(session, worker, caller)
            if session.bot is None:  # it has ended meanwhile
                raise _over(session)
            opened = await self._attachments.open_rings(session, session.bot)
            if session.over:
                raise _over(session)
        except BaseException as error:
            reason = error.code if isinstance(error, BackbeatError) else "claim_failed"
            self._sessions.close(session, reason)
            await _given_up(session)
            raise
        self._sessions.begin(session)
        self._sessions.find_bot(session, opened)
        return session.id

    async def _come_back(self, session: Session, worker: WorkerHandle, caller: int) -> str:
        if not session.was_connected:
            raise StateError("the call with this token is just beginning", code="token_in_use")
        if session.over:
            raise AuthError("the session of this token has ended", code="bad_token")
        if not session.lost_worker and session.worker is not worker:
            await self._leave_worker(session)
        if session.lost_worker:
            await self._moving.move(
                session, lambda: self._admit(session, worker, caller), worker=worker
            )
            self._sessions.say_unsent(session)
        else:
            await self._admit(session, worker, caller)
        if session.over:
            raise AuthError("the session of this token has ended", code="bad_token")
        return session.id

    async def _leave_worker(self, session: Session) -> None:
        """Its caller has come to another worker than the one that carries it."""
        before = session.worker
        with contextlib.suppress(BackbeatError):
            await self._supervisor.request(
                before, CloseSession(session=session.id, reason="replaced")
            )
        if session.worker is before and not (session.lost_worker or session.over):
            self._sessions.strand(session, "replaced")

    async def _admit(self, session: Session, worker: WorkerHandle, caller: int) -> Message:
        return await self._supervisor.request(worker, Admit(session=session.id, caller=caller))

    def _ended(self, ticket: Ticket, session: Session) -> None:
        if session.was_connected:
            self._tokens.ended(ticket)
        else:
            self._tokens.give_back(ticket)


async def _given_up(session: Session) -> None:
    """Return when a session that never began is over: its token is good again then."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GIVE_UP_S):
            await session.closed.wait()


def _over(session: Session) -> StateError:
    return StateError(f"the session ended: {session.reason}", code="session_closed")
