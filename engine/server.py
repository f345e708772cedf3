"""The engine: every part of the control process, put together and taken apart in order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import TYPE_CHECKING

import structlog
import uvicorn
import zmq

from engine.bot_processes import BotProcesses
from engine.bots import BotHandle, Bots
from engine.config import MAX_PORT
from engine.http import app
from engine.http.connections import BoundedProtocol
from engine.sessions import Sessions
from engine.supervisor import Supervisor, WorkerHandle
from ipc.clock import Clock, MonotonicClock
from ipc.errors import ConfigError
from ipc.runtime_dir import RuntimeDir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.config import Settings
    from ipc.messages import Message
    from ipc.sockets import Context

log = structlog.get_logger(__name__)

ECHO = "engine.examples.echo:bot"
HTTP_GRACE_S = 2
BOT_START_S = 10
# Workers end within a second of their engine, however it ended.
LET_GO_S = 1.5


class Engine:
    """The control process' parts. `start`, then `close`."""

    def __init__(
        self, settings: Settings, clock: Clock | None = None, *, with_http: bool = True
    ) -> None:
        """Without `with_http` the routes are served by somebody else (`engine.embedded`)."""
        self.settings = settings
        self._with_http = with_http
        self.address = ""
        self.ended = asyncio.Event()  # set when HTTP has ended, or nothing can come of this
        self.failure: ConfigError | None = None
        self._clock = clock or MonotonicClock()
        self._stack = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Bind, start the workers, let bots and callers in. Raises ConfigError, NoWorker."""
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        settings, stack = self.settings, self._stack
        _check_addresses(settings.ice_address)
        listener = _listen(settings.host, settings.port) if self._with_http else None
        if listener is not None:
            stack.callback(listener.close)
        callers = await self._listen_for_callers(listener)
        if callers is not None:
            stack.callback(callers.close)
        runtime = RuntimeDir(settings.runtime_dir)
        stack.callback(runtime.close)
        self.runtime = runtime
        context: Context = zmq.Context()
        stack.callback(context.destroy, 0)
        self.bots = Bots(
            settings,
            runtime,
            context,
            self._clock,
            on_request=lambda bot, message: self.sessions.bot_request(bot, message),
            on_message=lambda bot, message: self.sessions.bot_message(bot, message),
            on_gone=self._bot_gone,
        )
        self.supervisor = Supervisor(
            settings,
            runtime,
            context,
            self._clock,
            on_request=lambda worker, message: self.sessions.callers.request(worker, message),
            on_message=self._worker_said,
            on_gone=self._worker_gone,
            listener=callers,
        )
        self.sessions = Sessions(settings, runtime.engine_id, self.supervisor, self.bots)
        if callers is not None:
            self.sessions.callers.port = callers.getsockname()[1]
        stack.push_async_callback(self.bots.close)
        stack.push_async_callback(self.supervisor.close)
        self.bots.start()
        runtime.publish()
        self.processes = self._bot_processes()
        stack.push_async_callback(self.processes.close)
        self.processes.start()
        await self._start_workers()
        stack.push_async_callback(self.sessions.close_all, "engine_stopped")
        if listener is not None:
            await self._serve_http(listener)

    async def wait_bots(self) -> str:
        """Wait until the bots that we started are here, or one fell, or for a while.

        What is missing and what to do about it, as a sentence; empty when they are here.
        """
        here = asyncio.create_task(self.bots.wait_number(self.settings.bots), name="bots here")
        fell = asyncio.create_task(self.processes.fell.wait(), name="bot fell")
        try:
            await asyncio.wait(
                (here, fell), timeout=BOT_START_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            here.cancel()
            fell.cancel()
        count = len(self.bots.all)
        if count >= self.settings.bots:
            return ""
        spec, code = self.processes.spec, self.processes.returncode
        why = (
            f"the bot {spec} ended at its start (exit code {code}), its own error stands above; "
            "it is started again and again: mend it, or end this with Ctrl-C"
            if code is not None
            else f"the bot {spec} has not connected in {BOT_START_S} s; it may still be loading"
        )
        refused = "callers are refused until it is here"
        some = f"{count} of {self.settings.bots} bot processes are here"
        return f"{why}; {some if count else refused}"

    async def close(self) -> None:
        """End everything in the reverse order. Safe to call twice."""
        await self._stack.aclose()

    def _bot_processes(self) -> BotProcesses:
        settings = self.settings
        token = settings.bot_token.get_secret_value() if settings.bot_token else ""
        return BotProcesses(
            settings.bot or ECHO,
            settings.bots,
            self.runtime.endpoint("bots"),
            token=token,
            log_level=settings.log_level,
            on_unfit=self._bot_unfit,
        )

    async def _listen_for_callers(self, http: socket.socket | None) -> socket.socket | None:
        """The socket from which the workers take WebSocket callers' connections."""
        host, port = self.settings.host, self.settings.ws_port
        if port is not None:
            return await _listen_soon(host, port)
        if http is None:
            return None
        beside = http.getsockname()[1] + 1 if self.settings.port else 0
        try:
            return await _listen_soon(host, beside if beside <= MAX_PORT else 0)
        except ConfigError as error:  # nobody has asked for this one: any other will do
            log.warning("ws_port_taken", port=beside, error=error.message)
            return _listen(host, 0, for_callers=True)

    async def _serve_http(self, listener: socket.socket) -> None:
        settings = self.settings
        config = uvicorn.Config(
            app.build(
                self,
                allowed_hosts=settings.allowed_hosts,
                allowed_origins=settings.allowed_origin,
                loopback=settings.on_loopback,
            ),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=HTTP_GRACE_S,
            http=BoundedProtocol,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        serving.add_done_callback(lambda _: self.ended.set())
        host, port = listener.getsockname()[:2]
        self.address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

        async def stop() -> None:
            server.should_exit = True
            await asyncio.gather(serving, return_exceptions=True)

        self._stack.push_async_callback(stop)

    async def _start_workers(self) -> None:
        """A bot that cannot be served is known sooner than they are up: nobody waits for them."""
        starting = asyncio.create_task(self.supervisor.start(), name="workers start")
        unfit = asyncio.create_task(self.ended.wait(), name="bot unfit")
        try:
            await asyncio.wait((starting, unfit), return_when=asyncio.FIRST_COMPLETED)
            if self.failure is not None:
                raise self.failure
            await starting
        finally:
            starting.cancel()
            unfit.cancel()
            await asyncio.gather(starting, unfit, return_exceptions=True)

    def _bot_unfit(self) -> None:
        self.failure = ConfigError(
            f"the bot {self.settings.bot!r} cannot be started; its own error stands above",
            code="bot",
        )
        self.ended.set()

    def _worker_said(self, worker: WorkerHandle, message: Message) -> None:
        self.sessions.worker_message(worker, message)

    def _worker_gone(self, worker: WorkerHandle) -> None:
        self.sessions.worker_gone(worker)

    def _bot_gone(self, bot: BotHandle, reason: str) -> None:
        self.sessions.bot_gone(bot, reason)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process' signals are the engine's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def _check_addresses(addresses: list[str]) -> None:
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((address, 0))
            except OSError as error:
                raise ConfigError(
                    f"--ice-address {address} is not an address of this machine: {error.strerror}",
                    code="ice_address",
                ) from error


async def _listen_soon(host: str, port: int) -> socket.socket:
    """Listen for callers, once the workers of an engine that died just now have let go of it."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + LET_GO_S
    while True:
        try:
            return _listen(host, port, for_callers=True)
        except ConfigError as error:
            cause = error.__cause__
            taken = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
            if not taken or loop.time() > until_s:
                raise
        await asyncio.sleep(LET_GO_S / 20)


def _listen(host: str, port: int, *, for_callers: bool = False) -> socket.socket:
    # Bound here, because uvicorn would end the process when the port is busy.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        what, flag = ("WebSockets", "--ws-port") if for_callers else ("HTTP", "--port")
        raise ConfigError(
            f"{what} cannot bind {host}:{port}: {error.strerror}; choose another with "
            f"{'--host' if isinstance(error, socket.gaierror) else f'{flag} or --host'}",
            code="ws_port" if for_callers else "http_port",
        ) from error
    listener.setblocking(False)
    return listener
