"""A worker that dies under a call: the caller comes back on another, to the same session."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from engine.sdk import Bot
from tests.fakes.audio import HZ, silence_source, tone_source
from tests.fakes.bot import Events, serving, watching_bot
from tests.fakes.caller import FakeCaller
from tests.fakes.placed import PlacedCaller, echo, watch
from tests.fakes.serve import ROOT, ServeProcess
from tests.fakes.wait import eventually
from tests.support import turn, until

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = ROOT / "engine" / "examples"


async def kill_the_worker(serve: ServeProcess, number: signal.Signals = signal.SIGKILL) -> None:
    """Kill the worker that serves, when there is one to take its place; return when that does."""

    async def ready() -> bool:
        return bool(await serve.workers("live")) and bool(await serve.workers("spare"))

    await eventually(ready, "a worker and a spare", 30)
    ((name, pid),) = (await serve.workers()).items()
    os.kill(pid, number)

    async def replaced() -> bool:
        live = await serve.workers()
        return bool(live) and name not in live

    await eventually(replaced, "another worker")


@pytest.mark.usefixtures("patient_flushes")
@pytest.mark.parametrize("media", ["shm", "zmq"])
async def test_a_caller_of_a_dead_worker_comes_back_to_the_same_session(
    runtime_dir: Path, media: str
) -> None:
    events: Events = []
    bot = watching_bot(events, media=media)
    async with (
        ServeProcess(runtime_dir, "--bots", "0", spares=1) as serve,
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, tone_source(440)) as caller,
    ):
        await caller.hears(440)
        (session,) = bot.sessions.values()
        await kill_the_worker(serve)
        await until(lambda: ("disconnected", "worker_died") in events, what="the loss")
        position = session.position
        caller.forget()
        await caller.connect(restart=True)
        await caller.hears(440)
        assert [*bot.sessions.values()] == [session]
        # Sound does not go through the engine, which tells of the return: it may be told later.
        await until(lambda: ("connected", True) in events, what="the return")
        assert events == [
            ("connected", False),
            ("disconnected", "worker_died"),
            ("connected", True),
        ]
        assert session.position > position
        flushed = await session.flush()
        assert flushed.exact
        assert serve.segments() == []


async def test_a_placed_session_moves_with_its_queued_speech_marks_and_messages(
    runtime_dir: Path,
) -> None:
    bot = Bot("transport", capacity=0)
    async with (
        ServeProcess(runtime_dir, "--bots", "0", spares=1) as serve,
        serving(bot, serve.endpoint),
        PlacedCaller(bot, silence_source()) as caller,
    ):
        session, events = caller.session, watch(caller.session)
        await session.open_media(speaker_hz=16_000)
        await caller.hears_silence()
        await kill_the_worker(serve)
        await until(lambda: ("disconnected", "worker_died") in events, what="the loss")
        position = session.position
        # Two seconds: the ring holds one, the rest waits for room.
        pcm = tone_source(600)(0, 2 * HZ)[::3]
        playing = asyncio.create_task(session.play(np.ascontiguousarray(pcm), mark="end"))
        assert session.send({"said": "meanwhile"})
        await turn()
        assert not playing.done()
        await caller.connect(restart=True)
        await caller.hears(600)
        await caller.until(lambda: {"said": "meanwhile"} in caller.messages, "the message")
        played = await playing
        assert (played.start, played.cut) == (position, 0)
        assert played.mark is not None
        async with asyncio.timeout(30):
            mark = await played.mark
        assert mark.played
        assert mark.cursor == position + len(pcm)
        echoing = asyncio.create_task(echo(session))
        caller.say(tone_source(440))
        await caller.hears(440)
        echoing.cancel()
        await until(lambda: ("connected", True) in events, what="the return")
        assert [state for kind, state in events if kind == "peer"] == [
            *("connecting", "connected", "lost", "connecting", "connected"),
        ]


async def test_a_hung_worker_is_as_good_as_dead(runtime_dir: Path) -> None:
    events: Events = []
    options = ("--bots", "0", "--worker-stall-ms", "3000")
    async with (
        ServeProcess(runtime_dir, *options, spares=1) as serve,
        serving(watching_bot(events), serve.endpoint) as bot,
        FakeCaller(serve.url, tone_source(440)) as caller,
    ):
        await caller.hears(440)
        sessions = set(bot.sessions)
        await kill_the_worker(serve, signal.SIGSTOP)
        await until(lambda: ("disconnected", "worker_stalled") in events, what="the loss")
        caller.forget()
        await caller.connect(restart=True)
        await caller.hears(440)
        assert set(bot.sessions) == sessions


async def test_who_does_not_come_back_in_time_has_left(runtime_dir: Path) -> None:
    events: Events = []
    async with (
        ServeProcess(runtime_dir, "--bots", "0", "--resume-s", "1", spares=1) as serve,
        serving(watching_bot(events), serve.endpoint) as bot,
        FakeCaller(serve.url, tone_source(440)) as caller,
    ):
        await caller.hears(440)
        await kill_the_worker(serve)
        await until(lambda: ("closed", "worker_died") in events, what="the end")
        await until(lambda: not bot.sessions, what="the end of the session")
        assert serve.segments() == []
        caller.forget()
        await caller.connect(restart=True)  # as a new call
        await caller.hears(440)


async def test_a_bot_without_the_sdk_goes_along(runtime_dir: Path) -> None:
    async with ServeProcess(runtime_dir, "--bots", "0", spares=1) as serve:
        plain = [sys.executable, str(EXAMPLES / "plain_zmq_echo.py"), serve.endpoint]
        with subprocess.Popen(plain) as bot:
            try:
                await serve.settled()
                async with FakeCaller(serve.url, tone_source(440)) as caller:
                    await caller.hears(440)
                    pc_id = caller.pc_id
                    await kill_the_worker(serve)
                    caller.forget()
                    await caller.connect(restart=True)
                    await caller.hears(440)
                    assert caller.pc_id == pc_id
            finally:
                bot.terminate()
                bot.wait(10)
