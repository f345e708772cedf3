"""Pipecat's unmodified JavaScript client calls over WebSocket: words, sound, returns, and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from tests.fakes.pipecat_page import LARGE, MIC_HZ, calling
from tests.fakes.wait import eventually
from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.pipecat_page import Client

pytestmark = pytest.mark.xdist_group("browser")

BOT = ROOT / "tests" / "fakes" / "bots" / "rtvi.py"
SONG_HZ = 1000.0
WEBSOCKET = {"over": "websocket"}


async def start(client: Client, body: object = None) -> float:
    """Call by way of `/start`; how long it took until the bot was ready, in ms."""
    timed = await client.start(transport="websocket", body=body)
    return float(timed["ms"])


async def test_a_started_call_carries_sound_and_words_both_ways(
    runtime_dir: Path, namespace: str, bundled: Path, tmp_path: Path
) -> None:
    async with calling(BOT, runtime_dir, namespace, bundled, tmp_path, **WEBSOCKET) as client:
        timed = await client.start(transport="websocket", body={"language": "de"})

        print(f"startBotAndConnect to bot-ready: {timed['ms']:.0f} ms")
        assert timed["ready"]["version"] == "2.2.0"
        assert timed["ready"]["about"] == {"library": "backbeat's tests"}
        who = await client.ask("who")
        assert who["request_data"] == {"language": "de"}
        assert who["client"].startswith("2.")
        await client.bot_hears_tone()
        await client.receives_tone(MIC_HZ)
        await client.hears_tone(MIC_HZ)
        await client.ask("sing", SONG_HZ)
        await client.receives_tone(SONG_HZ)
        await client.hears_tone(SONG_HZ)

        assert await client.ask("echo", {"a": [1, None, "–"]}) == {"a": [1, None, "–"]}
        assert await client.ask("echo", LARGE) == LARGE
        await client.run("text => rtvi.client.sendText(text)", LARGE)
        assert await client.hears("onServerMessage") == [LARGE]
        for number in range(20):
            await client.run("n => rtvi.client.sendText(`message ${n}`)", number)
        said = await client.hears("onServerMessage", 21)
        assert said[1:] == [f"message {number}" for number in range(20)]

        assert await client.said("onError") == []
        assert await client.said("onMessageError") == []


async def test_a_client_calls_again_and_again_and_hears_how_each_call_ends(
    runtime_dir: Path, namespace: str, bundled: Path, tmp_path: Path
) -> None:
    async with calling(BOT, runtime_dir, namespace, bundled, tmp_path, **WEBSOCKET) as client:
        sessions = set()
        for number in range(3):
            took_ms = await start(client, {"call": number})
            print(f"call {number}: bot-ready after {took_ms:.0f} ms")
            who = await client.ask("who")
            assert who["request_data"] == {"call": number}
            sessions.add(who["session"])
            await client.bot_hears_tone()
            await client.receives_tone(MIC_HZ)
            await client.disconnect()
            await client.idle()
        assert len(sessions) == 3
        assert len(await client.said("onBotReady")) == 3
        assert len(await client.said("onDisconnected")) == 3
        assert await client.said("onError") == []

        # What a bot that leaves looks like: this client has no other word for it.
        ends = ("() => rtvi.client.sendClientMessage('leave')", "() => rtvi.client.disconnectBot()")
        for number, end in enumerate(ends, 1):
            await start(client)
            await client.run(end)
            (*_, error) = await client.hears("onError", number)
            assert error["data"]["message"] == "websocket connection closed. Code: 1000"
            await client.hears("onDisconnected", 3 + number)
            await client.idle()

        (*_, used) = await client.said("onBotStarted")
        assert "error" not in await client.said("onTransportStateChanged")
        for token in (used["token"], "nobody's"):
            refusal = "found => rtvi.join(found).then(() => 'in', error => error.message)"
            message = await client.run(refusal, used | {"token": token})
            assert message.startswith("Failed to connect to websocket")
            # A page is told no more of an answer that is no upgrade.
            assert "1006" in message
            assert "error" in await client.said("onTransportStateChanged")
            await client.run("() => { rtvi.seen = []; }")


async def test_a_call_goes_on_when_its_client_comes_back_after_its_worker_was_killed(
    runtime_dir: Path, namespace: str, bundled: Path, tmp_path: Path
) -> None:
    async with calling(BOT, runtime_dir, namespace, bundled, tmp_path, **WEBSOCKET) as client:
        await start(client, "kept")
        await client.bot_hears_tone()
        before = await client.ask("who")
        (found,) = await client.said("onBotStarted")
        workers = (await client.health())["workers"]
        (busy,) = [worker["pid"] for worker in workers if worker["sessions"]]

        psutil.Process(busy).kill()

        (error,) = await client.hears("onError")
        assert error["data"]["message"] == "websocket connection closed. Code: 1006"
        await client.hears("onDisconnected")

        async def comes_back() -> bool:
            joined = "found => rtvi.join(found).then(() => true, () => false)"
            return bool(await client.run(joined, found))

        await eventually(comes_back, "the client comes back")
        after = await client.ask("who")
        assert after["session"] == before["session"]
        assert after["request_data"] == "kept"
        assert after["disconnected"] == ["worker_died"]
        assert after["connected"] == [False, True]
        await client.bot_hears_tone()
        await client.receives_tone(MIC_HZ)
