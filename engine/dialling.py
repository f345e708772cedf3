"""Sessions whose caller is a WebSocket server that the engine has a worker dial.

The bot names the server. A worker that dies takes the connection with it: another one dials
the same server for the same session, whatever the bot has said about reconnecting.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from ipc.errors import BackbeatError, BotGone, SessionClosed, WorkerDied
from ipc.messages import Dial, Dialled, OpenWebsocket
from ipc.wire import check_data

if TYPE_CHECKING:
    from engine.attachments import Attachments
    from engine.bots import BotHandle
    from engine.moving import Moving
    from engine.session import Session
    from engine.sessions import Sessions
    from engine.supervisor import Supervisor

log = structlog.get_logger(__name__)

# Beyond the time that the server has: the worker may be busy with its beat.
GRACE_S = 2.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


class Dialling:
    """Places sessions with servers, and keeps them when a worker dies."""

    def __init__(
        self, sessions: Sessions, attachments: Attachments, moving: Moving, supervisor: Supervisor
    ) -> None:
        self._sessions = sessions
        self._attachments = attachments
        self._moving = moving
        self._supervisor = supervisor

    async def open(self, bot: BotHandle, message: OpenWebsocket) -> Dialled:
        """Dial for a bot. Raises DialFailed, NoWorker, WorkerError, Overloaded."""
        check_data(message.request_data)
        websocket = message.websocket
        session = self._sessions.add(
            bot,
            message.request_data,
            connect_s=websocket.open_timeout_s + 2 * GRACE_S,
            placed=True,
            transport="websocket",
            websocket=websocket,
        )
        self._attachments.assign(session, bot)
        session.listening = True
        self._sessions.begin(session)
        try:
            dialled = await self._dial(session)
            if session.over:
                raise SessionClosed(f"the session ended: {session.reason}")
            if bot.gone:
                raise BotGone(f"bot {bot.name} went away while it placed a session")
        except BaseException as error:
            self._sessions.close(
                session, error.code if isinstance(error, BackbeatError) else "dial_failed"
            )
            raise
        return dialled

    async def again(self, session: Session) -> None:
        """Its worker is gone: have another one dial, until the session's time is over."""
        pause_s = FIRST_PAUSE_S
        while not session.over:
            try:
                await self._moving.move(session, lambda: self._dial(session))
            except BackbeatError as error:
                log.warning("dial_again", session=session.id, code=error.code)
                if not error.retryable:
                    self._sessions.fail(session, error)
                    return
            else:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _dial(self, session: Session) -> Dialled:
        assert session.websocket is not None  # noqa: S101 - the caller looked
        dialled = await self._supervisor.request(
            session.worker,
            Dial(session=session.id, websocket=session.websocket),
            timeout_s=session.websocket.open_timeout_s + GRACE_S,
        )
        if not isinstance(dialled, Dialled):
            raise WorkerDied("the worker's reply tells of no connection")
        return dialled
