"""What a connection tells: all that waited for `connect`, and the end whatever came before it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from engine.sdk import Session
from engine.transports.smallwebrtc.announcer import MAX_TOLD
from engine.transports.smallwebrtc.connection import MAX_WAITING, SmallWebRTCConnection
from tests.support import turn, until
from tests.unit.engine.sdk.test_session import FakeLine, MemoryMedia

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    made = Session("s_1", FakeLine(), None)
    made.attach(MemoryMedia(1000))
    yield made
    made.ended("test over")
    await made.settle(1.0)
    made.detach()


async def test_no_message_that_waited_for_connect_is_left_out(session: Session) -> None:
    connection = SmallWebRTCConnection.of(session)
    heard: list[Any] = []
    connection.add_event_handler("app-message", lambda _connection, message: heard.append(message))
    session.caller_connected(False)
    for number in range(MAX_WAITING):
        session.message_arrived(number, 0)
        await turn()
    await until(lambda: len(connection._messages) == MAX_WAITING)
    await connection.connect()
    await until(lambda: len(heard) == MAX_WAITING)
    assert heard == [*range(MAX_WAITING)]


async def test_the_end_is_told_behind_a_flood_of_messages(session: Session) -> None:
    connection = SmallWebRTCConnection.of(session)
    heard: list[str] = []
    go_on = asyncio.Event()

    async def slow(_connection: object, _message: object) -> None:
        await go_on.wait()

    connection.add_event_handler("app-message", slow)
    connection.add_event_handler("closed", lambda _connection: heard.append("closed"))
    session.caller_connected(False)
    await connection.connect()
    for number in range(MAX_TOLD + 10):
        session.message_arrived(number, 0)
        await turn()
    session.ended("left")
    await until(lambda: connection._state == "closed")
    go_on.set()
    await until(lambda: not connection._waiting)
    assert heard == ["closed"]
