"""What workers say of their sessions' callers, and what becomes of a session for it.

A caller who is lost may come back while the session is held; one whose worker is gone may come
to another worker. What the bot hears of either is said here, once.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import structlog

from engine.session import MAX_KEPT, Session
from ipc.errors import UnknownMessage
from ipc.messages import AppMessage, Disconnected, LegState, Message, RawMessage, TrackStatus

if TYPE_CHECKING:
    from engine.attachments import Attachments
    from engine.config import Settings
    from engine.dialling import Dialling
    from engine.registry import Registry
    from engine.sessions import Sessions
    from engine.supervisor import WorkerHandle

log = structlog.get_logger(__name__)


class Legs:
    """The callers' side of the sessions."""

    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        attachments: Attachments,
        dialling: Dialling,
        known: Registry,
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._attachments = attachments
        self._dialling = dialling
        self._known = known

    def message(self, worker: WorkerHandle, message: Message) -> None:
        """A notification of a worker about one of its sessions. Raises UnknownMessage."""
        if not isinstance(message, LegState | AppMessage | RawMessage | TrackStatus):
            raise UnknownMessage(f"the engine does not take {type(message).__name__} of a worker")
        session = self._known.get(message.session)
        if session is None or session.worker is not worker:
            return  # it closed while this was under way
        if isinstance(message, LegState):
            self._changed(session, message)
            return
        if isinstance(message, TrackStatus):
            session.tracks[message.receiver_index] = message
            if not session.listening:
                return  # the next bot is told the newest status of each track
        self._sessions.tell_bot(session, message)

    def gone(self, worker: WorkerHandle) -> None:
        """A worker process ended: its callers may come to another, those still dialling anew."""
        for session_id in list(worker.sessions):
            session = self._known.get(session_id)
            if session is not None and session.was_connected and not session.over:
                self.strand(session, worker.reason)
            elif session is not None:
                self._sessions.close(session, worker.reason)

    def strand(self, session: Session, reason: str) -> None:
        """Its worker does not carry it any more: its caller may come to another."""
        session.worker.sessions.discard(session.id)
        session.homeless = True
        session.stranded |= session.attached
        session.attached = False
        self._attachments.unlink(session)
        if session.leg != "lost":
            self._changed(session, LegState(session=session.id, state="lost", reason=reason))
        self._sessions.set_deadline(session, self._settings.resume_s, reason)
        if session.websocket is not None:
            self._sessions.keep(session, self._dialling.again(session))

    def _changed(self, session: Session, message: LegState) -> None:
        sessions = self._sessions
        before, session.leg = session.leg, message.state
        log.info("leg", session=session.id, state=message.state)
        if session.placed and session.listening:
            sessions.tell_bot(session, message)
        if message.state == "connecting":
            sessions.set_deadline(session, session.connect_s, session.unreached)
        elif message.state == "connected":
            self._known.forget_former(session)
            kept = [told for told in session.kept if not isinstance(told, Disconnected)]
            session.kept = deque(kept, maxlen=MAX_KEPT)
            if session.leaving:
                sessions.close(session, session.leaving)
            elif session.stranded:  # it comes for its rings before the call goes on
                sessions.set_deadline(session, self._settings.bot_stall_s, "bot_stalled")
            elif session.listening:
                sessions.go_live(session)
        elif message.state == "lost" and before != "lost":  # once, if it never came back in
            if not session.was_connected:
                sessions.close(session, session.unreached)
                return
            sessions.interrupt(session)
            reason = message.reason or "lost"
            sessions.tell_bot(session, Disconnected(session=session.id, reason=reason))
            resume_s = session.resume_s or self._settings.resume_s
            sessions.set_deadline(session, resume_s, "lost")
        elif message.state == "closed":
            sessions.tell_bot(session, Disconnected(session=session.id, reason=message.reason))
            sessions.close(session, message.reason)
