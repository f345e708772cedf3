"""Servers that break the rules, stop reading or go away, and workers that die under a call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from ipc.websocket import Reconnect
from tests.fakes.serve import ServeProcess
from tests.fakes.wait import eventually
from tests.fakes.websocket_server import FarServer, deaf
from tests.integration.test_dialled import HZ, dialling, none_left, open_at
from tests.integration.test_moved import kill_the_worker
from tests.support import pattern, until

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection

    from engine.sdk.websocket import WebsocketSession

QUICK = Reconnect(first_s=0.05, longest_s=0.1, within_s=20)


def watch(session: WebsocketSession) -> list[tuple[Any, ...]]:
    events: list[tuple[Any, ...]] = []
    session.on("connected", lambda resumed: events.append(("connected", resumed)))
    session.on("disconnected", lambda reason: events.append(("disconnected", reason)))
    session.on("closed", lambda reason: events.append(("closed", reason)))
    return events


async def closed(session: WebsocketSession) -> str:
    async with asyncio.timeout(30):
        await session.wait_closed()
    return session.close_reason


async def test_a_message_over_the_limit_ends_the_session_by_its_name(serve: ServeProcess) -> None:
    async with dialling(serve) as bot, FarServer() as far:
        session = await open_at(bot, far.uri, max_message_bytes=4_096)
        await far.connections[0].send(bytes(4_000))
        assert await anext(session.raw_messages()) == bytes(4_000)
        await far.connections[0].send(bytes(5_000))
        assert await closed(session) == "message_too_large"
        assert session.close_code == 1009
        await until(lambda: far.closed)
        assert far.closed[0][0] == 1009
        await eventually(lambda: none_left(serve), "no session is left")


async def test_bytes_that_are_no_frames_end_the_session_by_its_name(serve: ServeProcess) -> None:
    async with dialling(serve) as bot, FarServer() as far:
        session = await open_at(bot, far.uri)
        far.connections[0].transport.write(b"\xff\xff\xff\xff nonsense")
        assert await closed(session) == "protocol_error"
        assert session.close_code == 1002


async def test_a_path_that_breaks_is_a_lost_connection(serve: ServeProcess) -> None:
    async with dialling(serve) as bot, FarServer() as far:
        session = await open_at(bot, far.uri)
        far.connections[0].transport.abort()
        assert await closed(session) == "connection_lost"
        assert session.close_code == 1006


async def test_a_message_in_many_fragments_is_one(serve: ServeProcess) -> None:
    async with dialling(serve) as bot, FarServer() as far:
        session = await open_at(bot, far.uri)
        raw = session.raw_messages()
        await far.connections[0].send(["frag", "men", "ted ✓"])
        assert await anext(raw) == "fragmented ✓"
        await far.connections[0].ping()
        await far.connections[0].send("whole")
        assert await anext(raw) == "whole"


async def test_a_server_that_answers_no_ping_is_given_up(serve: ServeProcess) -> None:
    async with dialling(serve) as bot, FarServer(deaf) as far:
        # Longer than a core may be taken away: it would be given up before it is here.
        session = await open_at(bot, far.uri, ping_interval_s=0.1, ping_timeout_s=2.5)
        assert await closed(session) == "ping_timeout"


async def test_a_server_that_does_not_read_holds_the_bot_back_and_is_given_up(
    serve: ServeProcess,
) -> None:
    async with dialling(serve) as bot, FarServer(deaf) as far:
        session = await open_at(
            bot, far.uri, speaker_hz=48_000, speaker_channels=2, stall_s=1.0, lead_ms=1_000
        )
        second = pattern(0, 48_000, 2)
        played = 0

        async def talk() -> None:
            nonlocal played
            while True:
                await session.play(second)
                played += 1

        talking = asyncio.create_task(talk())
        try:
            async with asyncio.timeout(30):
                await session.wait_closed()
        finally:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
        assert session.close_reason == "slow_reader"
        # A second in the ring, what kernels hold on the loopback, and no more.
        assert played < 30


async def test_a_server_that_comes_back_goes_on_in_the_same_session(serve: ServeProcess) -> None:
    async with dialling(serve) as bot, FarServer() as far:
        session = await open_at(bot, far.uri, reconnect=QUICK)
        events = watch(session)
        await until(lambda: events == [("connected", False)])
        await far.stop()
        await until(lambda: events[1:] == [("disconnected", "server_left")])
        assert not session.connected
        assert not await session.send_raw("nobody hears it")
        await far.start()
        await until(lambda: events[2:] == [("connected", True)])
        said = pattern(0, HZ // 2)
        await session.play(said)
        session.end_of_speech()
        await session.wait_played()
        await until(lambda: far.pcm() == said)
        await far.speak(said, HZ)
        frame = await anext(aiter(session.audio()))
        assert bytes(frame.pcm) == said[:640]
        assert not session.closed


async def test_a_server_that_stays_away_ends_the_session(serve: ServeProcess) -> None:
    again = Reconnect(first_s=0.05, longest_s=0.1, within_s=0.3)
    async with dialling(serve) as bot, FarServer() as far:
        session = await open_at(bot, far.uri, reconnect=again)
        await far.stop()
        assert await closed(session) == "dial_refused"
        await eventually(lambda: none_left(serve), "no session is left")


async def test_a_server_that_refuses_us_is_not_asked_again(serve: ServeProcess) -> None:
    let_in = True

    async def doorman(connection: ServerConnection, _request: object) -> Any:
        return None if let_in else connection.respond(401, "who are you?")

    async with dialling(serve) as bot, FarServer(process_request=doorman) as far:
        session = await open_at(bot, far.uri, reconnect=QUICK)
        let_in = False
        await far.connections[0].close(1011)
        assert await closed(session) == "dial_http_401"


@pytest.mark.parametrize("serializer", ["protobuf", None])
async def test_another_worker_dials_when_one_dies(
    runtime_dir: Path, serializer: str | None
) -> None:
    async with (
        ServeProcess(runtime_dir, "--bots", "0", spares=1) as serve,
        dialling(serve) as bot,
        FarServer() as far,
    ):
        session = await open_at(bot, far.uri, serializer=serializer)
        events = watch(session)
        await until(lambda: events == [("connected", False)])
        await kill_the_worker(serve)
        await until(lambda: events[-1] == ("connected", True))
        assert events[1][0] == "disconnected"
        assert len(far.connections) == 2
        far.messages.clear()
        if serializer is None:
            assert await session.outgoing.wait(await session.outgoing.play("here", 40))
            await until(lambda: far.messages == ["here"])
            await far.connections[1].send("there")
            assert await anext(session.raw_messages()) == "there"
            return
        said = pattern(0, HZ // 2)
        await session.play(said)
        session.end_of_speech()
        await session.wait_played()
        await until(lambda: far.pcm() == said)
        await far.speak(said, HZ)
        frame = await anext(aiter(session.audio()))
        assert bytes(frame.pcm) == said[:640]
