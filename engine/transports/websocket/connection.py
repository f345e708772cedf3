"""The life of one connection to a WebSocket server: dialled, counted by its users, told of.

Knows nothing of what is sent over it but for when that begins and ends.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from engine.transports.home import Home
from engine.transports.websocket.server import Server
from ipc.errors import BackbeatError, SessionClosed, StateError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.sdk import WebsocketSession
    from engine.transports.base.session_audio import SessionAudio
    from engine.transports.processors import BaseTaskManager
    from engine.transports.websocket.message_speech import MessageSpeech
    from engine.transports.websocket.params import (
        WebsocketClientCallbacks,
        WebsocketClientParams,
    )

log = logging.getLogger(__name__)

# How long an end waits for the engine to say that it is one.
END_S = 2.0
# A server that reads nothing is given up so long before a write counts as stuck.
STALL_S, MIN_STALL_S, GIVE_UP_EARLY_S = 10.0, 0.5, 1.0
# Another worker dials again for these, whatever was asked for.
WORKER_FAULTS = {"worker_died", "worker_stalled"}
# Ends that somebody wanted.
POLITE = {"server_left", "server_closed", "bot_closed"}


class Connection:
    """A connection to the server at `uri`.

    `setup`, then `connect` by each user; the last `disconnect` ends it. After its end, whoever
    ended it, `connect` dials anew.
    """

    def __init__(
        self,
        uri: str,
        params: WebsocketClientParams,
        callbacks: WebsocketClientCallbacks,
        transport_name: str,
    ) -> None:
        self._uri = uri
        self._params = params
        self._callbacks = callbacks
        self._name = f"{transport_name}::{type(self).__name__}"
        self._task_manager: BaseTaskManager | None = None
        self._users = self._waiting = 0
        self._dialling: asyncio.Task[None] | None = None
        # One at a time dials or ends.
        self._changing = asyncio.Lock()
        self._home: Home | None = None
        self._session: WebsocketSession | None = None
        self._server: Server | None = None
        # The one that was ended from here.
        self._left: WebsocketSession | None = None
        self._closing = False
        # Whether it is being dialled again, and whether what was queued for it went, too.
        self._lost = self._away = False
        self._telling: list[asyncio.Task[Any]] = []
        self._audio: SessionAudio | None = None
        # What stands for the session's speech where a serializer runs here.
        self._speech: MessageSpeech | None = None
        self._media_open = asyncio.Event()

    def __str__(self) -> str:
        return self._name

    # -- what it is ---------------------------------------------------------------------------

    @property
    def task_manager(self) -> BaseTaskManager:
        """Who owns its tasks. Raises StateError(`not_set_up`) before `setup`."""
        if self._task_manager is None:
            raise StateError(f"{self} is not set up yet", code="not_set_up")
        return self._task_manager

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open."""
        return self._session is not None and self._is_live and self._session.connected

    @property
    def is_closing(self) -> bool:
        """Whether the connection is being ended from here."""
        return self._closing

    @property
    def session(self) -> WebsocketSession | None:
        """The session of the bot SDK beneath, for statistics and settings; None without one."""
        return self._session

    @property
    def fault(self) -> str:
        """Why the last connection ended, such as `slow_reader`; empty when somebody wanted it."""
        reason = self._session.close_reason if self._session is not None else ""
        return "" if reason in POLITE else reason

    @property
    def _is_live(self) -> bool:
        session = self._session
        return session is not None and not session.closed and session is not self._left

    # -- life ---------------------------------------------------------------------------------

    async def setup(self, task_manager: BaseTaskManager) -> None:
        """Take `task_manager` for its tasks; while there is a connection, that of before counts."""
        if self._task_manager is None or not self._is_live:
            self._task_manager = task_manager

    async def connect(self) -> None:
        """Dial the server; what a second user does is only counted.

        Raises DialFailed (`dial_timeout`, `dial_refused` …), ConfigError, NoWorker, Overloaded,
        BotError(`no_engine`); it may then be tried again. StateError before `setup`.
        """
        manager = self.task_manager
        if self._dialling is None and not self._is_live:
            self._dialling = asyncio.create_task(self._dial(manager), name=f"{self} dials")
            self._dialling.add_done_callback(self._dialled)
        self._waiting += 1
        try:
            if self._dialling is not None:
                await asyncio.shield(self._dialling)
            await self._announced()
        except asyncio.CancelledError:
            if self._waiting == 1 and not self._users:
                await self._abandon()
            raise
        else:
            self._users += 1
        finally:
            self._waiting -= 1

    async def disconnect(self) -> None:
        """One user less; the last one ends it, and nothing more is told.

        Safe to call more often than `connect`.
        """
        if not self._users:
            return
        self._users -= 1
        if not self._users:
            await self._end()

    async def _dial(self, manager: BaseTaskManager) -> None:
        async with self._changing:
            await self._forget()
            home = await Home.acquire()
            try:
                bot = await home.bot()
                session = await bot.open_websocket(self._uri, **self._options())
            except BaseException:
                home.release()
                raise
            server = Server(session, self._uri, self._params.additional_headers or {})
            self._home, self._session, self._server = home, session, server
            self._lost = self._away = False
            self._media_open.clear()
            session.on("disconnected", self._server_gone)
            session.on("connected", self._server_came)
            telling = (
                (self._tell(self._callbacks.on_connected, server), "connected"),
                (self._tell_all(session, server), "messages"),
            )
            self._telling = [manager.create_task(work, f"{self}::{what}") for work, what in telling]

    def _options(self) -> dict[str, Any]:
        """How the server is dialled, for `Bot.open_websocket`."""
        params = self._params
        patience_s = params.audio_out_write_timeout_secs - GIVE_UP_EARLY_S
        return {
            "serializer": None,
            "headers": params.additional_headers or {},
            "subprotocols": params.subprotocols,
            "compression": params.compression,
            "max_message_bytes": params.max_message_bytes,
            "open_timeout_s": params.open_timeout_secs,
            "stall_s": min(STALL_S, max(MIN_STALL_S, patience_s)),
            "lead_ms": params.wire_lead_ms,
            "reconnect": params.reconnect,
        }

    def _dialled(self, dialling: asyncio.Task[None]) -> None:
        self._dialling = None
        if not dialling.cancelled():
            dialling.exception()  # whoever waits has it; nobody may

    async def _announced(self) -> None:
        """Return when `on_connected` was told."""
        telling = self._telling[0] if self._telling else None
        if telling is not None and telling is not asyncio.current_task():
            await asyncio.wait((telling,))

    async def _abandon(self) -> None:
        """Nobody waits for the connection any more."""
        dialling = self._dialling
        if dialling is not None:
            dialling.cancel()
            await asyncio.wait((dialling,))
        await self._end()

    async def _end(self) -> None:
        async with self._changing:
            session = self._session
            if session is None:
                return
            self._left, self._closing = session, True
            try:
                for telling in self._telling:
                    if telling is not asyncio.current_task():
                        await self.task_manager.cancel_task(telling)
                async with asyncio.timeout(END_S):
                    await session.close("bot_closed")
                    await session.wait_closed()
            except SessionClosed:
                pass
            except (BackbeatError, TimeoutError) as error:
                log.warning("%s did not end politely: %s", self, error)
            finally:
                await self._forget()
                self._closing = False

    async def _forget(self) -> None:
        """Nobody needs to disconnect from what has ended."""
        self._users = 0
        home, self._home = self._home, None
        audio, self._audio = self._audio, None
        speech, self._speech = self._speech, None
        self._media_open.set()
        if home is not None:
            home.release()
        if audio is not None:
            await audio.close()
        if speech is not None:
            await speech.close()

    # -- telling ------------------------------------------------------------------------------

    async def _tell_all(self, session: WebsocketSession, server: Server) -> None:
        """Its messages, one after the other, and its end."""
        async for message in session.raw_messages():
            await self._tell(self._callbacks.on_message, server, message)
        if session is self._session and session is not self._left:
            await self._forget()
            await self._tell(self._callbacks.on_disconnected, server)

    async def _tell(self, callback: Callable[..., Awaitable[None]] | None, *what: Any) -> None:
        if callback is None:
            return
        try:
            await callback(*what)
        except Exception:
            log.exception("%s: a callback failed", self)

    async def _server_gone(self, reason: str) -> None:
        returns = self._params.reconnect or reason in WORKER_FAULTS
        if self._lost or self._closing or not returns:
            return  # its end follows
        self._lost = True
        # A worker's death loses nothing: what is queued goes on at the next one.
        self._away = reason not in WORKER_FAULTS
        if self._away and self._audio is not None:
            self._audio.drop()
        await self._tell(self._callbacks.on_reconnecting, self._server)

    async def _server_came(self, resumed: bool) -> None:
        self._lost = self._away = False
        if self._audio is not None:
            self._audio.changed()
        if resumed:
            await self._tell(self._callbacks.on_reconnected, self._server)
