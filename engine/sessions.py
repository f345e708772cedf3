"""Sessions: one conversation each, from the caller's first offer to `closed(reason)`.

A session outlives the worker, leg or bot that serves it: `engine.legs` and `engine.bot_search`
decide what becomes of it then. Its states and the allowed transitions are the table in
`engine.session`; whatever happens goes through `_move`, and `close` may be called by anyone at
any time: it reports `closed` exactly once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from engine.attachments import Attachments
from engine.bot_search import BotSearch
from engine.callers import Callers
from engine.dialling import Dialling
from engine.legs import Legs
from engine.moving import Moving
from engine.placing import Placing
from engine.registry import Registry
from engine.session import MAX_KEPT, TRANSITIONS, Session, State
from engine.supervisor import Supervisor, WorkerHandle, WorkerState
from ipc.errors import (
    BackbeatError,
    MalformedMessage,
    SessionNotFound,
    StateError,
    UnknownMessage,
    WorkerDied,
)
from ipc.messages import (
    Answer,
    Candidate,
    Candidates,
    CloseSession,
    Configure,
    Connected,
    GetStats,
    Message,
    Offer,
    Ok,
    RingOpened,
    SendMessage,
    SessionClosed,
    Stats,
)
from ipc.wire import check_data

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from engine.bots import BotHandle, Bots
    from engine.config import Settings
    from ipc.ice_server import IceServer

__all__ = ["TRANSITIONS", "Session", "Sessions", "State"]

log = structlog.get_logger(__name__)


class Sessions:
    """Every session of this engine, and all decisions about them."""

    def __init__(
        self, settings: Settings, engine_id: str, supervisor: Supervisor, bots: Bots
    ) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._bots = bots
        self._attachments = Attachments(settings, engine_id, supervisor, bots)
        self._moving = Moving(self, supervisor, bots)
        self._dialling = Dialling(self, self._attachments, self._moving, supervisor)
        self._placing = Placing(self, self._attachments, self._dialling)
        self.callers = Callers(settings, self, self._attachments, self._moving, supervisor)
        self._known = Registry(engine_id, settings.max_sessions)
        self._search = BotSearch(settings, self, self._attachments, bots, self._known)
        self._legs = Legs(settings, self, self._attachments, self._dialling, self._known)
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def all(self) -> list[Session]:
        """The sessions that are not closed."""
        return self._known.all

    @property
    def ice_servers(self) -> list[IceServer]:
        """The STUN and TURN servers of calls that bring none of their own."""
        return self._settings.ice_server

    def not_ready(self) -> list[str]:
        """Why a call that came now would be refused; empty when it would be taken."""
        reasons = ["the engine is shutting down"] if self._known.stopping else []
        for probe in (lambda: self._bots.choose(None), self._supervisor.place):
            try:
                probe()
            except BackbeatError as error:
                reasons.append(error.message)
        if self._known.full:
            reasons.append("the engine holds all the sessions it may")
        return reasons

    # -- the caller's signaling -----------------------------------------------------------

    async def offer(
        self, sdp: str, *, pc_id: str | None, restart: bool, request_data: Any
    ) -> tuple[str, str]:
        """Answer a caller's offer: the SDP answer and the id of its peer connection.

        A known `pc_id` renegotiates (on a new connection with `restart`), any other begins a
        session. Raises NegotiationError, NoBot, NoWorker, Overloaded.
        """
        known = self._known.of_caller(pc_id)
        # The caller of a placed session has its bot for that.
        if known is not None and not known.over and not known.placed:
            return await self.answer(known, sdp, restart=restart), known.pc_id
        session = self.create(request_data, ice_servers=self.ice_servers)
        assert session.bot is not None  # noqa: S101 - `create` has chosen one
        try:
            # The rings are made while the worker answers (it must hear of the session first),
            # so that a full /dev/shm is this caller's 503. The bot's own accept is not
            # awaited: it may be busy.
            async with asyncio.TaskGroup() as both:
                answering = both.create_task(self._ask(session, _offer(session, sdp)))
                opening = both.create_task(self._attachments.open_rings(session, session.bot))
        except BaseException as error:
            cause = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
            reason = cause.code if isinstance(cause, BackbeatError) else "offer_failed"
            self.close(session, reason)
            raise cause from None
        answer, opened = answering.result(), opening.result()
        self.begin(session)
        self.find_bot(session, opened)
        return answer, session.pc_id

    async def add_candidates(self, pc_id: str, candidates: list[Candidate]) -> None:
        """Trickled candidates of a caller. Raises SessionNotFound, SdpRejected."""
        session = self._known.of_caller(pc_id)
        if session is None or session.placed:
            raise SessionNotFound("Peer connection not found")
        await self.tell_worker(session, Candidates(session=session.id, candidates=candidates))

    async def tell_worker(self, session: Session, message: Message) -> Message:
        """Have the session's worker carry out a command. Raises what it answers, WorkerError."""
        return await self._supervisor.request(session.worker, message)

    async def answer(self, session: Session, sdp: str, *, restart: bool = False) -> str:
        """The SDP answer to an offer of the session's caller, on another worker if its own is gone.

        Raises NegotiationError, NoWorker, WorkerError.
        """
        if not session.lost_worker:
            return await self._ask(session, _offer(session, sdp, restart=restart))
        answer = await self._moving.move(session, lambda: self._ask(session, _offer(session, sdp)))
        self.say_unsent(session)
        return answer

    def say_unsent(self, session: Session) -> None:
        """Another worker has it: what the caller was told meanwhile, unless its bot comes first."""
        if not session.stranded or session.bot is None:
            self._send_unsent(session)

    def begin(self, session: Session) -> None:
        """A new session's caller has its answer: it has so long to connect."""
        self._move(session, State.CONNECTING)
        self.set_deadline(session, session.connect_s, session.unreached)

    def rename(self, session: Session) -> None:
        """A new `pc_id`; the one before leads here until the caller has connected."""
        self._known.rename(session)

    async def stats(self, name: str) -> Stats:
        """How a session does, by its id or by the `pc_id` of its caller.

        Raises SessionNotFound, WorkerError.
        """
        session = self._known.get(name) or self._known.of_caller(name)
        if session is None:
            raise SessionNotFound("there is no such session; it may have ended")
        return await self._ask_stats(session)

    async def _ask_stats(self, session: Session) -> Stats:
        found = await self._supervisor.request(session.worker, GetStats(session=session.id))
        if not isinstance(found, Stats):
            raise WorkerDied("the worker's reply carries no statistics")
        return found

    def create(
        self, request_data: Any, worker: WorkerHandle | None = None, **fields: Any
    ) -> Session:
        """A new session for the bot that the caller wants. Raises NoBot, Overloaded, NoWorker."""
        self._known.check_room()
        wanted = request_data.get("bot") if isinstance(request_data, dict) else None
        if wanted is not None and not isinstance(wanted, str):
            raise MalformedMessage("request_data.bot is the name of a bot, a string")
        check_data(request_data)
        bot = self._bots.choose(wanted)
        session = self.add(bot, request_data, worker, connect_s=self._settings.connect_s, **fields)
        self._attachments.assign(session, bot)
        return session

    def add(
        self, bot: BotHandle, request_data: Any, worker: WorkerHandle | None = None, **fields: Any
    ) -> Session:
        """A new session for a bot of this name, on a worker. Raises Overloaded, NoWorker."""
        self._known.check_room()
        worker = self._supervisor.place([worker] if worker is not None else None)
        return self._known.add(bot, worker, request_data, **fields)

    async def _ask(self, session: Session, offer: Offer) -> str:
        answer = await self._supervisor.request(session.worker, offer)
        if not isinstance(answer, Answer):
            raise WorkerDied("the worker's reply carries no answer")
        return answer.sdp

    # -- the bot's side -------------------------------------------------------------------

    def find_bot(self, session: Session, opened: RingOpened) -> None:
        """Have a bot attach: first the one that it has, for which rings were `opened`."""
        self.keep(session, self._search.attach(session, opened))

    def bot_gone(self, bot: BotHandle, reason: str) -> None:
        """A bot process ended: hold its calls for the next one of that name, unless it said so."""
        self._search.gone(bot, reason)

    def bot_attached(self, session: Session, bot: BotHandle) -> None:
        """The bot has rings: tell it what it has missed, and the caller what it has said."""
        knows, session.listening, session.stranded = session.listening, True, False
        if session.leg == "connected":
            self.go_live(session)
        if not knows:
            for status in session.tracks.values():
                self._bots.notify(bot, status)
        while session.kept:
            self._bots.notify(bot, session.kept.popleft())
        self._send_unsent(session)

    def _send_unsent(self, session: Session) -> None:
        while session.unsent:
            self._supervisor.notify(session.worker, session.unsent.popleft())

    def fail(self, session: Session, error: BackbeatError) -> None:
        """It cannot go on."""
        log.error("session_failed", session=session.id, code=error.code, error=error.message)
        self.close(session, error.code)

    def tell_bot(self, session: Session, message: Message) -> None:
        """Its bot, or who will be: what nobody hears is kept, bounded."""
        if session.bot is not None and session.listening:
            self._bots.notify(session.bot, message)
            return
        if len(session.kept) == MAX_KEPT:
            session.kept_lost += 1
        session.kept.append(message)

    async def bot_request(self, bot: BotHandle, message: Message) -> Message:
        """A request of a bot about one of its sessions."""
        if isinstance(message, CloseSession):
            session = self.of(bot, message.session)
            reason = message.reason[:64] or "bot_closed"
            connecting = session.state is State.CONNECTING and session.leg != "connected"
            if connecting and not message.at_once:
                # A caller that is still connecting could not be told: it would see a call
                # that never comes about. It is let in first, and then told.
                session.leaving = reason
                self._bots.notify(bot, SessionClosed(session=session.id, reason=reason))
                self._attachments.release(session)
            else:
                self.close(session, reason)
            return Ok()
        if isinstance(message, Configure):
            return await self._supervisor.request(self.of(bot, message.session).worker, message)
        if isinstance(message, GetStats):
            return await self._ask_stats(self.of(bot, message.session))
        return await self._placing.request(bot, message)

    def bot_message(self, bot: BotHandle, message: Message) -> None:
        """A notification of a bot about one of its sessions."""
        if not isinstance(message, SendMessage):
            raise UnknownMessage(f"the engine does not take {type(message).__name__} of a bot")
        session = self.of(bot, message.session)
        if session.stranded or session.lost_worker:
            session.unsent.append(message)
        else:
            self._supervisor.notify(session.worker, message)

    def of(self, bot: BotHandle, session_id: str) -> Session:
        """The session of this bot. Raises SessionNotFound."""
        session = self._known.get(session_id)
        if session is None or session.bot is not bot:
            raise SessionNotFound(f"bot {bot.name} has no session {session_id[:64]}")
        return session

    # -- the worker's side ----------------------------------------------------------------

    def worker_message(self, worker: WorkerHandle, message: Message) -> None:
        """A notification of a worker about one of its sessions."""
        self._legs.message(worker, message)

    def worker_gone(self, worker: WorkerHandle) -> None:
        """A worker process ended: its callers may come to another, those still dialling anew."""
        self._legs.gone(worker)

    def strand(self, session: Session, reason: str) -> None:
        """Its worker does not carry it any more: its caller may come to another."""
        self._legs.strand(session, reason)

    # -- states ---------------------------------------------------------------------------

    def go_live(self, session: Session) -> None:
        """Its caller and its bot are both here."""
        self.set_deadline(session, None, "")
        if session.state is State.LIVE:
            return  # the caller came back on a new connection before anybody missed it
        self._move(session, State.LIVE)
        self.tell_bot(session, Connected(session=session.id, resumed=session.was_connected))
        session.was_connected = True

    def interrupt(self, session: Session) -> None:
        """Its caller or its bot is away: it is live no more until they are back."""
        if session.state is State.LIVE:
            self._move(session, State.INTERRUPTED)

    def _move(self, session: Session, state: State) -> None:
        if session.state is state:
            return
        if state not in TRANSITIONS[session.state]:
            raise StateError(f"a session does not go from {session.state.value} to {state.value}")
        log.info("session", session=session.id, state=state.value, reason=session.reason)
        session.state = state

    def set_deadline(self, session: Session, after_s: float | None, reason: str) -> None:
        """End it after so long, in place of an earlier deadline; None: not at all."""
        if session.deadline is not None:
            session.deadline.cancel()
            session.deadline = None
        if after_s is not None:
            loop = asyncio.get_running_loop()
            session.deadline = loop.call_later(after_s, self.close, session, reason)

    def keep(self, session: Session, work: Coroutine[None, None, None]) -> None:
        """Do this for the session, until it ends."""
        task = asyncio.create_task(work, name=f"session {session.id[:12]}")
        session.tasks.add(task)
        task.add_done_callback(session.tasks.discard)

    # -- the end --------------------------------------------------------------------------

    def close(self, session: Session, reason: str) -> None:
        """End a session, once. Returns at once; `session.closed` tells when it is over."""
        if session.over:
            return
        session.reason = reason
        self._move(session, State.CLOSING)
        self.set_deadline(session, None, "")
        self._known.hide(session)
        task = asyncio.create_task(self._close(session), name="session close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, session: Session) -> None:
        for task in session.tasks:
            task.cancel()
        await asyncio.gather(*session.tasks, return_exceptions=True)
        if session.bot is not None:  # also one that may be attaching at this moment
            self._bots.notify(session.bot, SessionClosed(session=session.id, reason=session.reason))
        self._attachments.release(session)
        worker = session.worker
        worker.sessions.discard(session.id)
        try:
            if worker.state is WorkerState.LIVE:
                await self._supervisor.request(
                    worker, CloseSession(session=session.id, reason=session.reason)
                )
        except BackbeatError as error:
            log.warning("session_close", session=session.id, code=error.code)
        finally:
            self._attachments.unlink(session)
            self._known.remove(session)
            self._move(session, State.CLOSED)
            session.on_end()
            session.closed.set()

    async def close_all(self, reason: str) -> None:
        """End every session and wait for it."""
        self._known.stopping = True
        for session in self.all:
            self.close(session, reason)
        await asyncio.gather(*self._closing, return_exceptions=True)


def _offer(session: Session, sdp: str, *, restart: bool = False) -> Offer:
    return Offer(session=session.id, sdp=sdp, restart=restart, ice_servers=session.ice_servers)
