"""How a session gets its bot: rings made by the worker, offered to a bot, attached by it.

The mechanism; which bot is asked, how often and for how long is decided in `engine.bot_search`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import structlog

from engine.supervisor import WorkerState
from ipc import segment
from ipc.errors import BackbeatError, BotError, BotGone, WorkerDied, WorkerError
from ipc.messages import (
    DropRing,
    Hello,
    OfferSession,
    OpenMedia,
    OpenRing,
    RingAttached,
    RingOpened,
    SessionClosed,
)

if TYPE_CHECKING:
    from engine.bots import BotHandle, Bots
    from engine.config import Settings
    from engine.session import Session
    from engine.supervisor import Supervisor

log = structlog.get_logger(__name__)


class Attachments:
    """Attaches bots to sessions."""

    def __init__(
        self, settings: Settings, engine_id: str, supervisor: Supervisor, bots: Bots
    ) -> None:
        self._settings = settings
        self._engine_id = engine_id
        self._supervisor = supervisor
        self._bots = bots

    def assign(self, session: Session, bot: BotHandle) -> None:
        """Keep a place at this bot for the session."""
        session.bot = bot
        (bot.placed if session.placed else bot.sessions).add(session.id)

    def release(self, session: Session) -> None:
        """Give the session's place at its bot back."""
        bot, session.bot = session.bot, None
        session.attached = session.listening = session.stranded = False
        if bot is not None:
            self._bots.released(bot, session.id)

    async def attach(self, session: Session, bot: BotHandle, rings: RingOpened | None) -> bool:
        """Offer the session to this bot; False, and nothing left of it, when it does not come.

        Nor can it come when the session has another worker, or none, by then.
        """
        worker = session.worker
        try:
            await self._offer_to(session, bot, rings or await self.open_rings(session, bot))
        except (BotError, WorkerError) as error:
            stays = session.worker is worker and not session.lost_worker
            if isinstance(error, WorkerError) and stays:
                raise
            log.warning("bot_did_not_attach", session=session.id, reason=error.message)
            # A bot that was only slow must not serve a session that others have.
            self._bots.notify(bot, SessionClosed(session=session.id, reason="not_attached"))
            self._supervisor.notify(worker, DropRing(session=session.id, epoch=session.epoch))
            self.unlink(session)
            self.release(session)
            return False
        return True

    async def open_media(self, session: Session, bot: BotHandle, wanted: OpenMedia) -> None:
        """Offer a bot rings for a session that it has already.

        Raises BotError, WorkerError, Overloaded, ConfigError, and nothing is left of them.
        """
        try:
            opened = await self.open_rings(session, bot, wanted)
            await self._offer_to(session, bot, opened, wanted)
        except BackbeatError:
            self._supervisor.notify(
                session.worker, DropRing(session=session.id, epoch=session.epoch)
            )
            self.unlink(session)
            raise

    async def open_rings(
        self, session: Session, bot: BotHandle, wanted: OpenMedia | None = None
    ) -> RingOpened:
        """Have the worker make rings in a new epoch, of the shape that the bot wants.

        That of its hello, or one that it has asked for.
        """
        hello, media = bot.hello, _media(bot.hello, wanted)
        session.epoch += 1
        session.segment = segment.new_name(self._engine_id) if media == "shm" else ""
        opened = await self._supervisor.request(
            session.worker,
            OpenRing(
                session=session.id,
                epoch=session.epoch,
                media=media,
                segment=session.segment,
                bell=hello.bell,
                codec=(wanted or hello).codec,
                mic_base=wanted.mic_base if wanted else 0,
                speaker_base=wanted.speaker_base if wanted else 0,
                **_shape(hello, wanted),
            ),
        )
        if not isinstance(opened, RingOpened):
            raise WorkerDied("the worker's reply carries no rings")
        return opened

    async def _offer_to(
        self,
        session: Session,
        bot: BotHandle,
        opened: RingOpened,
        wanted: OpenMedia | None = None,
    ) -> None:
        hello, worker = bot.hello, session.worker
        await self._bots.offer(
            bot,
            OfferSession(
                session=session.id,
                epoch=session.epoch,
                key=bytes.fromhex(session.id[-32:]),
                media=_media(hello, wanted),
                segment=session.segment,
                endpoint=opened.endpoint,
                stream=opened.stream,
                token=opened.token,
                mic_base=opened.mic_base,
                speaker_base=opened.speaker_base,
                speaker_written=opened.speaker_written,
                mic_ms=self._settings.mic_ms,
                speaker_ms=self._settings.speaker_ms,
                resumed=session.was_attached,
                request_data=session.request_data,
                pc_id=session.pc_id,
                transport=session.transport,
                **_shape(hello, wanted),
            ),
        )
        if bot.gone:
            raise BotGone(f"bot {bot.name} went away after it had attached")
        await self._supervisor.request(
            worker, RingAttached(session=session.id, epoch=session.epoch)
        )
        if bot.gone:
            raise BotGone(f"bot {bot.name} went away after it had attached")
        if session.worker is not worker or worker.state is WorkerState.GONE:
            raise WorkerDied(f"worker {worker.name} went away when the bot had attached")
        self.unlink(session)
        session.attached = session.was_attached = True
        log.info("bot_attached", session=session.id, bot=bot.name, epoch=session.epoch)

    def unlink(self, session: Session) -> None:
        """Make sure that no name is left, whatever became of the worker that made it."""
        if session.segment:
            segment.unlink_name(session.segment)
            session.segment = ""


def _media(hello: Hello, wanted: OpenMedia | None) -> Literal["shm", "zmq", "messages"]:
    return "messages" if wanted is not None and wanted.messages else hello.media


def _shape(hello: Hello, wanted: OpenMedia | None) -> dict[str, int]:
    names = ("mic_hz", "speaker_hz", "mic_channels", "speaker_channels")
    return {name: getattr(wanted, name, 0) or getattr(hello, name) for name in names}
