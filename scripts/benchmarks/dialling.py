"""What every bot that dials is told over HTTP, whoever's transport it has.

`POST /api/dial` opens sessions with a far end, or dials it again and again; `GET /api/dialled`
says how often that went well.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from scripts.benchmarks import disturb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from scripts.benchmarks.job import Job

AT_ONCE = 4
# The documented defaults: what is said and what is heard.
SPEAKER_HZ = 24_000
MIC_HZ = 16_000
PIECE_MS = 500
"""Speech comes from a service in pieces of so long, to either framework."""


class Order(BaseModel):
    """So many sessions with a far end, numbered from `first`; `again`: redialled without end."""

    uri: str
    first: int = 0
    count: int
    again: bool = False


class Dialling:
    """Sessions of one bot. `open(uri, number)` dials one; with `again` it is over after that."""

    def __init__(self, job: Job, open_one: Callable[[str, int, bool], Awaitable[None]]) -> None:
        self._job = job
        self._open = open_one
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[str] = []
        self._dialled = 0

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold a task until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def dial(self, order: Order) -> None:
        """Open them, a few at once. The bot begins to be a bad neighbour when all are there."""
        room = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with room:
                await self._try(f"{order.uri}/{number}", number, again=False)

        numbers = range(order.first, order.first + order.count)
        if order.again:
            for number in numbers:
                uri = f"{order.uri}/{number}"
                self.keep(asyncio.create_task(self._for_ever(uri, number)))
            return
        async with asyncio.TaskGroup() as tasks:
            for number in numbers:
                tasks.create_task(one(number))
        disturb.start_burning(self._job.burn)
        self.keep(asyncio.create_task(disturb.block_each_second(self._job.block_ms)))

    async def _for_ever(self, uri: str, number: int) -> None:
        while len(self._errors) < AT_ONCE:
            await self._try(uri, number, again=True)

    async def _try(self, uri: str, number: int, *, again: bool) -> None:
        try:
            await self._open(uri, number, again)
            self._dialled += 1
        except Exception as error:  # told to the bench
            self._errors.append(f"{type(error).__name__}: {error}"[:200])

    def state(self) -> dict[str, Any]:
        """How many were dialled, and what went wrong."""
        return {"dialled": self._dialled, "errors": self._errors}

    def close(self) -> None:
        """End what goes on."""
        for task in self._tasks:
            task.cancel()


def serve(
    dialling: Dialling,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
) -> None:
    """Serve on a free port of loopback, as uvicorn's command does; prints the URL."""
    app = FastAPI(lifespan=lifespan)

    @app.post("/api/dial")
    async def dial(order: Order) -> dict[str, Any]:
        await dialling.dial(order)
        return dialling.state()

    @app.get("/api/dialled")
    async def dialled() -> dict[str, Any]:
        return dialling.state()

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning")
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])
