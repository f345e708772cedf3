"""Callers who come over WebSocket: both paths, messages, tokens, refusals and the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from engine.sdk import Bot, Rtvi, Session
from tests.fakes.bot import serving
from tests.fakes.wait import eventually
from tests.fakes.websocket_caller import WebsocketCaller, refused, start
from tests.support import pattern, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fakes.serve import ServeProcess

READY = {
    "label": "rtvi-ai",
    "type": "client-ready",
    "id": "1",
    "data": {"version": "2.2.0", "about": {"library": "test"}},
}


class Hosted:
    """An echo bot that keeps its sessions and what happens to them."""

    def __init__(self, **options: Any) -> None:
        self.bot = Bot("echo", **{"capacity": 2, "mic_hz": 48_000, "speaker_hz": 48_000, **options})
        self.sessions: list[Session] = []
        self.events: list[tuple[object, ...]] = []
        self.bot.session(self._echo)

    async def _echo(self, session: Session) -> None:
        self.sessions.append(session)
        events = self.events
        session.on("connected", lambda resumed: events.append(("connected", resumed)))
        session.on("disconnected", lambda reason: events.append(("disconnected", reason)))
        session.on("closed", lambda reason: events.append(("closed", reason)))
        session.on("message", lambda data: events.append(("message", data)))
        Rtvi(session)
        async for frame in session.audio():
            await session.play(frame)


@pytest.fixture
async def hosted(serve: ServeProcess) -> AsyncIterator[Hosted]:
    host = Hosted()
    async with serving(host.bot, serve.endpoint):
        yield host
        await eventually(lambda: _none_left(serve), "no session is left")


async def _none_left(serve: ServeProcess) -> bool:
    _, health = await serve.health()
    return not health["sessions"]


@pytest.mark.usefixtures("patient_flushes")
async def test_a_pipecat_client_is_echoed_at_24_khz_and_shakes_hands(
    serve: ServeProcess, hosted: Hosted
) -> None:
    async with await WebsocketCaller.through(serve.url, {"who": "me"}) as caller:
        await caller.say(READY)
        await until(lambda: caller.messages)
        assert caller.messages[0]["type"] == "bot-ready"
        caller.speak(440)
        await caller.hears_tone(440)
        assert caller.rates() == {(24_000, 1)}
        (session,) = hosted.sessions
        assert session.request_data == {"who": "me"}
        assert session.transport == "websocket"
        stats = (await session.stats())["backbeat-websocket"]
        assert stats["connected"]
        assert stats["audioMessagesReceived"] > 10
        async with serve.client() as client:
            (listed,) = (await client.get("/api/sessions")).json()
        assert (listed["transport"], listed["state"]) == ("websocket", "live")
        flushed = await session.flush()
        assert flushed.exact
        await caller.hears_tone(440)
    await until(lambda: ("closed", "caller_left") in hosted.events)
    assert ("disconnected", "caller_left") in hosted.events
    kinds = {type(data) for data in caller.raw}
    assert kinds == {bytes}


async def test_raw_pcm_comes_back_at_its_own_rate_and_a_flush_says_so(
    serve: ServeProcess, hosted: Hosted
) -> None:
    found = await start(serve.url)
    url = found["wsUrl"].removesuffix("-client") + "?rate=16000"
    async with WebsocketCaller(url, found["token"]) as caller:
        caller.speak(300)
        await caller.hears_tone(300, hz=16_000)
        await caller.say({"hello": 1})
        await until(lambda: ("message", {"hello": 1}) in hosted.events)
        (session,) = hosted.sessions
        session.send({"said": 2})
        await until(lambda: {"said": 2} in caller.messages)
        await session.flush()
        await until(lambda: {"type": "interruption"} in caller.messages)
        await session.close("enough")
        assert await caller.close_code() == (1000, "enough")


async def test_a_token_is_good_for_one_session(serve: ServeProcess, hosted: Hosted) -> None:
    found = await start(serve.url)
    assert set(found) == {"wsUrl", "token"}
    async with WebsocketCaller(found["wsUrl"], found["token"]):
        await until(lambda: hosted.events)
    await until(lambda: ("closed", "caller_left") in hosted.events)
    await eventually(lambda: _none_left(serve), "no session is left")
    status, body = await refused(found["wsUrl"], found["token"])
    assert (status, body["code"]) == (401, "bad_token")


async def test_whoever_may_not_come_in_hears_why_before_the_upgrade(serve: ServeProcess) -> None:
    found = await start(serve.url)
    url, token = found["wsUrl"], found["token"]
    raw = url.removesuffix("-client")
    address, port = url.split("/")[2].split(":")
    at = {"host": address, "port": int(port)}
    path = url.removeprefix(f"ws://{address}:{port}")
    page = {"origin": "https://elsewhere.example"}
    cases: list[tuple[tuple[int, str], str, str, dict[str, Any]]] = [
        ((401, "no_token"), url, "", {}),
        ((401, "bad_token"), url, token[:-1] + "!", {}),
        ((404, "not_found"), url.replace("ws-client", "nothing"), token, {}),
        ((400, "rate"), f"{raw}?rate=7", token, {}),
        ((400, "channels"), f"{raw}?channels=x", token, {}),
        ((403, "origin_not_allowed"), url, token, page),
        ((403, "host_not_allowed"), f"ws://evil.example{path}", token, at),
        ((503, "no_bot"), url, token, {}),
    ]
    for expected, where, with_token, options in cases:
        status, body = await refused(where, with_token, **options)
        assert (status, body["code"]) == expected
    host = Hosted()
    async with serving(host.bot, serve.endpoint):  # the token is still good
        async with WebsocketCaller(url, token, origin="http://127.0.0.1:7860"):
            await until(lambda: ("connected", False) in host.events)
        await until(lambda: ("closed", "caller_left") in host.events)


async def test_a_caller_whose_connection_broke_goes_on_with_its_session(
    serve: ServeProcess, hosted: Hosted
) -> None:
    found = await start(serve.url)
    async with WebsocketCaller(found["wsUrl"], found["token"]) as caller:
        caller.speak(440)
        await caller.hears_tone(440)
        (session,) = hosted.sessions
        position = session.position
        caller.vanish()
        await until(lambda: ("disconnected", "connection_lost") in hosted.events)
    async with WebsocketCaller(found["wsUrl"], found["token"]) as caller:
        await until(lambda: ("connected", True) in hosted.events)
        caller.speak(330)
        await caller.hears_tone(330)
        assert session.position > position
        async with WebsocketCaller(found["wsUrl"], found["token"]) as again:
            assert await caller.close_code() == (1000, "replaced")
            again.speak(550)
            await again.hears_tone(550)
    assert len(hosted.sessions) == 1


async def test_garbage_is_turned_away_and_counted_while_a_call_goes_on(
    serve: ServeProcess, hosted: Hosted
) -> None:
    found = await start(serve.url)
    address, port = found["wsUrl"].split("//")[1].split("/")[0].split(":")
    garbage = [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET /ws-client HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9\r\nHost: x\r\n\r\n",
        b"POST /ws-client HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
        b"A" * 20_000,
        b"",
    ]
    async with WebsocketCaller(found["wsUrl"], found["token"]) as caller:
        caller.speak(440)
        await caller.hears_tone(440)
        for data in garbage:
            reader, writer = await asyncio.open_connection(address, int(port))
            writer.write(data)
            if data:
                answer = await reader.read()
                assert answer.startswith(b"HTTP/1.1 4")
            writer.close()
        await caller.send_audio(pattern(0, 100), hz=1)
        await caller.socket.send("text is not protobuf")
        await caller.socket.send(b"\xff\xff nonsense")
        (session,) = hosted.sessions

        async def counted() -> bool:
            record = (await session.stats())["backbeat-websocket"]
            return int(record["malformedMessages"]) == 3

        await eventually(counted, "what could not be understood is counted")

        async def told() -> bool:
            _, health = await serve.health()
            counts: Counter[str] = Counter()
            for worker in health["workers"]:  # any of them takes a caller
                counts.update(worker["upgrades"])
            return counts["malformed"] >= 3 and counts["accepted"] >= 1

        await eventually(told, "the refusals are counted")
        caller.messages.clear()
        await caller.say(READY)
        await until(lambda: caller.messages)
