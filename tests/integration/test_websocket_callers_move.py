"""WebSocket callers whose worker dies, who come to another one, and whose engine ends."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.fakes.bot import serving
from tests.fakes.serve import ServeProcess
from tests.fakes.websocket_caller import WebsocketCaller, start
from tests.integration.test_websocket_callers import Hosted
from tests.support import until

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_caller_goes_on_at_any_worker_until_the_engine_ends(runtime_dir: Path) -> None:
    hosted = Hosted()
    async with (
        ServeProcess(runtime_dir, "--bots", "0", workers=2) as serve,
        serving(hosted.bot, serve.endpoint),
    ):
        await serve.settled(workers=2)
        found = await start(serve.url)
        async with WebsocketCaller(found["wsUrl"], found["token"]) as caller:
            caller.speak(440)
            await caller.hears_tone(440)
            (session,) = hosted.sessions
            # The other worker has none, so it takes the next connection: the session moves there.
            before = await carrier(serve)
            async with WebsocketCaller(found["wsUrl"], found["token"]) as again:
                assert await caller.close_code() == (1000, "replaced")
                again.speak(550)
                await again.hears_tone(550)
                moved = await carrier(serve)
                assert moved != before
                position = session.position
                workers = await serve.workers()
                os.kill(workers[moved], signal.SIGKILL)
                assert (await again.close_code())[0] == 1006
        await until(lambda: ("disconnected", "worker_died") in hosted.events)
        async with WebsocketCaller(found["wsUrl"], found["token"]) as caller:
            caller.speak(330)
            await caller.hears_tone(330)
            assert session.position > position
            assert hosted.sessions == [session]
            assert not session.closed
            serve.terminate()
            assert await caller.close_code() == (1012, "engine_stopped")
        await serve.ended()
        # Before the bot stops by itself.
        await until(lambda: ("closed", "engine_stopped") in hosted.events, what="the end")


async def carrier(serve: ServeProcess) -> str:
    """The name of the worker that carries the only session."""
    async with serve.client() as client:
        (listed,) = (await client.get("/api/sessions")).json()
    name: str = listed["worker"]
    return name
