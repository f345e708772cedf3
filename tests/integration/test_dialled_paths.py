"""The ways to a WebSocket server: TLS, redirects, a proxy, headers; and whole messages."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

from ipc.errors import DialFailed
from tests.fakes.authority import Authority
from tests.fakes.http_proxy import HttpProxy
from tests.fakes.serve import ServeProcess
from tests.fakes.websocket_server import FarServer
from tests.integration.test_dialled import HZ, dialling, open_at
from tests.support import pattern, until

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request


async def test_a_server_with_a_certificate_of_our_own_authority(
    runtime_dir: Path, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    said = pattern(0, HZ // 2)
    async with (
        ServeProcess(runtime_dir, "--bots", "0", "--tls-ca-file", str(authority.file)) as serve,
        dialling(serve) as bot,
        FarServer(tls=authority.server()) as far,
        FarServer(tls=authority.server("elsewhere.invalid")) as wrong,
    ):
        session = await open_at(bot, far.uri)
        await session.play(said)
        session.end_of_speech()
        await session.wait_played()
        await until(lambda: len(far.pcm()) == len(said))
        assert far.pcm() == said
        await far.speak(said, HZ)
        frame = await anext(aiter(session.audio()))
        assert bytes(frame.pcm) == said[:640]
        await session.close()
        with pytest.raises(DialFailed) as refused:
            await open_at(bot, wrong.uri)
        assert refused.value.code == "dial_tls"


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    serve: ServeProcess, tmp_path: Path
) -> None:
    async with (
        dialling(serve) as bot,
        FarServer(tls=Authority(tmp_path).server()) as far,
    ):
        with pytest.raises(DialFailed) as refused:
            await open_at(bot, far.uri)
        assert refused.value.code == "dial_tls"


async def test_redirects_are_followed_and_tell_no_secrets_elsewhere(serve: ServeProcess) -> None:
    seen: list[dict[str, str]] = []

    def look(_connection: ServerConnection, request: Request) -> None:
        seen.append(dict(request.headers.raw_items()))

    async with dialling(serve) as bot, FarServer(process_request=look) as far:

        def lead(connection: ServerConnection, request: Request) -> Any:
            response = connection.respond(HTTPStatus.TEMPORARY_REDIRECT, "")
            response.headers["Location"] = far.uri if request.path == "/bot" else "/bot"
            return response

        async with FarServer(process_request=lead) as door:
            uri = door.uri.replace("/bot", "/first")
            session = await open_at(
                bot, uri, headers={"Authorization": "Bearer secret", "X-Name": "me"}
            )
            assert session.remote_address[1] == far.port
            assert seen[0]["X-Name"] == "me"
            assert "Authorization" not in seen[0]
            await session.close()

        def turn(connection: ServerConnection, _request: Request) -> Any:
            response = connection.respond(HTTPStatus.FOUND, "")
            response.headers["Location"] = "/round"
            return response

        async with FarServer(process_request=turn) as circle:
            with pytest.raises(DialFailed) as lost:
                await open_at(bot, circle.uri)
            assert lost.value.code == "dial_redirects"


async def test_a_proxy_is_asked_for_the_way(runtime_dir: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        ServeProcess(runtime_dir, "--bots", "0", "--tls-ca-file", str(authority.file)) as serve,
        dialling(serve) as bot,
        FarServer() as far,
        FarServer(tls=authority.server()) as safe,
        HttpProxy("me:secret") as proxy,
    ):
        way = f"http://me:secret@127.0.0.1:{proxy.port}"
        for server in (far, safe):
            session = await open_at(bot, server.uri, proxy=way)
            assert await session.send_raw("through it")
            await until(lambda server=server: server.messages == ["through it"])  # type: ignore[misc]
            await session.close()
        asked = [f"CONNECT localhost:{server.port} HTTP/1.1" for server in (far, safe)]
        assert proxy.requests == asked
        with pytest.raises(DialFailed) as refused:
            await open_at(bot, far.uri, proxy=f"http://127.0.0.1:{proxy.port}")
        assert refused.value.code == "dial_proxy"
        with pytest.raises(DialFailed) as closed:
            await open_at(bot, far.uri, proxy="http://127.0.0.1:9")
        assert closed.value.code == "dial_proxy"


async def test_compression_only_when_asked_and_the_subprotocol_is_told(
    serve: ServeProcess,
) -> None:
    async with (
        dialling(serve) as bot,
        FarServer(subprotocols=["other", "audio"]) as far,
    ):
        plain = await open_at(bot, far.uri, subprotocols=["no", "other"])
        assert plain.subprotocol == "other"
        packed = await open_at(bot, far.uri, compression=True, subprotocols=["audio"])
        assert packed.subprotocol == "audio"
        extensions = [
            connection.request.headers.get("Sec-WebSocket-Extensions")
            for connection in far.connections
            if connection.request is not None
        ]
        assert extensions[0] is None
        assert "permessage-deflate" in str(extensions[1])
        await packed.play(pattern(0, HZ // 5))
        packed.end_of_speech()
        await packed.wait_played()
        await until(lambda: len(far.pcm()) == 2 * HZ // 5)
        assert far.pcm() == pattern(0, HZ // 5)


async def test_other_rates_are_converted_once_each_way(serve: ServeProcess) -> None:
    async with dialling(serve) as bot, FarServer() as far:
        session = await open_at(bot, far.uri, out_hz=24_000, out_channels=2)
        await session.play(bytes(2 * HZ))
        session.end_of_speech()
        await session.wait_played()
        await until(lambda: len(far.pcm()) >= 24_000 * 4 - 960)
        assert {(f.sample_rate, f.num_channels) for f in far.audio()} == {(24_000, 2)}
        await far.speak(bytes(44_100 * 4), 44_100, 2)
        heard = 0
        async with asyncio.timeout(30):
            async for frame in session.audio():
                heard += len(frame.pcm) // 2
                if heard > HZ - HZ // 20:
                    break
        assert frame.hz == HZ


async def test_messages_of_ones_own_are_paced_and_flushed(serve: ServeProcess) -> None:
    async with dialling(serve) as bot, FarServer() as far:
        session = await open_at(bot, far.uri, serializer=None)
        outgoing = session.outgoing
        ends: list[int] = []

        async def talk() -> None:
            while True:  # more than a second of them waits at any time
                ends.append(await outgoing.play(f"chunk {len(ends)}", 40))

        loop = asyncio.get_running_loop()
        began_s = loop.time()
        talking = asyncio.create_task(talk())
        await until(lambda: len(ends) >= 10)
        assert await outgoing.wait(ends[9])
        assert loop.time() - began_s > 0.2, "they leave in their time"
        lasting = await outgoing.play(b"stays", 40, interruptible=False)
        talking.cancel()
        outgoing.flush()
        assert not await outgoing.wait(ends[-1])
        assert await outgoing.wait(lasting)
        await until(lambda: far.messages and far.messages[-1] == b"stays")
        assert far.messages[:10] == [f"chunk {number}" for number in range(10)]
        assert f"chunk {len(ends) - 1}" not in far.messages
        raw = session.raw_messages()
        await far.connections[0].send("text")
        await far.connections[0].send(b"\x00bytes")
        assert [await anext(raw), await anext(raw)] == ["text", b"\x00bytes"]
