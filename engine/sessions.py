"""Sessions: one conversation each, from the caller's first offer to `closed(reason)`.

A session outlives the worker, leg or bot that serves it. Its states and the allowed
transitions are the table in `engine.session`; whatever happens goes through `_move`, and
`close` may be called by anyone at any time: it reports `closed` exactly once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import structlog

from engine.attachments import Attachments
from engine.callers import Callers
from engine.dialling import Dialling
from engine.moving import Moving
from engine.placing import Placing
from engine.registry import Registry
from engine.session import MAX_KEPT, TRANSITIONS, Session, State
from engine.supervisor import Supervisor, WorkerHandle, WorkerState
from ipc.errors import (
    BackbeatError,
    MalformedMessage,
    NoBot,
    SessionNotFound,
    StateError,
    UnknownMessage,
    WorkerDied,
)
from ipc.messages import (
    Answer,
    AppMessage,
    Candidate,
    Candidates,
    CloseSession,
    Configure,
    Connected,
    Disconnected,
    GetStats,
    LegState,
    Message,
    Offer,
    Ok,
    RawMessage,
    RingOpened,
    SendMessage,
    SessionClosed,
    Stats,
    TrackStatus,
)
from ipc.wire import check_data

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from engine.bots import BotHandle, Bots
    from engine.config import Settings
    from ipc.ice_server import IceServer

__all__ = ["TRANSITIONS", "Session", "Sessions", "State"]

log = structlog.get_logger(__name__)

RETRY_S = 0.2


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
        self.keep(session, self.attach(session, opened))
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
        self._set_deadline(session, session.connect_s, session.unreached)

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
        return self._known.add(bot, worker or self._supervisor.place(), request_data, **fields)

    async def _ask(self, session: Session, offer: Offer) -> str:
        answer = await self._supervisor.request(session.worker, offer)
        if not isinstance(answer, Answer):
            raise WorkerDied("the worker's reply carries no answer")
        return answer.sdp

    # -- the bot's side -------------------------------------------------------------------

    def bot_gone(self, bot: BotHandle, reason: str) -> None:
        """A bot process ended: hold its calls for the next one of that name, unless it said so."""
        for session_id in [*bot.sessions, *bot.placed]:
            session = self._known.get(session_id)
            # A session that is being offered to it hears of it by the failing offer.
            if session is None or not (session.listening or session.placed):
                continue
            # Nobody else speaks for a caller whom a bot without room of its own has placed.
            alone = session.placed and not (bot.hello.capacity and session.was_attached)
            if reason == "bot_left" or alone:
                self.close(session, reason)
                continue
            self._interrupt(session)
            session.listening = session.attached = session.stranded = session.placed = False
            session.bot = None
            log.warning("session_without_bot", session=session.id, reason=reason)
            self.keep(session, self._reattach(session))

    async def _reattach(self, session: Session) -> None:
        """Wait for bots of the session's name until one has attached or the hold is over."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.resume_s
        try:
            while True:
                bot = await self._bots.wait_for(session.bot_name, until - loop.time())
                if not session.lost_worker:
                    self._attachments.assign(session, bot)
                    if await self._attachments.attach(session, bot, None):
                        self.bot_attached(session, bot)
                        return
                await asyncio.sleep(RETRY_S)
        except NoBot:
            self.close(session, "bot_gone")
        except BackbeatError as error:
            self.fail(session, error)

    async def attach(self, session: Session, opened: RingOpened) -> None:
        """Offer the session to one bot after the other until one has attached.

        `opened` are the rings that were made for the first of them.
        """
        tried: set[str] = set()
        rings: RingOpened | None = opened
        try:
            while session.bot is not None:
                bot = session.bot
                tried.add(bot.id)
                if await self._attachments.attach(session, bot, rings):
                    self.bot_attached(session, bot)
                    return
                rings = None
                self._attachments.assign(session, self._bots.choose(session.bot_name, tried))
        except NoBot:
            self.close(session, "no_bot")
        except BackbeatError as error:
            self.fail(session, error)

    def bot_attached(self, session: Session, bot: BotHandle) -> None:
        """The bot has rings: tell it what it has missed, and the caller what it has said."""
        knows, session.listening, session.stranded = session.listening, True, False
        if session.leg == "connected":
            self._go_live(session)
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

    def _tell_bot(self, session: Session, message: Message) -> None:
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
        if not isinstance(message, LegState | AppMessage | RawMessage | TrackStatus):
            raise UnknownMessage(f"the engine does not take {type(message).__name__} of a worker")
        session = self._known.get(message.session)
        if session is None or session.worker is not worker:
            return  # it closed while this was under way
        if isinstance(message, LegState):
            self._leg_changed(session, message)
            return
        if isinstance(message, TrackStatus):
            session.tracks[message.receiver_index] = message
            if not session.listening:
                return  # the next bot is told the newest status of each track
        self._tell_bot(session, message)

    def worker_gone(self, worker: WorkerHandle) -> None:
        """A worker process ended: its callers may come to another, those still dialling anew."""
        for session_id in list(worker.sessions):
            session = self._known.get(session_id)
            if session is not None and session.was_connected and not session.over:
                self.strand(session, worker.reason)
            elif session is not None:
                self.close(session, worker.reason)

    def strand(self, session: Session, reason: str) -> None:
        """Its worker does not carry it any more: its caller may come to another."""
        session.worker.sessions.discard(session.id)
        session.homeless = True
        session.stranded |= session.attached
        session.attached = False
        self._attachments.unlink(session)
        if session.leg != "lost":
            self._leg_changed(session, LegState(session=session.id, state="lost", reason=reason))
        self._set_deadline(session, self._settings.resume_s, reason)
        if session.websocket is not None:
            self.keep(session, self._dialling.again(session))

    def _leg_changed(self, session: Session, message: LegState) -> None:
        before, session.leg = session.leg, message.state
        log.info("leg", session=session.id, state=message.state)
        if session.placed and session.listening:
            self._tell_bot(session, message)
        if message.state == "connecting":
            self._set_deadline(session, session.connect_s, session.unreached)
        elif message.state == "connected":
            self._known.forget_former(session)
            kept = [told for told in session.kept if not isinstance(told, Disconnected)]
            session.kept = deque(kept, maxlen=MAX_KEPT)
            if session.leaving:
                self.close(session, session.leaving)
            elif session.stranded:  # it comes for its rings before the call goes on
                self._set_deadline(session, self._settings.bot_stall_s, "bot_stalled")
            elif session.listening:
                self._go_live(session)
        elif message.state == "lost" and before != "lost":  # once, if it never came back in
            if not session.was_connected:
                self.close(session, session.unreached)
                return
            self._interrupt(session)
            reason = message.reason or "lost"
            self._tell_bot(session, Disconnected(session=session.id, reason=reason))
            resume_s = session.resume_s or self._settings.resume_s
            self._set_deadline(session, resume_s, "lost")
        elif message.state == "closed":
            self._tell_bot(session, Disconnected(session=session.id, reason=message.reason))
            self.close(session, message.reason)

    # -- states ---------------------------------------------------------------------------

    def _go_live(self, session: Session) -> None:
        self._set_deadline(session, None, "")
        if session.state is State.LIVE:
            return  # the caller came back on a new connection before anybody missed it
        self._move(session, State.LIVE)
        self._tell_bot(session, Connected(session=session.id, resumed=session.was_connected))
        session.was_connected = True

    def _interrupt(self, session: Session) -> None:
        if session.state is State.LIVE:
            self._move(session, State.INTERRUPTED)

    def _move(self, session: Session, state: State) -> None:
        if session.state is state:
            return
        if state not in TRANSITIONS[session.state]:
            raise StateError(f"a session does not go from {session.state.value} to {state.value}")
        log.info("session", session=session.id, state=state.value, reason=session.reason)
        session.state = state

    def _set_deadline(self, session: Session, after_s: float | None, reason: str) -> None:
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
        self._set_deadline(session, None, "")
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
