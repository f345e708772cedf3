"""What a connection tells: in order, and the end also behind a handler that hangs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from engine.transports.smallwebrtc import announcer
from engine.transports.smallwebrtc.connection import SmallWebRTCConnection
from tests.support import until

if TYPE_CHECKING:
    from engine.sdk import Session


class FakeSession:
    """Keeps who listens; the test plays the engine."""

    pc_id = "pc_1"
    closed = False
    connected = False

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def on(self, event: str, handler: Any) -> None:
        self.handlers[event] = handler


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def connection(session: FakeSession) -> SmallWebRTCConnection:
    return SmallWebRTCConnection.of(cast("Session", session))


async def test_the_end_is_told_behind_a_handler_that_hangs(
    session: FakeSession, connection: SmallWebRTCConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcer, "HANDLER_S", 0.01)
    told: list[str] = []
    hangs = asyncio.Event()

    @connection.event_handler("connected")
    async def hang(_connection: Any) -> None:
        told.append("hangs")
        await hangs.wait()

    @connection.event_handler("closed")
    async def hang_too(_connection: Any) -> None:
        await hangs.wait()

    for event in ("connected", "closed"):
        connection.add_event_handler(event, lambda _connection, event=event: told.append(event))
    await connection.connect()
    session.handlers["connected"]()
    session.handlers["closed"]("caller_left")
    await until(lambda: told == ["hangs", "connected", "closed"])
    hangs.set()
    await until(lambda: not connection._calls)


async def test_messages_are_told_in_order_also_by_handlers_that_take_a_while(
    session: FakeSession, connection: SmallWebRTCConnection
) -> None:
    told: list[int] = []
    ready = asyncio.Event()

    @connection.event_handler("app-message")
    async def slow(_connection: Any, message: int) -> None:
        if message == 0:
            await ready.wait()
        told.append(message)

    await connection.connect()
    session.handlers["connected"]()
    for number in range(5):
        session.handlers["message"](number)
    ready.set()
    await until(lambda: len(told) == 5)
    assert told == list(range(5))
    session.handlers["closed"]("caller_left")
    await until(lambda: not connection._calls and connection._telling is not None)
