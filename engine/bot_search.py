"""Which bot a session has: one after the other is offered it, and when it goes, the next.

How a bot attaches is the business of `engine.attachments`; what it hears then, of
`engine.sessions`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from ipc.errors import BackbeatError, NoBot

if TYPE_CHECKING:
    from engine.attachments import Attachments
    from engine.bots import BotHandle, Bots
    from engine.config import Settings
    from engine.registry import Registry
    from engine.session import Session
    from engine.sessions import Sessions
    from ipc.messages import RingOpened

log = structlog.get_logger(__name__)

RETRY_S = 0.2


class BotSearch:
    """Finds bots for sessions. Everything runs in tasks that the session ends."""

    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        attachments: Attachments,
        bots: Bots,
        known: Registry,
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._attachments = attachments
        self._bots = bots
        self._known = known

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
                    self._sessions.bot_attached(session, bot)
                    return
                rings = None
                self._attachments.assign(session, self._bots.choose(session.bot_name, tried))
        except NoBot:
            self._sessions.close(session, "no_bot")
        except BackbeatError as error:
            self._sessions.fail(session, error)

    def gone(self, bot: BotHandle, reason: str) -> None:
        """A bot process ended: hold its calls for the next one of that name, unless it said so."""
        for session_id in [*bot.sessions, *bot.placed]:
            session = self._known.get(session_id)
            # A session that is being offered to it hears of it by the failing offer.
            if session is None or not (session.listening or session.placed):
                continue
            # Nobody else speaks for a caller whom a bot without room of its own has placed.
            alone = session.placed and not (bot.hello.capacity and session.was_attached)
            if reason == "bot_left" or alone:
                self._sessions.close(session, reason)
                continue
            self._sessions.interrupt(session)
            session.listening = session.attached = session.stranded = session.placed = False
            session.bot = None
            log.warning("session_without_bot", session=session.id, reason=reason)
            self._sessions.keep(session, self._reattach(session))

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
                        self._sessions.bot_attached(session, bot)
                        return
                await asyncio.sleep(RETRY_S)
        except NoBot:
            self._sessions.close(session, "bot_gone")
        except BackbeatError as error:
            self._sessions.fail(session, error)
