"""Bots: a raw one that may say anything, and SDK bots that run inside a test."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import msgpack
import zmq
import zmq.asyncio

from engine.sdk import Bot, Session
from ipc import life
from tests.support import DEADLINE_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


VERSION = 1
Events = list[tuple[object, ...]]


class FakeBot:
    """A DEALER on the `bots` socket that speaks msgpack, or nonsense. An async context manager."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(endpoint)
        self._numbers = 0
        self._registered = False
        self.unread: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._registered:
            await self.say("goodbye")
        self.close()

    def close(self) -> None:
        """Cut the line; what was said last may take a moment to leave."""
        self._socket.close(200)
        self._context.term()

    async def raw(self, *frames: bytes) -> None:
        """Send these frames as they are."""
        await self._socket.send_multipart(list(frames))

    async def say(self, kind: str, **fields: Any) -> None:
        """Send a notification; `v` can be overridden."""
        await self.raw(msgpack.packb({"v": VERSION, "t": kind, **fields}))

    async def ask(
        self, kind: str, *, timeout_s: float = DEADLINE_S, **fields: Any
    ) -> dict[str, Any]:
        """Send a request and return its reply; what comes in between is kept in `unread`."""
        self._numbers += 1
        number = self._numbers
        await self.raw(msgpack.packb({"v": VERSION, "t": kind, "id": number, **fields}))
        return await self.hear(lambda message: message.get("re") == number, timeout_s)

    async def reply(self, request: dict[str, Any], kind: str = "ok", **fields: Any) -> None:
        """Answer a request."""
        await self.say(kind, re=request["id"], **fields)

    async def hello(self, name: str = "fake", **fields: Any) -> dict[str, Any]:
        """Register; the engine's answer."""
        said: dict[str, Any] = {
            "name": name,
            "capacity": 1,
            "bell": "bell-0123456789ab",
            "pid": os.getpid(),
            "started": life.started(os.getpid()),
        }
        answer = await self.ask("hello", **(said | fields))
        self._registered |= answer["t"] == "welcome"
        return answer

    async def hear(self, wanted: Any = None, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        """The next message (for which `wanted` holds)."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    message: dict[str, Any] = msgpack.unpackb(await self._socket.recv())
                    if wanted is None or wanted(message):
                        return message
                    self.unread.append(message)
        except TimeoutError:
            raise AssertionError(
                f"the fake bot heard nothing fitting in {timeout_s:g} s, but {self.unread[-5:]}"
            ) from None

    async def offer(self, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        """The next session that the engine offers."""
        return await self.hear(lambda message: message["t"] == "offer_session", timeout_s)


def echo_bot(name: str = "echo", **options: Any) -> Bot:
    """An SDK bot that says back what it hears."""
    bot = Bot(name, **options)

    @bot.session
    async def echo(session: Session) -> None:
        async for frame in session.audio():
            await session.play(frame)

    return bot


def watching_bot(events: Events, name: str = "watch", **options: Any) -> Bot:
    """An SDK bot that echoes, and writes down every event of its calls."""
    bot = Bot(name, **options)

    @bot.session
    async def watch(session: Session) -> None:
        session.on("connected", lambda resumed: events.append(("connected", resumed)))
        session.on("disconnected", lambda reason: events.append(("disconnected", reason)))
        session.on("closed", lambda reason: events.append(("closed", reason)))
        async for frame in session.audio():
            await session.play(frame)

    return bot


@asynccontextmanager
async def serving(bot: Bot, endpoint: str, *, token: str | None = None) -> AsyncIterator[Bot]:
    """Run an SDK bot on the test's loop; registered inside the block, ended after it."""
    task = asyncio.create_task(bot.serve(endpoint, token=token), name=f"bot {bot.name}")
    try:
        await registered(bot, task)
        yield bot
    finally:
        bot.stop()
        async with asyncio.timeout(DEADLINE_S):
            await task


async def registered(bot: Bot, serving: asyncio.Task[None] | None = None) -> None:
    """Return when the bot has an engine."""

    def good() -> bool:
        if serving is not None and serving.done():
            serving.result()
        return bot.registered.is_set()

    await until(good, DEADLINE_S, what=f"the hello of bot {bot.name}")
