"""Connecting that fails or is given up: whose call it is then, and who hears of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from engine.transports.base import TransportParams
from engine.transports.processors import FrameProcessorSetup, SystemClock, TaskManager
from engine.transports.smallwebrtc.transport import SmallWebRTCTransport
from ipc.errors import AlreadyAttached, WorkerError
from tests.support import turn, until
from tests.unit.engine.transports.smallwebrtc.test_client import FakeConnection, Told, client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.transports.smallwebrtc.client import SmallWebRTCClient


class Uncertain(FakeConnection):
    """Its media opens once `outcomes` says how that ends: None is success."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: asyncio.Queue[Exception | None] = asyncio.Queue()
        self.tries = 0

    async def open_media(self, **shape: int) -> None:
        self.tries += 1
        outcome = await self.outcomes.get()
        if outcome is not None:
            raise outcome
        await super().open_media(**shape)

    async def disconnect(self) -> None:
        await super().disconnect()
        await self.tell("closed")

    @property
    def ends(self) -> int:
        return self.asked.count("disconnect")


@pytest.fixture
def connection() -> Iterator[Uncertain]:
    made = Uncertain()
    yield made
    made.session.ended("test over")
    made.session.detach()


@pytest.fixture
def told() -> Told:
    return Told()


def setup() -> FrameProcessorSetup:
    return FrameProcessorSetup(SystemClock(), TaskManager())


async def prepared(connection: Uncertain, told: Told) -> SmallWebRTCClient:
    client = client_of(connection, told)
    await client.setup(TransportParams(), setup())
    return client


async def test_an_end_that_failed_leaves_the_call_to_the_one_that_did_not(
    connection: Uncertain,
) -> None:
    given: Any = connection
    transport = SmallWebRTCTransport(given, TransportParams())
    surroundings = setup()
    failing = asyncio.create_task(transport.input().setup(surroundings))
    trying = asyncio.create_task(transport.output().setup(surroundings))
    await until(lambda: connection.tries == 1)
    await turn()
    connection.outcomes.put_nowait(WorkerError("not now"))
    connection.outcomes.put_nowait(None)
    with pytest.raises(WorkerError):
        await failing
    await trying
    assert connection.tries == 2
    await transport.input().cleanup()
    assert connection.ends == 0
    await transport.output().cleanup()
    assert connection.ends == 1


async def test_whoever_is_cancelled_while_it_waits_is_no_user(
    connection: Uncertain, told: Told
) -> None:
    client = await prepared(connection, told)
    first = asyncio.create_task(client.connect())
    second = asyncio.create_task(client.connect())
    await until(lambda: connection.tries == 1)
    await turn()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    connection.outcomes.put_nowait(None)
    await first
    assert connection.ends == 0
    await client.disconnect()
    assert connection.ends == 1


async def test_a_call_that_nobody_can_hear_ends_and_its_end_is_told(
    connection: Uncertain, told: Told
) -> None:
    client = await prepared(connection, told)
    connection.outcomes.put_nowait(WorkerError("no rings"))
    with pytest.raises(WorkerError):
        await client.connect()
    assert connection.ends == 1
    assert told.names == ["on_client_disconnected"]
    assert [frame async for frame in client.read_audio_frame()] == []


async def test_a_call_whose_only_user_is_cancelled_ends(connection: Uncertain, told: Told) -> None:
    client = await prepared(connection, told)
    connecting = asyncio.create_task(client.connect())
    await until(lambda: connection.tries == 1)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert connection.ends == 1


async def test_a_client_that_failed_keeps_no_other_from_the_connection(
    connection: Uncertain, told: Told
) -> None:
    failed = await prepared(connection, told)
    connection.outcomes.put_nowait(AlreadyAttached("the bot reads the session itself"))
    with pytest.raises(AlreadyAttached):
        await failed.connect()
    assert connection.ends == 0  # it is the bot's
    other = await prepared(connection, told)
    connection.outcomes.put_nowait(None)
    await other.connect()
    await failed.disconnect()
    assert connection.ends == 0
    await other.disconnect()
    assert connection.ends == 1
