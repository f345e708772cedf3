"""A bot of the SDK that dials a far end; `job.Job` says what it then does.

Prints its URL (`dialling` says what is asked there) and is a client of the engine that
BACKBEAT_RUNTIME_DIR names.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from engine.sdk import Bot  # noqa: E402
from ipc.errors import SessionClosed  # noqa: E402
from scripts.benchmarks import bots  # noqa: E402
from scripts.benchmarks.dialling import MIC_HZ, SPEAKER_HZ, Dialling, serve  # noqa: E402
from scripts.benchmarks.job import Job  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

    from engine.sdk import WebsocketSession

SHORT_S = 0.3
CHUNK_MS = 40
"""What the far end sends at once; Pipecat too hands it on as it came."""
REGISTERED_S = 20.0

job = Job.from_environment()
bot = Bot("dialler", capacity=0)


async def open_one(uri: str, number: int, again: bool) -> None:
    """One session; it goes on when this has returned, unless it is one of many."""
    session = await bot.open_websocket(
        uri,
        mic_hz=MIC_HZ,
        speaker_hz=SPEAKER_HZ,
        proxy=None,
        request_data={"caller": number},
    )
    use = asyncio.create_task(converse(session))
    dialling.keep(use)
    if again:
        await asyncio.sleep(SHORT_S)
        await session.close()
        await use


async def converse(session: WebsocketSession) -> None:
    """Until the session ends."""
    with contextlib.suppress(SessionClosed):
        if job.mode == "flush":
            await bots.flush_at_random(session)
        elif job.mode == "hear":
            await _hear(session)
        elif job.mode == "talk":
            await bots.talk(session)
        else:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_hear(session))
                tasks.create_task(_talk(session))


async def _hear(session: WebsocketSession) -> None:
    async for _ in session.audio(most_ms=CHUNK_MS):
        pass


async def _talk(session: WebsocketSession) -> None:
    with contextlib.suppress(SessionClosed):
        await bots.talk(session)


@contextlib.asynccontextmanager
async def registered(_: FastAPI) -> AsyncIterator[None]:
    """While requests are served, the bot is an engine's."""
    serving = asyncio.create_task(bot.serve())
    await asyncio.sleep(0)  # it begins
    assert bot.registered is not None
    await asyncio.wait_for(bot.registered.wait(), REGISTERED_S)
    yield
    dialling.close()
    bot.stop()
    await serving


dialling = Dialling(job, open_one)

if __name__ == "__main__":
    serve(dialling, registered)
