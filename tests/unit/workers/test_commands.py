"""A worker's commands that fail: nothing of what they began is kept."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

import workers.ring_opener
from ipc.bell import BellRopes
from ipc.errors import BotRejected, SessionNotFound, UnknownMessage
from ipc.messages import (
    CloseSession,
    GetStats,
    Message,
    Offer,
    Ok,
    OpenRing,
    RingAttached,
    RingOpened,
)
from tests.fakes.peer import FakePeer
from tests.support import until
from workers.commands import Commands
from workers.ring_opener import RingOpener
from workers.session import Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ipc.clock import ManualClock
    from ipc.media_stream import StreamHost
    from workers.gate import Gate
    from workers.udp_mux import UdpMux
    from workers.websocket.sockets import Sockets

ID = "s_" + 32 * "0"


class OpenGate:
    """Lets everybody in at once."""

    async def turn(self) -> None:
        pass


class Streams:
    """Streams that no bot claims."""

    def open(self, _ring: object) -> tuple[int, str]:
        return 1, "token"

    async def wait_attached(self, _stream: int) -> None:
        await asyncio.Event().wait()

    def end(self, _stream: int) -> None:
        pass


class World:
    """Commands, and the sessions that they begin and end."""

    def __init__(self, clock: ManualClock, directory: Path) -> None:
        self.clock = clock
        self.sessions: dict[str, Session] = {}
        self.offers = 0
        self.ropes = BellRopes(directory)
        self.commands = Commands(
            "w",
            cast("Gate", OpenGate()),
            self.sessions,
            begin=self.begin,
            end=self.end,
            on_offer=self.offered,
            rings=RingOpener(
                self.ropes, cast("StreamHost", Streams()), "", mic_ms=1_000, speaker_ms=1_000
            ),
            sockets=cast("Sockets", None),
            acceptor=None,
        )

    def begin(self, session_id: str) -> Session:
        mux = cast("UdpMux", SimpleNamespace(received=0, dropped={}))
        session = Session(session_id, self.clock, lambda _message: True, mux)
        self.sessions[session_id] = session
        return session

    async def end(self, session: Session, reason: str) -> None:
        del self.sessions[session.id]
        await session.close(reason)

    def offered(self) -> None:
        self.offers += 1


@pytest.fixture
async def world(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    FakePeer.made, FakePeer.gate = [], asyncio.Event()
    monkeypatch.setattr("workers.session.Peer", FakePeer)
    world = World(clock, tmp_path)
    yield world
    for session in [*world.sessions.values()]:
        await world.end(session, "end")


async def test_an_offer_that_is_given_up_leaves_no_session(world: World) -> None:
    answering = asyncio.ensure_future(world.commands.request(Offer(session=ID, sdp="one")))
    await until(lambda: FakePeer.made)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering

    assert world.sessions == {}
    assert FakePeer.made[0].closed


async def test_an_offer_that_meets_a_fault_leaves_no_session(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(_peer: FakePeer, _sdp: str) -> str:
        raise RuntimeError("a fault")

    monkeypatch.setattr(FakePeer, "answer", answer)
    with pytest.raises(RuntimeError):
        await world.commands.request(Offer(session=ID, sdp="one"))

    assert world.sessions == {}
    assert world.offers == 1


async def test_rings_that_cannot_be_made_let_go_of_the_bell(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise MemoryError

    world.begin(ID)
    monkeypatch.setattr(workers.ring_opener, "Rings", fail)
    wanted = OpenRing(
        session=ID,
        epoch=1,
        media="shm",
        mic_hz=24_000,
        speaker_hz=24_000,
        mic_channels=1,
        speaker_channels=1,
        segment="bb" + 18 * "0",
        bell="bell-00000000",
    )
    with pytest.raises(MemoryError):
        await world.commands.request(wanted)

    assert world.ropes._ropes == {}


async def test_a_bot_that_claims_its_stream_too_late_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.ring_opener, "CLAIM_DEADLINE_S", 0)
    session = world.begin(ID)
    wanted = OpenRing(
        session=ID,
        epoch=1,
        segment="",
        media="zmq",
        mic_hz=24_000,
        speaker_hz=24_000,
        mic_channels=1,
        speaker_channels=1,
    )
    assert isinstance(await world.commands.request(wanted), RingOpened)
    with pytest.raises(BotRejected):
        await world.commands.request(RingAttached(session=ID, epoch=1))
    assert session.rings is None


async def test_what_no_session_is_there_for_is_refused_but_its_end(world: World) -> None:
    with pytest.raises(SessionNotFound):
        await world.commands.request(GetStats(session=ID))
    assert await world.commands.request(CloseSession(session=ID, reason="end")) == Ok()


async def test_what_is_no_command_is_refused(world: World) -> None:
    message: Message = Ok()
    with pytest.raises(UnknownMessage):
        await world.commands.request(message)
    with pytest.raises(UnknownMessage):
        world.commands.notify(message)
