"""Which sessions there are, by their id and by the ids of their callers' connections.

Names are opaque and carry the engine's id, so that another node could route them.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from engine.session import Session
from ipc.errors import Overloaded

if TYPE_CHECKING:
    from engine.bots import BotHandle
    from engine.supervisor import WorkerHandle

MAX_FORMER = 4


class Registry:
    """The sessions that are not closed, at most `limit` of them."""

    def __init__(self, engine_id: str, limit: int) -> None:
        self._engine_id = engine_id
        self._limit = limit
        self._sessions: dict[str, Session] = {}
        self._by_pc: dict[str, Session] = {}
        self.stopping = False

    @property
    def all(self) -> list[Session]:
        """Every session, in the order in which they began."""
        return list(self._sessions.values())

    @property
    def full(self) -> bool:
        """Whether it holds all that it may."""
        return len(self._sessions) >= self._limit

    def get(self, session_id: str) -> Session | None:
        """The session of that id."""
        return self._sessions.get(session_id)

    def of_caller(self, pc_id: str | None) -> Session | None:
        """The session to which that caller's connection belongs, or belonged a moment ago."""
        return self._by_pc.get(pc_id) if pc_id else None

    def check_room(self) -> None:
        """Raise Overloaded when no session may begin."""
        if self.stopping:
            raise Overloaded("the engine is shutting down", code="stopping")
        if self.full:
            raise Overloaded(f"the engine holds its {self._limit} sessions")

    def add(
        self, bot: BotHandle, worker: WorkerHandle, request_data: Any, **fields: Any
    ) -> Session:
        """A new session for bots of this one's name, on that worker."""
        session = Session(
            id=f"s_{self._engine_id}{secrets.token_hex(16)}",
            pc_id=self._new_pc_id(),
            bot_name=bot.name,
            worker=worker,
            request_data=request_data,
            **fields,
        )
        worker.sessions.add(session.id)
        self._sessions[session.id] = session
        self._by_pc[session.pc_id] = session
        return session

    def rename(self, session: Session) -> None:
        """A new `pc_id`; the ones before lead there until `forget_former`."""
        session.former.append(session.pc_id)
        self.forget_former(session, MAX_FORMER)
        session.pc_id = self._new_pc_id()
        self._by_pc[session.pc_id] = session

    def forget_former(self, session: Session, keep: int = 0) -> None:
        """Its earlier connections are no more, but for the last `keep`."""
        while len(session.former) > keep:
            self._by_pc.pop(session.former.pop(0), None)

    def hide(self, session: Session) -> None:
        """It ends: no caller's connection leads there any more."""
        self.forget_former(session)
        self._by_pc.pop(session.pc_id, None)

    def remove(self, session: Session) -> None:
        """It has ended."""
        self._sessions.pop(session.id, None)

    def _new_pc_id(self) -> str:
        return f"pc_{self._engine_id}{secrets.token_hex(16)}"
