"""Pipecat's unmodified JavaScript client calls a bare bot of the SDK: words, sound, and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from tests.fakes.pipecat_page import LARGE, MIC_HZ, calling
from tests.fakes.wait import eventually
from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("browser")

BOT = ROOT / "tests" / "fakes" / "bots" / "rtvi.py"
SONG_HZ = 1000.0


async def test_a_started_call_reaches_bot_ready_and_both_hear_each_other(
    runtime_dir: Path, namespace: str, bundled: Path, tmp_path: Path
) -> None:
    async with calling(BOT, runtime_dir, namespace, bundled, tmp_path) as client:
        timed = await client.start(body={"language": "de"})

        print(f"startBotAndConnect to bot-ready: {timed['ms']:.0f} ms")
        assert timed["ready"]["version"] == "2.2.0"
        assert timed["ready"]["about"] == {"library": "backbeat's tests"}
        assert timed["ready"]["capabilities"]["audio_out"] is True
        who = await client.ask("who")
        assert who["request_data"] == {"language": "de"}
        assert who["client"].startswith("2.")
        assert who["tracks"] == {"0": True, "1": False}
        assert await client.hears("onTrackStarted") == ["audio"]
        await client.bot_hears_tone()
        await client.hears_tone(MIC_HZ)
        await client.ask("sing", SONG_HZ)
        await client.hears_tone(SONG_HZ)
        assert await client.said("onError") == []


async def test_a_muted_microphone_is_told_and_silent(
    runtime_dir: Path, namespace: str, bundled: Path, tmp_path: Path
) -> None:
    async with calling(BOT, runtime_dir, namespace, bundled, tmp_path) as client:
        await client.start()
        await client.bot_hears_tone()

        await client.run("() => rtvi.client.enableMic(false)")

        await client.bot_hears_silence()
        assert (await client.ask("who"))["tracks"]["0"] is False
        await client.run("() => rtvi.client.enableMic(true)")
        await client.bot_hears_tone()
        assert (await client.ask("who"))["tracks"]["0"] is True


async def test_the_offer_endpoint_alone_is_enough_and_messages_go_both_ways(
    runtime_dir: Path, namespace: str, bundled: Path, tmp_path: Path
) -> None:
    async with calling(BOT, runtime_dir, namespace, bundled, tmp_path) as client:
        timed = await client.connect({"customer": 7})

        print(f"connect to bot-ready: {timed['ms']:.0f} ms")
        who = await client.ask("who")
        assert who["request_data"] == {"customer": 7}
        assert await client.ask("echo", {"a": [1, None, "–"]}) == {"a": [1, None, "–"]}
        assert await client.ask("echo", LARGE) == LARGE
        await client.run("text => rtvi.client.sendText(text)", LARGE)
        assert await client.hears("onServerMessage") == [LARGE]
        for number in range(20):
            await client.run("n => rtvi.client.sendText(`message ${n}`)", number)
        said = await client.hears("onServerMessage", 21)
        assert said[1:] == [f"message {number}" for number in range(20)]
        assert await client.said("onMessageError") == []
        # No request without an answer: what this bot does not know is refused.
        dance = "() => rtvi.ask('dance').catch(refusal => refusal.data.error)"
        assert await client.run(dance) == "this bot does not answer 'dance'"
        assert len(await client.said("onMessageError")) == 1


async def test_a_client_calls_five_times_in_a_row(
    runtime_dir: Path, namespace: str, bundled: Path, tmp_path: Path
) -> None:
    async with calling(BOT, runtime_dir, namespace, bundled, tmp_path) as client:
        sessions = set()
        for number in range(5):
            data = {"call": number}
            timed = await (client.start(body=data) if number % 2 else client.connect(data))
            who = await client.ask("who")
            assert who["request_data"] == data
            sessions.add(who["session"])
            await client.bot_hears_tone()
            await client.hears_tone(MIC_HZ)
            await client.disconnect()
            await client.idle()
            print(f"call {number}: bot-ready after {timed['ms']:.0f} ms")

        assert len(sessions) == 5
        assert len(await client.said("onBotReady")) == 5
        assert len(await client.said("onDisconnected")) == 5


async def test_a_call_goes_on_through_new_offers_and_new_peer_connections(
    runtime_dir: Path, namespace: str, bundled: Path, tmp_path: Path
) -> None:
    async with calling(BOT, runtime_dir, namespace, bundled, tmp_path, ownTracks=True) as client:
        await client.start(body="kept")
        await client.bot_hears_tone()
        before, offer = await client.ask("who"), await client.offer()

        await client.ask("renegotiate")

        async def offered() -> bool:
            return await client.offer() != offer

        await eventually(offered, "the client offers again on the same connection")
        await client.bot_hears_tone()
        await client.hears_tone(MIC_HZ)
        for _ in range(2):
            # What the client does by itself when its connection fails.
            await client.run("() => rtvi.transport.attemptReconnection(true)")
            await client.open()
            await client.bot_hears_tone()
            await client.hears_tone(MIC_HZ)

        assert await client.ask("who") == before
        assert len(await client.said("onBotReady")) == 1
        assert await client.said("onDisconnected") == []


async def test_a_call_goes_on_after_its_worker_was_killed(
    runtime_dir: Path, namespace: str, bundled: Path, tmp_path: Path
) -> None:
    async with calling(BOT, runtime_dir, namespace, bundled, tmp_path, ownTracks=True) as client:
        await client.start(body="kept")
        await client.bot_hears_tone()
        before = await client.ask("who")
        workers = (await client.health())["workers"]
        (busy,) = [worker["pid"] for worker in workers if worker["sessions"]]

        psutil.Process(busy).kill()

        # Chromium takes 6 s to miss the dead worker, and the client waits 5 s more.
        await client.reconnected(timeout_s=30)
        after = await client.ask("who")
        assert after["session"] == before["session"]
        assert after["request_data"] == "kept"
        assert after["disconnected"] == ["worker_died"]
        await client.bot_hears_tone()
        await client.hears_tone(MIC_HZ)
        assert len(await client.said("onBotReady")) == 1
        assert await client.said("onDisconnected") == []


async def test_a_bot_that_leaves_disconnects_its_client(
    runtime_dir: Path, namespace: str, bundled: Path, tmp_path: Path
) -> None:
    async with calling(BOT, runtime_dir, namespace, bundled, tmp_path) as client:
        ends = ("() => rtvi.client.sendClientMessage('leave')", "() => rtvi.client.disconnectBot()")
        for number, end in enumerate(ends, 1):
            await client.start()

            await client.run(end)

            await client.hears("onBotDisconnected", number)
            await client.hears("onDisconnected", number)
            await client.idle()
            assert (await client.said("onTransportStateChanged"))[-1] == "disconnected"


async def test_what_is_refused_reaches_the_page_as_the_clients_own_errors(
    runtime_dir: Path, namespace: str, bundled: Path, tmp_path: Path
) -> None:
    async with calling(BOT, runtime_dir, namespace, bundled, tmp_path) as client:
        code = "url => rtvi.start(url, {transport: 'daily'}).catch(error => error.message)"
        said = await client.run(code, f"{client.engine}/start")
        assert said == "calls come by webrtc or websocket here, not by 'daily'"

        refused = await client.fails("connect", "/sessions/nobody/api/offer")
        assert refused["status"] == 404
        assert "404" in refused["message"]
