"""`serve --bot FILE` and `engine bot FILE` run a bot file of Pipecat's kind, changed or not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.audio import tone_source
from tests.fakes.caller import FakeCaller
from tests.fakes.serve import ServeProcess
from tests.fakes.websocket_caller import WebsocketCaller
from tests.support import until

GREETER = Path(__file__).resolve().parent / "bots" / "greeter.py"
IMPORT = "from pipecat.runner.utils import create_transport"
CHANGED = "from engine.integrations.pipecat import create_transport"


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """The file with one import changed."""
    source = GREETER.read_text()
    assert source.count(IMPORT) == 1
    path = tmp_path / "changed.py"
    path.write_text(source.replace(IMPORT, CHANGED))
    return path


def kind_told(caller: FakeCaller | WebsocketCaller) -> str:
    found: list[Any] = [each["kind"] for each in caller.messages if each.get("type") == "kind"]
    return str(found[0]) if found else ""


@pytest.mark.parametrize("which", ["as_it_is", "changed"])
async def test_a_bot_file_greets_and_echoes(which: str, changed: Path, runtime_dir: Path) -> None:
    file = GREETER if which == "as_it_is" else changed
    async with ServeProcess(runtime_dir, "--bot", str(file)) as serve:
        await serve.settled()
        for _ in range(2):
            caller = FakeCaller(serve.url, tone_source(440), request_data={"name": "Ada"})
            async with caller:
                await caller.hears(440)
                await caller.until(lambda: bool(kind_told(caller)), "the bot's word")  # noqa: B023
                ours = "engine.integrations.pipecat" in kind_told(caller)
                assert ours == (which == "changed")
                assert " s_" in kind_told(caller)
                assert "'name': 'Ada'" in kind_told(caller)
        async with await WebsocketCaller.through(serve.url, {"name": "Grace"}) as other:
            await until(lambda: bool(kind_told(other)))
            kind = kind_told(other)
            assert ("engine.integrations.pipecat" in kind) == (which == "changed")
            assert "'name': 'Grace'" in kind
            assert " s_" in kind
            other.speak(440)
            await other.hears_tone(440)
            assert other.rates() == {(24_000, 1)}


async def test_a_bot_file_runs_beside_a_serve_and_ends_when_told(runtime_dir: Path) -> None:
    async with ServeProcess(runtime_dir, "--bots", "0") as serve:
        bot = await asyncio.create_subprocess_exec(
            *serve.arguments[:3], "bot", str(GREETER), "--connect", serve.endpoint
        )
        try:
            await serve.settled()
            async with FakeCaller(serve.url, tone_source(440)) as caller:
                await caller.hears(440)
            await serve.settled()
            bot.terminate()
            async with asyncio.timeout(30):
                assert await bot.wait() == 0
        finally:
            if bot.returncode is None:
                bot.kill()
                await bot.wait()
