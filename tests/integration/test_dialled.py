"""Sessions with a WebSocket server that a bot has dialled: audio both ways, events, the end."""

from __future__ import annotations

import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from engine.sdk import Bot
from ipc.errors import BotError, ConfigError, DialFailed, SessionClosed
from ipc.frames import InterruptionFrame, OutputTransportMessageFrame
from tests.fakes.bot import serving
from tests.fakes.wait import eventually
from tests.fakes.websocket_server import FarServer
from tests.support import pattern, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.asyncio.server import ServerConnection

    from engine.sdk.websocket import WebsocketSession
    from tests.fakes.serve import ServeProcess

HZ = 16_000


@asynccontextmanager
async def dialling(serve: ServeProcess, *, media: str = "shm") -> AsyncIterator[Bot]:
    bot = Bot("client", capacity=0, media=media)  # type: ignore[arg-type]
    async with serving(bot, serve.endpoint):
        yield bot


async def open_at(bot: Bot, uri: str, **options: Any) -> WebsocketSession:
    options = {"mic_hz": HZ, "speaker_hz": HZ, **options}
    return await bot.open_websocket(uri, **options)


async def none_left(serve: ServeProcess) -> bool:
    _, health = await serve.health()
    return not health["sessions"]


@pytest.mark.parametrize("media", ["shm", "zmq"])
async def test_speech_goes_both_ways_to_the_sample(serve: ServeProcess, media: str) -> None:
    said = pattern(0, HZ)
    async with dialling(serve, media=media) as bot, FarServer() as far:
        session = await open_at(bot, far.uri)
        assert session.connected or await session_connected(session)
        await session.play(said)
        session.end_of_speech()
        await session.wait_played()
        await until(lambda: len(far.pcm()) == len(said))
        assert far.pcm() == said
        assert {len(frame.audio) for frame in far.audio()} == {2 * HZ * 40 // 1000}
        await far.speak(said, HZ)
        heard = b""
        async for frame in session.audio():
            heard += bytes(frame.pcm)
            if len(heard) == len(said):
                break
        assert heard == said
        stats = (await session.stats())["backbeat-websocket"]
        assert stats["audioMessagesSent"] == 25
        assert stats["audioMessagesReceived"] == 1
        await session.close()
        await until(lambda: far.closed)
        assert far.closed[0][0] == 1000
        await eventually(lambda: none_left(serve), "no session is left")


async def session_connected(session: WebsocketSession) -> bool:
    await until(lambda: session.connected)
    return True


async def test_a_server_that_speaks_first_is_heard_from_its_first_sample(
    serve: ServeProcess,
) -> None:
    said = pattern(0, HZ // 2)

    async def greet(server: FarServer, _connection: ServerConnection) -> None:
        await server.speak(said, HZ)
        await server.say(OutputTransportMessageFrame(message={"hello": 1}))

    async with dialling(serve) as bot, FarServer(greet) as far:
        session = await open_at(bot, far.uri, media=False)
        messages = session.messages()
        assert await anext(messages) == {"hello": 1}
        await session.open_media(mic_hz=HZ, speaker_hz=HZ)
        heard = b""
        async for frame in session.audio():
            heard += bytes(frame.pcm)
            if len(heard) == len(said):
                break
        assert heard == said


async def test_raw_pcm_by_its_name_has_the_rate_of_the_rings(serve: ServeProcess) -> None:
    said = pattern(0, 960)
    async with dialling(serve) as bot, FarServer() as far:
        session = await open_at(
            bot, far.uri, serializer="raw_pcm", mic_hz=48_000, speaker_hz=48_000
        )
        await far.connections[0].send(said)
        frame = await anext(aiter(session.audio()))
        assert bytes(frame.pcm) == said


async def test_what_is_no_audio_comes_as_it_was_and_garbage_ends_nothing(
    serve: ServeProcess,
) -> None:
    async with dialling(serve) as bot, FarServer() as far:
        session = await open_at(bot, far.uri)
        raw = session.raw_messages()
        connection = far.connections[0]
        await connection.send("some text")
        assert await anext(raw) == "some text"
        await connection.send(b"\xff\xff\xff garbage")
        assert await anext(raw) == b"\xff\xff\xff garbage"
        await far.say(OutputTransportMessageFrame(message={"type": "x"}))
        assert b'{"type": "x"}' in bytes(await anext(raw))  # type: ignore[arg-type]
        assert await anext(session.messages()) == {"type": "x"}
        await far.speak(pattern(0, 320), HZ)
        frame = await anext(aiter(session.audio()))
        assert bytes(frame.pcm) == pattern(0, 320)
        assert session.connected


async def test_messages_are_sent_in_the_form_of_the_wire_and_raw(serve: ServeProcess) -> None:
    async with dialling(serve) as bot, FarServer() as far:
        session = await open_at(bot, far.uri)
        assert session.send({"a": 1})
        await until(lambda: far.messages)
        frame = far.frames()[0]
        assert frame is not None
        assert frame.message == {"a": 1}  # type: ignore[attr-defined]
        assert await session.send_raw("text")
        assert await session.send_raw(b"\x00\x01")
        await until(lambda: len(far.messages) == 3)
        assert far.messages[1:] == ["text", b"\x00\x01"]


@pytest.mark.usefixtures("patient_flushes")
async def test_a_flush_cuts_and_tells_the_server(serve: ServeProcess) -> None:
    async with dialling(serve) as bot, FarServer() as far:
        session = await open_at(bot, far.uri)
        left, cut = b"", False
        while not cut:  # one that comes behind the last word cuts nothing
            count, said = len(far.audio()), pattern(0, HZ)
            start = (await session.play(said)).start
            await until(lambda more=count + 5: len(far.audio()) >= more)  # type: ignore[misc]
            flushed = await session.flush()
            assert flushed.exact
            sent = flushed.cursor - start
            assert 0 < sent <= HZ
            cut = sent < HZ
            left += said[: 2 * sent]
        await until(lambda: any(isinstance(frame, InterruptionFrame) for frame in far.frames()))
        await until(lambda: len(far.pcm()) >= len(left))
        assert far.pcm() == left
        again = pattern(HZ, HZ // 4)
        await session.play(again)
        session.end_of_speech()
        await session.wait_played()
        await until(lambda: len(far.pcm()) == len(left) + len(again))
        assert far.pcm().endswith(again)


async def test_a_server_that_leaves_ends_the_session(serve: ServeProcess) -> None:
    events: list[tuple[Any, ...]] = []
    async with dialling(serve) as bot, FarServer() as far:
        session = await open_at(bot, far.uri)
        session.on("disconnected", lambda reason: events.append(("disconnected", reason)))
        session.on("closed", lambda reason: events.append(("closed", reason)))
        await far.connections[0].close(4001, "enough")
        await session.wait_closed()
        await until(lambda: len(events) == 2)
        assert events == [("disconnected", "server_closed"), ("closed", "server_closed")]
        assert (session.close_code, session.close_text) == (4001, "enough")
        assert not await session.send_raw("too late")
        with pytest.raises(SessionClosed):
            await session.play(bytes(2))
        await eventually(lambda: none_left(serve), "no session is left")


async def test_what_cannot_be_dialled_says_why(serve: ServeProcess) -> None:
    async def refuse(connection: ServerConnection, _request: object) -> Any:
        return connection.respond(403, "not you")

    async with dialling(serve) as bot, FarServer(process_request=refuse) as far:
        with pytest.raises(DialFailed) as refused:
            await open_at(bot, far.uri)
        assert refused.value.code == "dial_http_403"
        await far.stop()
        with pytest.raises(DialFailed) as nobody:
            await open_at(bot, far.uri)
        assert nobody.value.code == "dial_refused"
        assert urlsplit(far.uri).netloc in nobody.value.message
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            with pytest.raises(DialFailed) as slow:
                await open_at(bot, f"ws://127.0.0.1:{port}", open_timeout_s=0.2)
            assert slow.value.code == "dial_timeout"
        with pytest.raises(DialFailed) as unknown:
            await open_at(bot, "ws://nobody.invalid/")
        assert unknown.value.code == "dial_unknown_host"
        with pytest.raises(ConfigError):
            await open_at(bot, "http://127.0.0.1/")
        await eventually(lambda: none_left(serve), "no session is left")


async def test_a_bot_without_an_engine_cannot_dial() -> None:
    with pytest.raises(BotError):
        await Bot("alone").open_websocket("ws://127.0.0.1:1/")


async def test_raw_pcm_has_text_for_messages(serve: ServeProcess) -> None:
    async with dialling(serve) as bot, FarServer() as far:
        session = await open_at(bot, far.uri, serializer="raw_pcm")
        await session.play(pattern(0, HZ // 5))
        session.end_of_speech()
        await session.wait_played()
        await until(lambda: len(far.messages) == 5)
        assert b"".join(far.messages) == pattern(0, HZ // 5)  # type: ignore[arg-type]
        await far.connections[0].send(pattern(0, 320))
        frame = await anext(aiter(session.audio()))
        assert bytes(frame.pcm) == pattern(0, 320)
        await far.connections[0].send(json.dumps({"a": [1]}))
        assert await anext(session.messages()) == {"a": [1]}
