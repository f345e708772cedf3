"""Pipecat's unmodified JavaScript client calls a Pipecat bot that this engine serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.fakes.browser import chromium, loopback_namespace
from tests.fakes.pipecat_page import LARGE, MIC_HZ, bundle, calling

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("browser")

BOT = Path(__file__).resolve().parent / "bots" / "answering.py"
IMPORT = "from pipecat.runner.utils import create_transport"
CHANGED = "from engine.integrations.pipecat import create_transport"
STOCK = "pipecat.transports.smallwebrtc.transport"
OURS = "engine.integrations.pipecat.transport"
STOCK_WEBSOCKET = "pipecat.transports.websocket.fastapi"
OUR_WEBSOCKET = "engine.integrations.pipecat.fastapi"


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("pipecat-page"))


@pytest.fixture
def namespace() -> Iterator[str]:
    chromium()
    with loopback_namespace() as name:
        yield name


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """The bot with one import changed."""
    source = BOT.read_text()
    assert source.count(IMPORT) == 1
    path = tmp_path / "changed.py"
    path.write_text(source.replace(IMPORT, CHANGED))
    return path


@pytest.mark.parametrize("transport", [STOCK, OURS])
async def test_client_and_pipeline_hear_each_other_and_exchange_messages(
    transport: str,
    changed: Path,
    runtime_dir: Path,
    namespace: str,
    bundled: Path,
    tmp_path: Path,
) -> None:
    bot = changed if transport == OURS else BOT
    async with calling(bot, runtime_dir, namespace, bundled, tmp_path) as client:
        timed = await client.start(body={"language": "de"})

        print(f"startBotAndConnect to bot-ready: {timed['ms']:.0f} ms")
        assert timed["ready"]["version"] == "2.2.0"
        assert timed["ready"]["about"]["library"] == "pipecat-ai"
        who = await client.ask("who")
        assert who["transport"] == transport
        assert who["request_data"] == {"language": "de"}
        assert who["events"] == ["connected"]
        await client.bot_hears_tone()
        await client.hears_tone(MIC_HZ)
        assert await client.ask("echo", LARGE) == LARGE
        await client.ask("say", LARGE)
        assert await client.hears("onServerMessage") == [LARGE]
        await client.run("() => rtvi.client.disconnectBot()")
        await client.hears("onBotDisconnected")
        await client.hears("onDisconnected")
        await client.idle()


async def test_a_client_calls_a_pipeline_five_times_in_a_row(
    changed: Path, runtime_dir: Path, namespace: str, bundled: Path, tmp_path: Path
) -> None:
    async with calling(changed, runtime_dir, namespace, bundled, tmp_path) as client:
        sessions = set()
        for number in range(5):
            data = {"call": number}
            timed = await (client.start(body=data) if number % 2 else client.connect(data))
            print(f"call {number}: bot-ready after {timed['ms']:.0f} ms")
            who = await client.ask("who")
            assert who["request_data"] == data
            assert who["events"] == ["connected"]
            sessions.add(who["session"])
            await client.hears_tone(MIC_HZ)
            await client.disconnect()
            await client.idle()

        assert len(sessions) == 5


async def test_a_pipeline_goes_on_through_a_new_connection_and_another_worker(
    changed: Path, runtime_dir: Path, namespace: str, bundled: Path, tmp_path: Path
) -> None:
    async with calling(
        changed, runtime_dir, namespace, bundled, tmp_path, ownTracks=True
    ) as client:
        await client.start(body="kept")
        await client.hears_tone(MIC_HZ)
        before = await client.ask("who")

        # What the client does by itself when its connection fails.
        await client.run("() => rtvi.transport.attemptReconnection(true)")
        await client.open()
        await client.bot_hears_tone()
        await client.hears_tone(MIC_HZ)
        assert await client.ask("who") == before
        workers = (await client.health())["workers"]
        (busy,) = [worker["pid"] for worker in workers if worker["sessions"]]
        psutil.Process(busy).kill()

        await client.reconnected(timeout_s=30)
        await client.bot_hears_tone()
        await client.hears_tone(MIC_HZ)
        after = await client.ask("who")
        assert after["session"] == before["session"]
        assert after["events"] == ["connected"]  # our fault is no farewell of the caller's
        assert len(await client.said("onBotReady")) == 1
        assert await client.said("onDisconnected") == []


@pytest.mark.parametrize("transport", [STOCK_WEBSOCKET, OUR_WEBSOCKET])
async def test_a_client_over_websocket_calls_a_pipeline_twice(
    transport: str,
    changed: Path,
    runtime_dir: Path,
    namespace: str,
    bundled: Path,
    tmp_path: Path,
) -> None:
    bot = changed if transport == OUR_WEBSOCKET else BOT
    async with calling(bot, runtime_dir, namespace, bundled, tmp_path, over="websocket") as client:
        for number in range(2):
            data = {"call": number}
            timed = await client.start(transport="websocket", body=data)

            print(f"startBotAndConnect to bot-ready: {timed['ms']:.0f} ms")
            assert timed["ready"]["about"]["library"] == "pipecat-ai"
            who = await client.ask("who")
            assert who["transport"] == transport
            assert who["request_data"] == data
            assert who["events"] == ["connected"]
            await client.bot_hears_tone()
            await client.receives_tone(MIC_HZ)
            assert await client.ask("echo", LARGE) == LARGE
            await client.ask("say", LARGE)
            assert (await client.hears("onServerMessage", number + 1))[number] == LARGE
            if number == 0:
                await client.disconnect()
            else:
                await client.run("() => rtvi.client.disconnectBot()")
            await client.hears("onDisconnected", number + 1)
            await client.idle()
