"""An engine inside the user's own process: `async with Engine() as engine:`.

The user's process is then the control process; workers stay processes of their own, so the
media path still waits for nobody. Transports made inside the `async with`, or anywhere in a
process where one engine runs, find it by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Self

import structlog

from engine import config, logs, server
from engine.http import app
from ipc import runtime_dir
from ipc.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from types import TracebackType

    from fastapi import APIRouter

    from engine.bots import Bots
    from engine.sessions import Sessions
    from engine.supervisor import Supervisor

log = structlog.get_logger(__name__)

# The engine of the `async with` around whoever asks.
around: ContextVar[Engine | None] = ContextVar("engine", default=None)
# Every explicit engine that runs in this process, whatever its loop.
running: list[Engine] = []


class Engine:
    """A Backbeat engine as part of this process.

    Takes every setting of `serve` by its name (`workers=2`, `udp_port="40000-40009"`, ...), with
    defaults of its own: it has no HTTP port unless `host` or `port` is given (mount `router`
    into your application), takes WebSocket callers only if it has one or `ws_port` is given
    (`host` is then the address of that), starts no bot unless `bot` is given, and its runtime
    directory is a fresh one, so that it does not meet a `serve` of the same user. Raises
    ConfigError.

        async with Engine(workers=2) as engine:
            app.include_router(engine.router)
    """

    def __init__(self, **settings: Any) -> None:
        self._with_http = "port" in settings or ("host" in settings and "ws_port" not in settings)
        given = settings if "bot" in settings else {"bots": 0, **settings}
        loaded = config.load(given)
        if "ws_port" not in settings and not self._with_http:
            loaded = loaded.model_copy(update={"ws_port": None})  # the environment's is a `serve`'s
        self.settings = loaded
        # Not one of the environment either: that is where a `serve` is looked for.
        self._own_directory = settings.get("runtime_dir") is None
        self._server: server.Engine | None = None
        self._directory: Path | None = None
        self._token: Token[Engine | None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None  # on which it runs
        # What hangs on it and ends before it: the lines of transports.
        self.before_close: list[Callable[[], Awaitable[None]]] = []

    async def start(self) -> None:
        """Start the workers, and be what transports find. Raises ConfigError, NoWorker."""
        await self._start()
        running.append(self)

    async def _start(self) -> None:
        if self._server is not None:
            raise StateError("the engine runs already", code="engine_running")
        if not structlog.is_configured():
            logs.through_logging()
        settings = self.settings
        if self._own_directory:
            self._directory = runtime_dir.fresh_path()
            settings = settings.model_copy(update={"runtime_dir": self._directory})
        running_here = server.Engine(settings, with_http=self._with_http)
        self._server = running_here
        self.loop = asyncio.get_running_loop()
        try:
            await running_here.start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End every session, worker and bot of this engine. Safe to call twice."""
        if self in running:
            running.remove(self)
        while self.before_close:
            try:
                await self.before_close.pop()()
            except Exception:
                log.exception("engine_line_end_failed")  # the workers are ended all the same
        ending, self._server = self._server, None
        directory, self._directory = self._directory, None
        if ending is not None:
            await ending.close()
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    async def __aenter__(self) -> Self:
        """Start, and be the engine of everything inside."""
        await self.start()
        self._token = around.set(self)
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Close."""
        token, self._token = self._token, None
        if token is not None:
            # A lifespan may leave in another context than it entered.
            with contextlib.suppress(ValueError):
                around.reset(token)
        await self.close()

    @property
    def running(self) -> bool:
        """Whether it has started and not closed."""
        return self._server is not None

    @property
    def router(self) -> APIRouter:
        """The HTTP routes (offer, statistics, health) for an application of yours.

        It may be included before the engine runs; until then its routes answer 409. Who may
        reach them is your application's decision.
        """
        return app.router(self, loopback=False)

    @property
    def endpoint(self) -> str:
        """Where bots connect (`BACKBEAT_ENDPOINT`)."""
        return self._running.runtime.endpoint("bots")

    @property
    def address(self) -> str:
        """The URL of its own HTTP server, when it has one; else empty."""
        return self._running.address

    @property
    def sessions(self) -> Sessions:
        """The conversations."""
        return self._running.sessions

    @property
    def supervisor(self) -> Supervisor:
        """The workers."""
        return self._running.supervisor

    @property
    def bots(self) -> Bots:
        """The bots."""
        return self._running.bots

    @property
    def _running(self) -> server.Engine:
        if self._server is None:
            raise StateError(
                "the engine does not run: enter it with `async with`, or await start()",
                code="engine_not_running",
            )
        return self._server


async def start_unlisted() -> Engine:
    """An engine for whoever started it alone; others of this process do not find it."""
    engine = Engine()
    await engine._start()
    return engine
