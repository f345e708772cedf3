"""One connection of a bot process to one engine, from hello to the end of either.

Owns the line, the bell, the streams of workers, and the tasks of the sessions it brought.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import zmq

from engine.sdk.media import Media, SegmentMedia, StreamMedia
from engine.sdk.placing import Placing
from engine.sdk.session import Session
from engine.sdk.websocket import WebsocketSession
from ipc import bell, life
from ipc.channel import Channel
from ipc.errors import (
    AlreadyAttached,
    AuthError,
    BackbeatError,
    BotError,
    BotRejected,
    ConfigError,
    ProtocolError,
    UnknownMessage,
)
from ipc.media_stream import StreamLink
from ipc.messages import (
    AppMessage,
    Beat,
    Connected,
    Dialled,
    Disconnected,
    Goodbye,
    LegState,
    MediaMoved,
    Message,
    OfferSession,
    Ok,
    OpenMedia,
    Placed,
    RawMessage,
    SessionClosed,
    TrackStatus,
    Welcome,
)
from ipc.sockets import Context, check_endpoint, open_socket

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from engine.sdk.bot import Bot

log = logging.getLogger("backbeat.bot")

HELLO_DEADLINE_S = 3.0
ENGINE_SILENT_S = 2.0
MISSED_BEATS = 4
SETTLE_S = 5.0
AnySession = TypeVar("AnySession", bound=Session)


class Registration:
    """One connection to one engine, from hello to the end of either."""

    def __init__(self, bot: Bot, endpoint: str, token: str, stopping: asyncio.Event) -> None:
        self._bot = bot
        self._stopping = stopping
        self._token = token
        self._endpoint = endpoint
        self._directory = Path(endpoint.removeprefix("ipc://")).parent
        check_endpoint(endpoint)
        self._context: Context = zmq.Context()
        self._channel = Channel(
            open_socket(self._context, zmq.DEALER, connect=endpoint),
            on_request=self._on_request,
            on_notify=self._on_notify,
        )
        self._bell: bell.Bell | None = None
        self._links: dict[str, StreamLink] = {}
        self._serving: dict[str, asyncio.Task[None]] = {}
        self.placing = Placing(self._channel, self._placed, self._dialled, self._tell)
        self._engine_gone = asyncio.Event()
        self._beating: asyncio.TimerHandle | None = None
        self._beat_s = 0.25
        self._heard_s = 0.0
        self._unanswered = 0

    async def serve(self) -> None:
        """Stay registered until the bot stops or the engine is gone."""
        reason = "bot_stopped"
        try:
            welcome = await self._say_hello()
        except (AuthError, ConfigError, ProtocolError):
            await self._close(reason)
            raise
        except BackbeatError:
            log.warning("no engine answers at %s; trying again", self._endpoint)
            await self._close(reason)
            return
        self._beat_s = welcome.beat_ms / 1000
        self._heard()
        self._beat()
        try:
            await self._until_over()
            if self._engine_gone.is_set():
                reason = "engine_gone"
                log.warning("the engine is gone; waiting for the next one")
        finally:
            await self._close(reason)

    async def _until_over(self) -> None:
        ends = (self._stopping, self._engine_gone)
        waits = [asyncio.create_task(end.wait(), name="end of bot") for end in ends]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _say_hello(self) -> Welcome:
        hello = self._bot._hello
        hello.token = self._token
        hello.pid = os.getpid()
        hello.started = life.started(hello.pid)
        if hello.media == "shm":
            hello.bell = bell.new_name()
            path = bell.path_of(self._directory, hello.bell)
            try:
                self._bell = bell.Bell(path, self._rung)
            except ConfigError as error:
                raise BotError("the engine's directory is gone", code=error.code) from error
        welcome = await self._channel.request(hello, timeout_s=HELLO_DEADLINE_S)
        if not isinstance(welcome, Welcome):
            raise BotError("the engine's answer to hello is no welcome")
        log.info("registered as %s with engine %s", self._bot.name, welcome.engine)
        self._bot._registration = self
        self._bot.registered.set()
        return welcome

    def _beat(self) -> None:
        """Every beat, straight from the timer: a busy loop must not need more turns for it."""
        loop = asyncio.get_running_loop()
        self._unanswered += 1
        silent_s = loop.time() - self._heard_s
        # Not while this loop was blocked: several beats must have had the chance of an answer.
        if silent_s > ENGINE_SILENT_S and self._unanswered > MISSED_BEATS:
            self._engine_gone.set()
            return
        now_ns = time.monotonic_ns()
        self._channel.notify(Beat(number=self._unanswered))
        for session in self._bot.sessions.values():
            session.beat(now_ns)
        self._beating = loop.call_later(self._beat_s, self._beat)

    def _heard(self) -> None:
        self._heard_s = asyncio.get_running_loop().time()
        self._unanswered = 0

    async def _close(self, reason: str) -> None:
        if self._beating is not None:
            self._beating.cancel()
        if self._bot._registration is self:
            self._bot._registration = None
        await self.placing.close()
        for session in list(self._bot.sessions.values()):
            session.ended(reason)
        if self._serving:
            await asyncio.wait(self._serving.values(), timeout=SETTLE_S)
        for task in self._serving.values():
            task.cancel()
        await asyncio.gather(*self._serving.values(), return_exceptions=True)
        # Also to an engine that seems to be gone: if it only stalled, it forgets us at once.
        self._channel.notify(Goodbye())
        for link in self._links.values():
            link.close()
        if self._bell is not None:
            self._bell.close()
        await self._channel.close()
        self._context.term()

    def _rung(self) -> None:
        for session in self._bot.sessions.values():
            session.look()

    # -- what the engine says ---------------------------------------------------------------

    async def _on_request(self, _peer: bytes, message: Message) -> Message:
        if not isinstance(message, OfferSession):
            raise UnknownMessage(f"a bot does not answer {type(message).__name__}")
        bot = self._bot
        if self._stopping.is_set():
            raise BotRejected("the bot is stopping")
        known = bot.sessions.get(message.session)
        if known is not None:
            if not known.awaits_media:
                raise AlreadyAttached("the bot serves this session already")
            if message.media != "messages":
                known.attach(self._attach(message, known))
            elif isinstance(known, WebsocketSession):
                known.attach_messages(message, self._link(message.endpoint))
            return Ok()
        if bot._handler is None:
            raise BotRejected("the bot takes no sessions, it only places them")
        session = self._new_session(
            message.session,
            message.request_data,
            message.pc_id,
            Session,
            resumed=message.resumed,
            transport=message.transport,
        )
        session.attach(self._attach(message, session))
        self._keep(session, self._serve(session))
        return Ok()

    def _new_session(
        self,
        session_id: str,
        request_data: Any,
        pc_id: str,
        kind: type[AnySession],
        *,
        resumed: bool = False,
        transport: Literal["webrtc", "websocket"] = "webrtc",
    ) -> AnySession:
        hello = self._bot._hello
        return kind(
            session_id,
            self._channel,
            request_data,
            resumed=resumed,
            transport=transport,
            codec=hello.codec,
            pc_id=pc_id,
            shape=OpenMedia(
                session=session_id,
                mic_hz=hello.mic_hz,
                speaker_hz=hello.speaker_hz,
                mic_channels=hello.mic_channels,
                speaker_channels=hello.speaker_channels,
                codec=hello.codec,
            ),
        )

    def _placed(self, reply: Placed, request_data: Any) -> Session:
        session = self._new_session(reply.session, request_data, reply.pc_id, Session)
        self._keep(session, self._accompany(session))
        return session

    def _dialled(self, reply: Dialled, request_data: Any) -> WebsocketSession:
        session = self._new_session(
            reply.session, request_data, "", WebsocketSession, transport="websocket"
        )
        self._keep(session, self._accompany(session))
        return session

    def _keep(self, session: Session, work: Coroutine[Any, Any, None]) -> None:
        self._bot.sessions[session.id] = session
        task = asyncio.create_task(work, name=f"session {session.id[:12]}")
        self._serving[session.id] = task

    def _attach(self, offer: OfferSession, session: Session) -> Media:
        if offer.media == "shm":
            return SegmentMedia(offer)
        link = self._link(offer.endpoint)
        return StreamMedia(offer, link, on_change=session.look, on_retry=session.retry)

    def _link(self, endpoint: str) -> StreamLink:
        link = self._links.get(endpoint)
        if link is None:
            link = self._links[endpoint] = StreamLink(self._context, endpoint)
        return link

    async def _serve(self, session: Session) -> None:
        bot = self._bot
        reason = "bot_done"
        try:
            await bot.handle(session)
        except Exception as error:
            if not session.closed:
                reason = "bot_error"
                log.exception("the handler of session %s failed", session.id)
            elif not isinstance(error, BackbeatError):
                log.exception("the handler of session %s failed at its end", session.id)
        finally:
            with contextlib.suppress(BackbeatError):
                await session.close(reason)
            session.ended(reason)
            await session.settle(SETTLE_S)
            self._let_go(session)

    async def _accompany(self, session: Session) -> None:
        """Keep a session that the bot has placed until it is over and what was said is heard."""
        try:
            await session.wait_closed()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    await session.wait_heard()
        finally:
            await session.settle(SETTLE_S)
            self._let_go(session)

    def _let_go(self, session: Session) -> None:
        self._bot.sessions.pop(session.id, None)
        self._serving.pop(session.id, None)
        session.detach()
        self._drop_idle_links()

    def _drop_idle_links(self) -> None:
        for endpoint, link in list(self._links.items()):
            if link.idle:
                del self._links[endpoint]
                link.close()

    def _on_notify(self, _peer: bytes, message: Message) -> None:
        self._heard()
        if isinstance(message, Beat):
            return
        if isinstance(message, Goodbye):
            self._engine_gone.set()
            return
        session_id: Any = getattr(message, "session", None)
        session = self._bot.sessions.get(session_id)
        if session is None:  # it ended here while this was under way, or is being placed
            self.placing.early(message)
        else:
            self._tell(session, message)

    def _tell(self, session: Session, message: Message) -> None:
        if isinstance(message, Connected):
            session.caller_connected(message.resumed)
        elif isinstance(message, Disconnected):
            session.caller_disconnected(message.reason)
        elif isinstance(message, AppMessage):
            data = _read(message.data) if message.unread else message.data
            session.message_arrived(data, message.cursor)
        elif isinstance(message, TrackStatus):
            session.track_changed(message.receiver_index, message.enabled, message.cursor)
        elif isinstance(message, LegState):
            if isinstance(session, WebsocketSession):
                session.leg_changed(message)
            session.peer_changed(message.state)
        elif isinstance(message, RawMessage):
            if isinstance(session, WebsocketSession):
                data = message.data
                session.raw_arrived(data.decode() if message.text else data, message.cursor)
        elif isinstance(message, MediaMoved):
            session.media_moved()
        elif isinstance(message, SessionClosed):
            session.ended(message.reason)
        else:
            raise UnknownMessage(f"a bot does not take {type(message).__name__}")


def _read(text: str) -> Any:
    """What a text says as JSON, or the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
