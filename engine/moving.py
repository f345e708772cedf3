"""How a session whose worker is gone gets another one: by an offer or a dial that it answers.

The mechanism; whether a session is worth it, and how long, is decided in `engine.sessions`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

import structlog

from ipc.errors import BackbeatError, NoWorker, WorkerError
from ipc.messages import CloseSession, MediaMoved

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.bots import Bots
    from engine.session import Session
    from engine.sessions import Sessions
    from engine.supervisor import Supervisor, WorkerHandle

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")


class Moving:
    """Moves sessions to other workers."""

    def __init__(self, sessions: Sessions, supervisor: Supervisor, bots: Bots) -> None:
        self._sessions = sessions
        self._supervisor = supervisor
        self._bots = bots

    async def move(
        self,
        session: Session,
        ask: Callable[[], Awaitable[Answer]],
        *,
        worker: WorkerHandle | None = None,
    ) -> Answer:
        """Have another worker answer `ask` for the session, which is back if it does not.

        A bot that has rings is told to come for others. Raises NoWorker and what `ask` raises.
        """
        gone, homeless = session.worker, session.homeless
        worker = worker or self._supervisor.find()
        if worker is gone and not homeless:
            raise NoWorker("the session's worker is still going away")
        session.worker, session.homeless = worker, False
        worker.sessions.add(session.id)
        try:
            answer = await ask()
        except BaseException as error:
            if session.worker is worker and not session.over:
                session.worker, session.homeless = gone, homeless
                worker.sessions.discard(session.id)
                if isinstance(error, WorkerError):  # it may only have been slow
                    self._sessions.keep(session, self._forget_at(worker, session))
            raise
        log.info("session_moved", session=session.id, worker=worker.name)
        if session.stranded and session.bot is not None:
            self._bots.notify(session.bot, MediaMoved(session=session.id))
        return answer

    async def _forget_at(self, worker: WorkerHandle, session: Session) -> None:
        """That worker has not the session, whatever it may think."""
        with contextlib.suppress(BackbeatError):
            await self._supervisor.request(
                worker, CloseSession(session=session.id, reason="moved_elsewhere")
            )
