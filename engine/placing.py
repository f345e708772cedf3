"""What bots ask for sessions of their own: place one, answer its caller again, make its rings.

The bot does the signaling: it knows which caller an answer is for. Everything else about such
a session is as for any other, in `engine.sessions`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipc.errors import (
    AlreadyAttached,
    BackbeatError,
    BotError,
    BotGone,
    ConfigError,
    SessionClosed,
    StateError,
    UnknownMessage,
)
from ipc.messages import (
    Candidates,
    Message,
    Ok,
    OpenMedia,
    OpenWebrtc,
    OpenWebsocket,
    Placed,
    Renegotiate,
    SendRaw,
)
from ipc.wire import check_data

if TYPE_CHECKING:
    from engine.attachments import Attachments
    from engine.bots import BotHandle
    from engine.dialling import Dialling
    from engine.session import Session
    from engine.sessions import Sessions

MAX_CONNECT_S = 86_400.0
MAX_ICE_SERVERS = 8
MAX_BASE = 1 << 62
# A bot that has asked for rings may be busy when they come.
TRIES = 4


class Placing:
    """Answers bots about the sessions that they place."""

    def __init__(self, sessions: Sessions, attachments: Attachments, dialling: Dialling) -> None:
        self._sessions = sessions
        self._dialling = dialling
        self._attachments = attachments

    async def request(self, bot: BotHandle, message: Message) -> Message:
        """A request of a bot. Raises UnknownMessage for any other."""
        if isinstance(message, OpenWebrtc):
            return await self._open_webrtc(bot, message)
        if isinstance(message, OpenWebsocket):
            return await self._dialling.open(bot, message)
        if isinstance(message, Renegotiate):
            return await self._renegotiate(self._sessions.of(bot, message.session), message)
        if isinstance(message, Candidates | SendRaw):
            return await self._sessions.tell_worker(
                self._sessions.of(bot, message.session), message
            )
        if isinstance(message, OpenMedia):
            await self._open_media(bot, message)
            return Ok()
        raise UnknownMessage(f"the engine does not answer {type(message).__name__} of a bot")

    async def _open_webrtc(self, bot: BotHandle, message: OpenWebrtc) -> Placed:
        if not 0 < message.connect_s <= MAX_CONNECT_S:
            raise ConfigError(
                f"connect_s is above 0 and up to {MAX_CONNECT_S:g}, not {message.connect_s}",
                code="connect_s",
            )
        if len(message.ice_servers) > MAX_ICE_SERVERS:
            raise ConfigError(f"give at most {MAX_ICE_SERVERS} ICE servers", code="ice_server")
        check_data(message.request_data)
        session = self._sessions.add(
            bot,
            message.request_data,
            ice_servers=message.ice_servers or self._sessions.ice_servers,
            connect_s=message.connect_s,
            placed=True,
        )
        self._attachments.assign(session, bot)
        session.listening = True
        try:
            sdp = await self._sessions.answer(session, message.sdp)
            if session.over:
                raise SessionClosed(f"the session ended: {session.reason}")
            if bot.gone:
                raise BotGone(f"bot {bot.name} went away while it placed a session")
        except BaseException as error:
            self._sessions.close(
                session, error.code if isinstance(error, BackbeatError) else "offer_failed"
            )
            raise
        self._sessions.begin(session)
        return Placed(session=session.id, sdp=sdp, pc_id=session.pc_id)

    async def _renegotiate(self, session: Session, message: Renegotiate) -> Placed:
        if session.over:
            raise SessionClosed(f"the session ended: {session.reason}")
        if session.websocket is not None:
            raise StateError("the session's caller is a WebSocket server", code="websocket")
        sdp = await self._sessions.answer(session, message.sdp, restart=message.restart)
        if message.restart and session.placed and not session.over:
            self._sessions.rename(session)
        return Placed(session=session.id, sdp=sdp, pc_id=session.pc_id)

    async def _open_media(self, bot: BotHandle, message: OpenMedia) -> None:
        if not (0 <= message.mic_base < MAX_BASE and 0 <= message.speaker_base < MAX_BASE):
            raise ConfigError("a ring's base is a cursor of the rings before it")
        session = self._sessions.of(bot, message.session)
        async with session.opening:
            if session.attached or not (session.placed or session.stranded):
                raise AlreadyAttached("the session has its rings, or is about to")
            worker = session.worker
            try:
                await self._attach(session, bot, message)
            except BackbeatError as error:
                moved = session.lost_worker or session.worker is not worker
                if session.stranded and not (bot.gone or moved):
                    self._sessions.fail(session, error)
                raise
            self._sessions.bot_attached(session, bot)

    async def _attach(self, session: Session, bot: BotHandle, message: OpenMedia) -> None:
        for left in reversed(range(TRIES)):
            try:
                await self._attachments.open_media(session, bot, message)
            except BotError:
                if bot.gone or session.over or not left:
                    raise
            else:
                return
