"""A documented session on its own: dialled, counted, raw messages, its end, and coming back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from websockets.protocol import State

from engine.transports.processors import TaskManager
from engine.transports.websocket.client import WebsocketClientParams, WebsocketClientSession
from ipc.errors import DialFailed, StateError
from ipc.messages import CloseSession, SendRaw
from ipc.serializers import ProtobufFrameSerializer
from tests.support import turn, until
from tests.unit.engine.transports.websocket.dialled_world import URI

if TYPE_CHECKING:
    from tests.unit.engine.transports.websocket.dialled_world import World


async def open_alone(world: World, **params: Any) -> WebsocketClientSession:
    client = await world.alone(**params)
    await client.connect()
    return client


async def test_it_is_dialled_with_what_the_parameters_say(world: World) -> None:
    client = await open_alone(
        world,
        additional_headers={"X-Who": "bot"},
        serializer=ProtobufFrameSerializer(),
        reconnect=True,
        open_timeout_secs=3,
        audio_out_write_timeout_secs=5,
    )
    (dial,) = world.dials
    assert dial["uri"] == URI
    assert dial["headers"] == {"X-Who": "bot"}
    # Alone, every message is raw, whatever serializer there is.
    assert dial["serializer"] is None
    assert (dial["reconnect"], dial["open_timeout_s"], dial["stall_s"]) == (True, 3, 4)
    await client.disconnect()


async def test_without_a_task_manager_nothing_is_dialled(world: World) -> None:
    client = WebsocketClientSession(URI, WebsocketClientParams(), world.callbacks(), "t")
    with pytest.raises(StateError):
        _ = client.task_manager
    with pytest.raises(StateError):
        await client.connect()
    assert world.dials == []
    await client.setup(TaskManager())
    manager = TaskManager()
    await client.setup(manager)
    await client.connect()
    await client.setup(TaskManager())
    assert client.task_manager is manager
    await client.disconnect()


async def test_every_message_is_told_in_order_after_the_connection(world: World) -> None:
    client = await open_alone(world)
    assert world.names() == ["on_connected"]
    world.says("text", b"\x00 bytes", "more")
    await until(lambda: len(world.messages()) == 3)
    assert world.messages() == ["text", b"\x00 bytes", "more"]
    await client.disconnect()


async def test_sending_tells_the_truth(world: World) -> None:
    client = await world.alone()
    assert await client.send("too early") is False
    await client.connect()
    assert await client.send("text") is True
    assert await client.send(b"bytes") is True
    world.takes = False
    assert await client.send("lost") is False
    sent = [m for m in world.line.asked if isinstance(m, SendRaw)]
    assert [(m.data, m.text) for m in sent[:2]] == [(b"text", True), (b"bytes", False)]
    await client.disconnect()
    assert await client.send("too late") is False


async def test_users_are_counted_and_the_last_one_ends_it_without_being_told(world: World) -> None:
    client = await world.alone()
    await asyncio.gather(client.connect(), client.connect())
    assert len(world.dials) == world.homes == 1
    await client.disconnect()
    assert client.is_connected
    await client.disconnect()
    await client.disconnect()
    assert not client.is_connected
    assert not client.is_closing
    assert world.homes == 0
    closes = [m for m in world.line.asked if isinstance(m, CloseSession)]
    assert [m.reason for m in closes] == ["bot_closed"]
    assert world.names() == ["on_connected"]


async def test_a_dial_that_fails_is_everybodys_and_may_be_tried_again(world: World) -> None:
    client = await world.alone()
    world.fails = DialFailed("nobody answers", code="dial_timeout", retryable=True)
    outcomes = await asyncio.gather(client.connect(), client.connect(), return_exceptions=True)
    assert [getattr(each, "code", None) for each in outcomes] == ["dial_timeout"] * 2
    assert (len(world.dials), world.homes, world.told) == (1, 0, [])
    await client.disconnect()
    world.fails = None
    await client.connect()
    assert client.is_connected
    await client.disconnect()


async def test_whoever_is_cancelled_while_it_is_dialled_leaves_nothing(world: World) -> None:
    client = await world.alone()
    world.answers.clear()
    connecting = asyncio.create_task(client.connect())
    await until(lambda: world.dials)
    connecting.cancel()
    await asyncio.wait((connecting,))
    assert world.homes == 0
    world.answers.set()
    await client.connect()
    assert len(world.dials) == 2
    await client.disconnect()


async def test_one_of_two_may_be_cancelled(world: World) -> None:
    client = await world.alone()
    world.answers.clear()
    first, second = (asyncio.create_task(client.connect()) for _ in range(2))
    await until(lambda: world.dials)
    first.cancel()
    await turn()
    world.answers.set()
    await second
    assert client.is_connected
    await client.disconnect()
    assert not client.is_connected


async def test_the_servers_end_is_told_once_and_behind_its_messages(world: World) -> None:
    client = await open_alone(world)
    world.says("last words")
    world.leaves("server_closed")
    assert not client.is_connected
    await until(lambda: len(world.told) == 3)
    assert world.names() == ["on_connected", "on_message", "on_disconnected"]
    assert world.homes == 0
    await client.disconnect()
    assert len(world.told) == 3
    assert client.fault == ""


async def test_after_its_end_it_is_dialled_anew_also_from_where_the_end_is_told(
    world: World,
) -> None:
    client = await world.alone()

    there_again = asyncio.Event()

    async def again(_server: object) -> None:
        await client.connect()
        there_again.set()

    client._callbacks.on_disconnected = again
    await client.connect()
    world.leaves("connection_lost")
    assert client.fault == "connection_lost"
    await there_again.wait()
    assert client.is_connected
    assert (len(world.dials), world.homes) == (2, 1)
    await client.disconnect()
    assert world.homes == 0


async def test_it_may_be_ended_from_where_a_message_is_told(world: World) -> None:
    client = await world.alone()

    async def enough(_server: object, _message: object) -> None:
        await client.disconnect()

    client._callbacks.on_message = enough
    await client.connect()
    world.says("a", "b")
    await until(lambda: world.session.closed)
    await until(lambda: world.homes == 0)
    assert world.names() == ["on_connected"]


async def test_a_callback_that_fails_takes_nothing_from_the_others(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    client = await world.alone()

    async def fail(_server: object, _message: object) -> None:
        raise ValueError("mine")

    client._callbacks.on_message = fail
    await client.connect()
    world.says("a")
    world.leaves()
    await until(lambda: "on_disconnected" in world.names())
    assert "a callback failed" in caplog.text


async def test_a_reconnection_is_told_and_sending_fails_meanwhile(world: World) -> None:
    client = await open_alone(world, reconnect=True)
    world.session.caller_disconnected("connection_lost")
    await until(lambda: "on_reconnecting" in world.names())
    assert not client.is_connected
    world.session.caller_connected(True)
    await until(lambda: "on_reconnected" in world.names())
    assert client.is_connected
    world.session.caller_disconnected("server_left")
    await until(lambda: len(world.told) == 4)
    world.leaves("dial_refused")
    await until(lambda: "on_disconnected" in world.names())
    assert world.names() == [
        "on_connected",
        "on_reconnecting",
        "on_reconnected",
        "on_reconnecting",
        "on_disconnected",
    ]
    assert client.fault == "dial_refused"


async def test_the_object_that_callbacks_get_is_as_a_connection(world: World) -> None:
    client = await open_alone(world, additional_headers={"X-Who": "bot"})
    server = world.told[0][1]
    assert server.state == State.OPEN
    assert server.remote_address == ("127.0.0.1", 8765)
    assert server.request.headers["x-who"] == "bot"
    assert server.response.headers["server"] == "far"
    assert (server.subprotocol, server.close_code, server.close_reason) == (None, None, None)
    assert await server.send("text") is True
    assert str(server) == f"{URI} (open)"
    world.session.caller_disconnected("connection_lost")
    assert server.state == State.CONNECTING
    world.session.caller_connected(True)
    await server.close()
    await server.close()
    assert server.state == State.CLOSED
    assert await server.send("late") is False
    # Closed by hand, not by `disconnect`: that is told.
    await until(lambda: "on_disconnected" in world.names())
    assert client.fault == ""


async def test_an_end_that_nobody_answers_is_no_failure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await open_alone(world)

    async def gone(reason: str = "") -> None:
        raise StateError("no engine")

    monkeypatch.setattr(world.session, "close", gone)
    await client.disconnect()
    assert not client.is_connected
    assert world.homes == 0
