"""A bot process: registers with an engine and serves many sessions at once.

When the engine goes away its sessions end and the bot waits for the next engine; the line to
one engine is `engine.sdk.registration`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engine.sdk.registration import Registration
from engine.sdk.session import Session
from engine.sdk.websocket import proxy_for, wire_of
from ipc import life, runtime_dir
from ipc.audio_ring import RingSpec
from ipc.codec import Application, Codec
from ipc.errors import BotError, ConfigError
from ipc.loop import new_runner
from ipc.messages import Hello, OpenWebrtc, OpenWebsocket
from ipc.websocket import Reconnect, Websocket

if TYPE_CHECKING:
    from engine.sdk.placing import Placed
    from engine.sdk.websocket import WebsocketSession
    from ipc.ice_server import IceServer

log = logging.getLogger("backbeat.bot")

# Set while a bot's file is loaded by somebody who will run the bot.
loading: ContextVar[bool] = ContextVar("loading", default=False)
SessionHandler = Callable[[Session], Awaitable[object] | object]
RETRY_S = 0.25
# What raw PCM comes at as long as nobody says another rate.
RAW_HZ = 16_000
NOT_REGISTERED = (
    "the bot is registered with no engine: run it, such as by asyncio.create_task(bot.serve()), "
    "and await bot.registered.wait()"
)
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
        silence: bool = True,
    ) -> None:
        if not name:
            raise ConfigError(f"a bot has a name that callers ask for, not {name!r}")
        if capacity < 0:
            raise ConfigError(f"capacity is how many calls it takes, 0 or more, not {capacity!r}")
        if media not in ("shm", "zmq"):
            raise ConfigError(f'media is "shm" or "zmq", not {media!r}')
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
                silence=silence,
            ),
            pid=os.getpid(),
        )
        self._handler: SessionHandler | None = None
        self._stopping: asyncio.Event | None = None
        # Set while an engine has the bot: before that it can place no session.
        self.registered = asyncio.Event()
        self.sessions: dict[str, Session] = {}
        self._registration: Registration | None = None

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
        with new_runner() as runner:
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
        self.registered.clear()
        token = token if token is not None else os.environ.get("BACKBEAT_BOT_TOKEN", "")
        told = False
        while not stopping.is_set():
            found = _resolve(endpoint)
            if found is not None:
                told = False
                await Registration(self, found, token, stopping).serve()
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

    async def open_webrtc(
        self,
        sdp: str,
        type: str = "offer",
        *,
        ice_servers: Sequence[IceServer] = (),
        request_data: Any = None,
        connect_s: float = 60.0,
    ) -> Placed:
        """Place a session: answer a caller's SDP offer. The bot must be registered.

        The session is there at once, its rings are not: `session.open_media` makes them. What
        the caller says before is dropped; messages, track status and the states of its
        connection (event `peer`) are kept until somebody listens. It counts for no capacity,
        no handler runs for it, and it ends when the caller has not connected after `connect_s`
        (up to a day). `request_data` is for its statistics and for whoever takes it over.

        Raises NegotiationError, NoWorker, Overloaded, ConfigError, and BotError(`no_engine`).
        """
        if self._registration is None:
            raise BotError(NOT_REGISTERED, code="no_engine")
        offer = OpenWebrtc(
            sdp=sdp, ice_servers=[*ice_servers], request_data=request_data, connect_s=connect_s
        )
        return await self._registration.placing.place(offer, type)

    async def open_websocket(
        self,
        uri: str,
        *,
        serializer: object = "protobuf",
        media: bool = True,
        mic_hz: int | None = None,
        speaker_hz: int | None = None,
        mic_channels: int | None = None,
        speaker_channels: int | None = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        subprotocols: Sequence[str] = (),
        origin: str | None = None,
        out_hz: int = 0,
        out_channels: int = 0,
        chunk_ms: int = 40,
        lead_ms: int | None = None,
        wav_header: bool = False,
        interruptions: bool = True,
        compression: bool = False,
        max_message_bytes: int = 1 << 20,
        open_timeout_s: float = 10.0,
        close_timeout_s: float = 1.0,
        ping_interval_s: float | None = 20.0,
        ping_timeout_s: float | None = 20.0,
        stall_s: float = 10.0,
        proxy: str | bool | None = True,
        reconnect: bool | Reconnect = False,
        request_data: Any = None,
    ) -> WebsocketSession:
        """Place a session: have a WebSocket server dialled. The bot must be registered.

        Returns when the server has accepted and samples may flow. With `media=False` the
        session has no rings until `session.open_media` makes them; audio that comes before
        waits for them. `serializer` is `"protobuf"`, `"raw_pcm"`, or a serializer object: of
        exactly a type that we know it runs in the worker. With any other and with None every
        message goes to the bot as it is (`session.raw_messages`), and `session.outgoing` paces
        whole messages. The word `"raw_pcm"` means the rate and channels of `mic_hz` both ways
        (16 kHz with `media=False`). `proxy` is an HTTP proxy's URL, True for that of the
        environment.
        The other parameters are those of `ipc.websocket.Websocket`; a flush does not fade.
        `reconnect` dials a server that goes away again, in the same session: `disconnected`,
        then `connected(resumed)`.

        Raises DialFailed, ConfigError, NoWorker, Overloaded, and BotError(`no_engine`).
        """
        if self._registration is None:
            raise BotError(NOT_REGISTERED, code="no_engine")
        wire, raw = wire_of(serializer)
        websocket = Websocket(
            uri=uri,
            headers=[*(headers.items() if isinstance(headers, Mapping) else headers)],
            subprotocols=[*subprotocols],
            origin=origin,
            wire=wire,
            in_hz=raw.get("hz") or mic_hz or RAW_HZ,
            in_channels=raw.get("channels") or mic_channels or 1,
            out_hz=out_hz or raw.get("hz", 0),
            out_channels=out_channels or raw.get("channels", 0),
            chunk_ms=chunk_ms,
            lead_ms=lead_ms,
            wav_header=wav_header,
            interruptions=interruptions,
            compression=compression,
            max_message_bytes=max_message_bytes,
            open_timeout_s=open_timeout_s,
            close_timeout_s=close_timeout_s,
            ping_interval_s=ping_interval_s,
            ping_timeout_s=ping_timeout_s,
            stall_s=stall_s,
            proxy=proxy_for(uri, proxy),
            reconnect=Reconnect() if reconnect is True else reconnect or None,
        )
        session = await self._registration.placing.dial(
            OpenWebsocket(websocket=websocket, request_data=request_data)
        )
        if not media:
            return session
        try:
            if wire == "messages":
                await session.open_messages()
            else:
                await session.open_media(
                    mic_hz=mic_hz,
                    speaker_hz=speaker_hz,
                    mic_channels=mic_channels,
                    speaker_channels=speaker_channels,
                )
        except BaseException:
            await session.close("no_media")
            raise
        return session

    async def handle(self, session: Session) -> None:
        """Run the handler of one session, to its end."""
        assert self._handler is not None  # noqa: S101 - serve looked
        result = self._handler(session)
        if inspect.isawaitable(result):
            await result
        else:
            await session.wait_closed()


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
