"""Which engine a transport finds, and its line to it.

In this order: the `async with Engine(...)` around it, the one Engine that runs in this process,
`BACKBEAT_ENDPOINT`, a `serve` of this user on this machine, and else an engine that is started
here. What was started here is counted by its users and ends some seconds after the last one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from engine.sdk import Bot
from ipc import runtime_dir
from ipc.errors import BotError, ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from engine.embedded import Engine

LINGER_S = 5.0
REGISTER_DEADLINE_S = 10.0

_homes: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Home]] = WeakKeyDictionary()


class Home:
    """The line of one event loop to one engine: an SDK bot that takes no calls but places them.

    `acquire` finds it and counts a user, `release` gives it back.
    """

    def __init__(self, endpoint: str) -> None:
        """Without `endpoint`, an engine is started for it."""
        self._endpoint = endpoint
        # Of this loop, which ends it before itself.
        self._engine: Engine | None = None
        self._users = 0
        self._lingering: asyncio.TimerHandle | None = None
        self._life: AsyncGenerator[Bot, None] | None = None
        self._starting: asyncio.Task[Bot] | None = None
        self._ending: asyncio.Task[None] | None = None

    @classmethod
    async def acquire(cls) -> Home:
        """The home of whoever asks, in use by one more. Raises ConfigError, BotError, NoWorker."""
        loop = asyncio.get_running_loop()
        here = _homes.setdefault(loop, {})
        engine = _engine_here()
        endpoint = engine.endpoint if engine is not None else find_endpoint()
        home = here.get(endpoint)
        if home is None or home._ending is not None:
            home = here[endpoint] = cls(endpoint)
            if engine is not None and engine.loop is loop:
                home._engine = engine
                engine.before_close.append(home.end)
        home._users += 1
        if home._lingering is not None:
            home._lingering.cancel()
            home._lingering = None
        try:
            await home.bot()
        except BaseException:
            home.release()
            raise
        return home

    async def bot(self) -> Bot:
        """The registered bot that places sessions.

        Raises BotError(`no_engine`), and what an engine refuses it with, such as AuthError.
        """
        if self._starting is None or (self._starting.done() and not _succeeded(self._starting)):
            self._starting = asyncio.create_task(self._start(), name="home")
        bot = await asyncio.shield(self._starting)
        try:
            async with asyncio.timeout(REGISTER_DEADLINE_S):
                await bot.registered.wait()
        except TimeoutError:
            raise _no_engine(self._endpoint) from None
        return bot

    def release(self) -> None:
        """One user less; the last one leaves it lingering."""
        self._users -= 1
        if self._users == 0 and self._lingering is None:
            loop = asyncio.get_running_loop()
            self._lingering = loop.call_later(LINGER_S, self._expire)

    def _expire(self) -> None:
        self._ending = asyncio.create_task(self._end(), name="home ends")

    async def end(self) -> None:
        """End it now, whoever uses it: their sessions end with `engine_gone`."""
        if self._lingering is not None:
            self._lingering.cancel()
        if self._ending is None:
            self._expire()
        assert self._ending is not None  # noqa: S101 - just made
        await asyncio.shield(self._ending)

    async def _start(self) -> Bot:
        # The loop closes its asynchronous generators when it ends, whatever its users forgot:
        # so nothing that was started here outlives it.
        self._life = _live(self._endpoint)
        try:
            return await anext(self._life)
        except BaseException:
            await self._life.aclose()
            raise

    async def _end(self) -> None:
        here = _homes.get(asyncio.get_running_loop(), {})
        if here.get(self._endpoint) is self:
            del here[self._endpoint]
        if self._engine is not None and self.end in self._engine.before_close:
            self._engine.before_close.remove(self.end)
        if self._starting is not None:
            await asyncio.wait([self._starting])
        if self._life is not None:
            await self._life.aclose()


async def end_all() -> None:
    """End every line of this loop, and what was started for them, without waiting for users."""
    for home in list(_homes.get(asyncio.get_running_loop(), {}).values()):
        await home.end()


def _succeeded(task: asyncio.Task[Bot]) -> bool:
    return not task.cancelled() and task.exception() is None


async def _live(endpoint: str) -> AsyncGenerator[Bot, None]:
    async with contextlib.AsyncExitStack() as stack:
        if not endpoint:
            from engine.embedded import start_unlisted

            engine = await start_unlisted()
            stack.push_async_callback(engine.close)
            endpoint = engine.endpoint
        bot = Bot(f"transport-{secrets.token_hex(4)}", capacity=0)
        serving = asyncio.create_task(bot.serve(endpoint), name="home bot")

        async def stop() -> None:
            bot.stop()
            await asyncio.gather(serving, return_exceptions=True)

        stack.push_async_callback(stop)
        registering = asyncio.create_task(bot.registered.wait(), name="home registers")
        try:
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait(
                (registering, serving), timeout=REGISTER_DEADLINE_S, return_when=first
            )
        finally:
            registering.cancel()
        if serving.done():
            serving.result()  # the engine refuses it: that is not to be waited for
        if not bot.registered.is_set():
            raise _no_engine(endpoint)
        yield bot


def _no_engine(endpoint: str) -> BotError:
    return BotError(
        f"no engine answers at {endpoint or 'its own endpoint'}; "
        "start one with `python -m engine serve`",
        code="no_engine",
        retryable=True,
    )


def find_endpoint() -> str:
    """The endpoint of the engine that a transport made here finds; empty when there is none.

    Raises ConfigError when several engines run in this process and none is around the caller.
    """
    engine = _engine_here()
    if engine is not None:
        return engine.endpoint
    return os.environ.get("BACKBEAT_ENDPOINT") or runtime_dir.current_endpoint() or ""


def _engine_here() -> Engine | None:
    embedded = sys.modules.get("engine.embedded")
    if embedded is None:  # nobody in this process has made one
        return None
    nearest: Engine | None = embedded.around.get()
    if nearest is not None and nearest.running:
        return nearest
    if len(embedded.running) > 1:
        raise ConfigError(
            f"{len(embedded.running)} engines run in this process; make the transport inside "
            "the `async with` of the one it belongs to",
            code="engine_ambiguous",
        )
    found: Engine | None = embedded.running[0] if embedded.running else None
    return found
