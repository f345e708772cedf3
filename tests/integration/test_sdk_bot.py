"""A bot of the SDK through its own accidents: Ctrl-C, a restarted engine, errors, stalls."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.sdk import AudioFrame, Bot, Session
from ipc.errors import AuthError, ConfigError
from tests.fakes.audio import silence_source, tone_source
from tests.fakes.bot import Events, echo_bot, registered, serving, watching_bot
from tests.fakes.caller import FakeCaller
from tests.fakes.serve import ServeProcess, environment, run_serve
from tests.support import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OBEDIENT = Path(__file__).resolve().parent.parent / "fakes" / "bots" / "obedient.py"


@asynccontextmanager
async def bot_process(serve: ServeProcess) -> AsyncIterator[asyncio.subprocess.Process]:
    """`backbeat bot` as a user starts it."""
    process = await asyncio.create_subprocess_exec(
        *(*serve.arguments[:3], "bot", str(OBEDIENT), "--connect", serve.endpoint),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    try:
        await serve.settled()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_bot_that_is_interrupted_ends_its_calls_and_itself(
    serve: ServeProcess, number: signal.Signals
) -> None:
    begin = len(serve.log())
    async with (
        bot_process(serve) as process,
        FakeCaller(serve.url, tone_source(440)) as caller,
    ):
        await caller.hears(440)
        process.send_signal(number)
        await caller.until(lambda: caller.left, "peerLeft")
        async with asyncio.timeout(30):
            _, stderr = await process.communicate()
        assert process.returncode == 0
        assert b"Traceback" not in stderr
        await until(lambda: "bot_left" in serve.log()[begin:], what="what the engine says")


@pytest.mark.parametrize("media", ["shm", "zmq"])
async def test_a_bot_that_stops_ends_its_calls_with_a_reason(
    serve: ServeProcess, media: str
) -> None:
    events: Events = []
    async with (
        serving(watching_bot(events, media=media), serve.endpoint) as bot,
        FakeCaller(serve.url) as caller,
    ):
        await caller.hears(440)
        await until(lambda: events, what="the beginning")  # sound may come before it is told
        bot.stop()
        await caller.until(lambda: caller.left, "peerLeft")
    assert events == [("connected", False), ("closed", "bot_stopped")]


async def test_a_stalled_bot_loses_none_of_what_the_caller_says(runtime_dir: Path) -> None:
    async with (
        ServeProcess(runtime_dir, "--bot", str(OBEDIENT)) as serve,
    ):
        await serve.settled()
        async with FakeCaller(serve.url, tone_source(440)) as caller:
            await caller.hears(440)
            await stall(caller)
            # An engine that stood still meanwhile cannot tell that the bot did.
            while "bot_stalls" not in serve.log():
                await stall(caller)
            caller.forget()
            await caller.hears(440)
            caller.send({"report": True})
            await caller.until(lambda: "lost" in caller.messages[-1], "the report")
            report = caller.messages[-1]
            assert (report["lost"], report["gaps"]) == (0, 0)
            assert report["cursor"] > 1.5 * 16_000
            assert not caller.left


async def stall(caller: FakeCaller) -> None:
    """Have the bot block its loop, until it is over."""
    before = caller.messages.count({"blocked": 1.5})
    caller.send({"block": 1.5})
    await caller.until(
        lambda: caller.messages.count({"blocked": 1.5}) > before, "the end of the stall"
    )


async def test_an_error_in_a_handler_ends_that_call_only(runtime_dir: Path) -> None:
    async with ServeProcess(runtime_dir, "--bot", str(OBEDIENT)) as serve:
        await serve.settled()
        async with (
            FakeCaller(serve.url, tone_source(440)) as one,
            FakeCaller(serve.url, tone_source(900)) as other,
        ):
            await one.hears(440)
            await other.hears(900)
            one.send({"fail": True})
            await one.until(lambda: one.left, "peerLeft")
            other.forget()
            await other.hears(900)
            assert not other.left
            assert "told to fail" in serve.log()
            async with FakeCaller(serve.url, tone_source(600)) as new:
                await new.hears(600)


async def test_an_error_in_an_event_handler_ends_no_call(serve: ServeProcess) -> None:
    bot = Bot("clumsy")

    @bot.session
    async def clumsy(session: Session) -> None:
        @session.on("message")
        def fail(_data: object) -> None:
            raise RuntimeError("in a message handler")

        async for frame in session.audio():
            await session.play(frame)

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url) as caller,
    ):
        await caller.hears(440)
        caller.send("boo")
        caller.forget()
        await caller.hears(440)
        assert not caller.left


async def test_a_bot_finds_the_engine_that_was_started_anew(runtime_dir: Path) -> None:
    events: Events = []
    first = ServeProcess(runtime_dir, "--bots", "0")
    async with first, serving(watching_bot(events), first.endpoint) as bot:
        async with FakeCaller(first.url) as caller:
            await caller.hears(440)
            await until(lambda: events, what="the beginning")
            await asyncio.to_thread(first.kill)
            await until(lambda: len(events) == 2, what="closed")
            assert events[1][0] == "closed"
        async with ServeProcess(runtime_dir, "--bots", "0") as second:
            assert second.endpoint != first.endpoint
            await registered(bot)
            async with FakeCaller(second.url, tone_source(700)) as caller:
                await caller.hears(700)
            await until(lambda: not bot.sessions, what="the end of the call")


async def test_a_bot_waits_for_an_engine_that_is_not_there_yet(runtime_dir: Path) -> None:
    bot = echo_bot()
    waiting = asyncio.create_task(bot.serve(f"ipc://{runtime_dir}/00000000/bots"))
    try:
        async with ServeProcess(runtime_dir, "--bots", "0") as serve:
            await registered(bot, waiting)
            async with FakeCaller(serve.url) as caller:
                await caller.hears(440)
            bot.stop()
            await waiting
    finally:
        bot.stop()
        await asyncio.wait([waiting])


async def test_a_bot_with_a_wrong_token_is_told_so(runtime_dir: Path) -> None:
    env = environment(BACKBEAT_BOT_TOKEN="right")
    async with ServeProcess(runtime_dir, "--bots", "0", env=env) as serve:
        with pytest.raises(AuthError, match="token"):
            await echo_bot().serve(serve.endpoint, token="wrong")
        async with serving(echo_bot(), serve.endpoint, token="right"), FakeCaller(serve.url) as ok:
            await ok.hears(440)


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:5555", "tcp://0.0.0.0:5555"])
async def test_a_tcp_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="tcp:// endpoints are refused"):
        await echo_bot().serve(endpoint)
    code, out, err = await run_serve(str(OBEDIENT), "--connect", endpoint, command="bot")
    assert (code, out) == (78, "")
    assert err.count("\n") == 1
    assert "tcp_refused" in err


async def test_samples_of_another_kind_than_the_bot_declared_are_refused(
    serve: ServeProcess,
) -> None:
    import numpy as np

    bot = Bot("speaker", speaker_hz=16_000)
    errors: list[Exception] = []

    @bot.session
    async def speak(session: Session) -> None:
        async for frame in session.audio():
            await session.play(frame)  # of another rate: resampled
            stereo = AudioFrame(bytes(8), 16_000, 2, 0)
            for wrong in (stereo, b"odd", np.zeros(10, np.float32)):
                try:
                    await session.play(wrong)  # type: ignore[arg-type]  # that is the point
                except ConfigError as error:
                    errors.append(error)
            break
        await session.wait_closed()

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()),
    ):
        await until(lambda: len(errors) == 3, what="three errors")


async def test_the_process_of_a_started_bot_ignores_the_terminals_ctrl_c(
    runtime_dir: Path,
) -> None:
    async with ServeProcess(runtime_dir) as serve:
        await serve.settled()
        async with FakeCaller(serve.url) as caller:
            await caller.hears(440)
            (pid,) = serve.bot_pids()
            workers = await serve.workers()
            for process in (pid, *workers.values()):
                os.kill(process, signal.SIGINT)
            caller.forget()
            await caller.hears(440)
            assert serve.bot_pids() == [pid]
