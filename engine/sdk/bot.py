"""A bot process: registers with an engine and serves many sessions at once.

Owns the line to the engine, the bell, the streams of workers and every session. When the
engine goes away its sessions end and the bot waits for the next engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

import zmq

from engine.sdk.media import Media, SegmentMedia, StreamMedia
from engine.sdk.session import Session
from ipc import bell, life, runtime_dir
from ipc.audio_ring import RingSpec
from ipc.channel import Channel
from ipc.codec import Application, Codec
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
    Disconnected,
    Goodbye,
    Hello,
    Message,
    OfferSession,
    Ok,
    SessionClosed,
    TrackStatus,
    Welcome,
)
from ipc.sockets import Context, check_endpoint, open_socket

log = logging.getLogger("backbeat.bot")

# Set while a bot's file is loaded by somebody who will run the bot.
loading: ContextVar[bool] = ContextVar("loading", default=False)
SessionHandler = Callable[[Session], Awaitable[object] | object]
HELLO_DEADLINE_S = 3.0
ENGINE_SILENT_S = 2.0
MISSED_BEATS = 4
RETRY_S = 0.25
SETTLE_S = 5.0
PARENT_GRACE_S = 2.0


class Bot:
    """A named bot with room for `capacity` sessions at once.

    Rates are in Hz, one of 8000, 12000, 16000, 24000, 48000. `media="zmq"` carries samples
    over ZeroMQ instead of shared memory. `bitrate_bps` and what follows it are those of
    `ipc.codec.Codec`: how the speech is encoded. Two speaker channels are sent as stereo to
    callers who play it (their SDP says `stereo=1`), mixed down to others. Raises ConfigError
    for what no engine would take.
    """

    def __init__(
        self,
        name: str = "bot",
        *,
        capacity: int = 10,
        mic_hz: int = 48_000,
        speaker_hz: int = 48_000,
        mic_channels: int = 1,
        speaker_channels: int = 1,
        media: Literal["shm", "zmq"] = "shm",
        bitrate_bps: int = 48_000,
        complexity: int = 5,
        application: Application = "lowdelay",
        fec: bool = False,
        expected_loss_percent: int = 0,
        dtx: bool = False,
    ) -> None:
        self.name = name
        RingSpec(
            key=bytes(16),
            epoch=0,
            mic_hz=mic_hz,
            speaker_hz=speaker_hz,
            mic_channels=mic_channels,
            speaker_channels=speaker_channels,
        )  # refuses what no engine would take
        self._hello = Hello(
            name=name,
            capacity=capacity,
            mic_hz=mic_hz,
            speaker_hz=speaker_hz,
            mic_channels=mic_channels,
            speaker_channels=speaker_channels,
            media=media,
            codec=Codec(
                bitrate_bps=bitrate_bps,
                complexity=complexity,
                application=application,
                fec=fec,
                expected_loss_percent=expected_loss_percent,
                dtx=dtx,
            ),
            pid=os.getpid(),
        )
        self._handler: SessionHandler | None = None
        self._stopping: asyncio.Event | None = None
        self.registered: asyncio.Event | None = None
        self.sessions: dict[str, Session] = {}

    def session(self, handler: SessionHandler) -> SessionHandler:
        """Decorator: `handler(session)` is called for each call.

        When an async handler returns, the call ends. A sync one sets up event handlers, and
        the call goes on until somebody closes it.
        """
        if self._handler is not None:
            raise ConfigError("a bot has one session handler; make another Bot for the other")
        self._handler = handler
        return handler

    def run(
        self, endpoint: str | None = None, *, token: str | None = None, parent: int | None = None
    ) -> None:
        """Serve until Ctrl-C or SIGTERM. Without `endpoint` the engine of this machine is found.

        `parent` is the descriptor of the process to end with. In a file that the engine or the
        command `bot` loads, the call does nothing: they run the bot themselves.
        """
        if loading.get():
            return
        logging.basicConfig(
            level=logging.INFO, format=f"%(asctime)s bot {self.name} %(levelname)s: %(message)s"
        )
        with asyncio.Runner() as runner:
            runner.run(self._run(endpoint, token, parent))

    async def _run(self, endpoint: str | None, token: str | None, parent: int | None) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        if parent is None:
            loop.add_signal_handler(signal.SIGINT, self.stop)
        else:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

            def engine_gone() -> None:
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(self.stop)

            life.end_with_parent(parent, engine_gone, PARENT_GRACE_S)
        await self.serve(endpoint, token=token)

    async def serve(self, endpoint: str | None = None, *, token: str | None = None) -> None:
        """Serve on the running loop until `stop`. Raises ConfigError and AuthError."""
        if self._handler is None and self._hello.capacity > 0:
            raise ConfigError("the bot has no handler: decorate one with @bot.session")
        stopping = self._stopping = asyncio.Event()
        self.registered = asyncio.Event()
        token = token if token is not None else os.environ.get("BACKBEAT_BOT_TOKEN", "")
        told = False
        while not stopping.is_set():
            found = _resolve(endpoint)
            if found is not None:
                told = False
                await _Registration(self, found, token, stopping).serve()
                self.registered.clear()
            elif not told:
                told = True
                log.info(
                    "no engine serves in %s; waiting for one (or name another with --connect, "
                    "BACKBEAT_ENDPOINT or BACKBEAT_RUNTIME_DIR)",
                    _directory(endpoint),
                )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), RETRY_S)

    def stop(self) -> None:
        """End `run` or `serve`: the calls end, the engine is told."""
        if self._stopping is not None:
            self._stopping.set()

    async def handle(self, session: Session) -> None:
        """Run the handler of one session, to its end."""
        assert self._handler is not None  # noqa: S101 - serve looked
        result = self._handler(session)
        if inspect.isawaitable(result):
            await result
        else:
            await session.wait_closed()


class _Registration:
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
                self._bell = bell.Bell(self._context, path, self._rung)
            except ConfigError as error:
                raise BotError("the engine's directory is gone", code=error.code) from error
        welcome = await self._channel.request(hello, timeout_s=HELLO_DEADLINE_S)
        if not isinstance(welcome, Welcome):
            raise BotError("the engine's answer to hello is no welcome")
        log.info("registered as %s with engine %s", self._bot.name, welcome.engine)
        assert self._bot.registered is not None  # noqa: S101 - serve made it
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
        if message.session in bot.sessions:
            raise AlreadyAttached("the bot serves this session already")
        session = Session(
            message.session,
            self._channel,
            message.request_data,
            resumed=message.resumed,
            codec=bot._hello.codec,
        )
        session.attach(self._attach(message, session))
        bot.sessions[session.id] = session
        task = asyncio.create_task(self._serve(session), name=f"session {session.id[:12]}")
        self._serving[session.id] = task
        return Ok()

    def _attach(self, offer: OfferSession, session: Session) -> Media:
        if offer.media == "shm":
            return SegmentMedia(offer)
        link = self._links.get(offer.endpoint)
        if link is None:
            link = self._links[offer.endpoint] = StreamLink(self._context, offer.endpoint)
        return StreamMedia(offer, link, on_change=session.look, on_retry=session.retry)

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
            bot.sessions.pop(session.id, None)
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
        if session is None:
            return  # it ended here while this was under way
        if isinstance(message, Connected):
            session.caller_connected(message.resumed)
        elif isinstance(message, Disconnected):
            session.caller_disconnected(message.reason)
        elif isinstance(message, AppMessage):
            session.message_arrived(message.data, message.cursor)
        elif isinstance(message, TrackStatus):
            session.track_changed(message.receiver_index, message.enabled, message.cursor)
        elif isinstance(message, SessionClosed):
            session.ended(message.reason)
        else:
            raise UnknownMessage(f"a bot does not take {type(message).__name__}")


def _directory(endpoint: str | None) -> Path:
    """Where an engine was looked for."""
    endpoint = endpoint or os.environ.get("BACKBEAT_ENDPOINT")
    if endpoint is None:
        return runtime_dir.default_path()
    return Path(endpoint.removeprefix("ipc://")).parent.parent


def _resolve(endpoint: str | None) -> str | None:
    """The endpoint to say hello at, or None while no engine is there.

    An endpoint names an engine instance; a restarted engine is a new instance in the same
    runtime directory.
    """
    endpoint = endpoint or os.environ.get("BACKBEAT_ENDPOINT")
    if endpoint is None:
        return runtime_dir.current_endpoint()
    directory = Path(endpoint.removeprefix("ipc://")).parent
    if runtime_dir.ENGINE_ID_PATTERN.fullmatch(directory.name):
        return runtime_dir.current_endpoint(directory.parent)
    return endpoint
