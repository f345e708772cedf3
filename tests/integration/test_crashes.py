"""Processes that die or hang: only their own calls notice, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import psutil
import pytest

from tests.fakes.audio import tone_source
from tests.fakes.bot import Events, FakeBot, serving, watching_bot
from tests.fakes.caller import FakeCaller
from tests.fakes.serve import NOT_READY, START_DEADLINE_S, ServeProcess
from tests.fakes.wait import eventually
from tests.support import DEADLINE_S, until

BOTS = Path(__file__).resolve().parent.parent / "fakes" / "bots"


def carrier_of(caller: FakeCaller, workers: dict[str, int]) -> str:
    """The name of the worker whose UDP port the caller's answer names."""
    found = re.search(r"a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 (\d+) ", caller.answers[-1])
    assert found is not None
    for name, pid in workers.items():
        ports = [c.laddr.port for c in psutil.Process(pid).net_connections("udp")]
        if int(found.group(1)) in ports:
            return name
    raise AssertionError(f"no worker has port {found.group(1)}")


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGKILL, "worker_died"), (signal.SIGSTOP, "worker_stalled")]
)
async def test_a_worker_that_dies_or_hangs_is_replaced_and_the_others_go_on(
    runtime_dir: Path, number: signal.Signals, reason: str
) -> None:
    events: Events = []
    options = ("--bots", "0", "--worker-stall-ms", "3000")
    async with (
        ServeProcess(runtime_dir, *options, workers=2, spares=1) as serve,
        serving(watching_bot(events), serve.endpoint) as bot,
    ):
        await serve.settled(workers=2)
        async with (
            FakeCaller(serve.url, tone_source(440)) as one,
            FakeCaller(serve.url, tone_source(900)) as other,
        ):
            await one.hears(440)
            await other.hears(900)
            workers = await serve.workers()
            victim, survivor = carrier_of(one, workers), carrier_of(other, workers)
            assert victim != survivor
            os.kill(workers[victim], number)
            await until(lambda: ("disconnected", reason) in events, what="the loss")
            other.forget()
            await other.hears(900)
            assert len(bot.sessions) == 2  # the caller may come back

            async def replaced() -> bool:
                live, spare = await serve.workers(), await serve.workers("spare")
                return len(live) == 2 and victim not in live and len(spare) == 1

            await eventually(replaced, "two live workers and a spare")
            assert not psutil.pid_exists(workers[victim])
            async with FakeCaller(serve.url, tone_source(600)) as new:
                await new.hears(600)
            other.forget()
            await other.hears(900)
            assert events.count(("disconnected", reason)) == 1


async def test_after_the_engine_is_killed_nothing_is_left_and_a_new_one_starts_there(
    runtime_dir: Path,
) -> None:
    async with ServeProcess(runtime_dir, spares=1) as first:
        await first.settled()
        async with FakeBot(first.endpoint) as mute, FakeCaller(first.url) as caller:
            await caller.hears(440)
            # A segment that nobody has attached yet still has its name.
            await mute.hello("mute")
            pending = FakeCaller(first.url, request_data={"bot": "mute"})
            try:
                await pending.dial()
                await mute.offer()
                assert len(first.segments()) == 1
                children = first.children()
                assert len(children) == 3
                first.kill()
                _, alive = await asyncio.to_thread(psutil.wait_procs, children, DEADLINE_S)
                assert alive == []
                await until(lambda: not first.segments(), what="the end of the segment")
            finally:
                await pending.close()
        port = int(first.url.rpartition(":")[2])
        async with ServeProcess(runtime_dir, port=port) as second:
            await second.settled()
            assert second.url == first.url
            left = {path.name for path in runtime_dir.iterdir()}
            assert left == {"lock", "current", second.engine_id}
            async with FakeCaller(second.url) as caller:
                await caller.hears(440)


async def test_what_killed_processes_left_is_swept_by_the_next_engine(runtime_dir: Path) -> None:
    async with ServeProcess(runtime_dir, "--bots", "0") as first:
        async with FakeBot(first.endpoint) as mute:
            await mute.hello("mute")
            pending = FakeCaller(first.url)
            pending.ignores_answers = True  # nor does it connect and then leave
            try:
                await pending.dial()
                await mute.offer()
            finally:
                await pending.close()
            children = first.children()
            for child in children:
                child.suspend()  # nothing may replace or close anything any more
            first.kill()
            for child in children:
                child.kill()
            await asyncio.to_thread(psutil.wait_procs, children, DEADLINE_S)
            assert len(first.segments()) == 1
        async with ServeProcess(runtime_dir, "--bots", "0") as second:
            assert first.segments() == []
            assert not (runtime_dir / first.engine_id).exists()
            assert second.engine_id != first.engine_id


async def test_a_killed_bot_process_is_restarted_and_its_calls_are_held_for_it(
    runtime_dir: Path,
) -> None:
    async with ServeProcess(runtime_dir) as serve:
        await serve.settled()
        async with FakeCaller(serve.url, tone_source(440)) as caller:
            await caller.hears(440)
            (before,) = serve.bot_pids()
            os.kill(before, signal.SIGKILL)
            await until(
                lambda: serve.bot_pids() not in ([], [before]), START_DEADLINE_S, what="another bot"
            )
            caller.forget()
            await caller.hears(440)
            assert not caller.left
            assert "bot_process_ended" in serve.log()
            caller.send({"type": "text", "text": "hi"})
            await caller.until(
                lambda: {"type": "text", "text": "echo: hi"} in caller.messages, "an echo"
            )


async def test_calls_of_a_bot_that_does_not_come_back_end_after_the_resume_window(
    runtime_dir: Path,
) -> None:
    async with ServeProcess(runtime_dir, "--bots", "0", "--resume-s", "1") as serve:
        # A process of its own, as the engine learns of the death of a process, not of a line.
        bot = await asyncio.create_subprocess_exec(
            *serve.arguments[:3], "bot", str(BOTS / "roomy.py"), "--connect", serve.endpoint
        )
        try:
            await serve.settled()
            async with FakeCaller(serve.url) as caller:
                await caller.hears(440)
                bot.kill()
                await caller.until(lambda: caller.left, "peerLeft")
        finally:
            if bot.returncode is None:
                bot.kill()
            await bot.wait()


async def test_a_bot_that_cannot_start_is_tried_again_ever_more_slowly(runtime_dir: Path) -> None:
    broken = str(BOTS / "broken.py")
    async with ServeProcess(runtime_dir, "--bot", broken, until=NOT_READY) as serve:

        def delays() -> list[float]:
            """How long the engine waits before each new attempt, by its log."""
            found = re.findall(r"bot_process_again .*in_s=([0-9.]+)", serve.log())
            return [float(text) for text in found]

        await until(lambda: len(delays()) >= 4, START_DEADLINE_S, what="four attempts")
        assert delays()[:4] == [0.1, 0.2, 0.4, 0.8]
        assert "this bot never works" in serve.log()
        assert "mend the RuntimeError above" in serve.log()
        said = serve.output().splitlines()[-1]
        assert broken in said
        assert "callers are refused" in said
        assert "ready: open" not in serve.output()
        status, health = await serve.health()
        assert status == 503
        assert health["reasons"]
