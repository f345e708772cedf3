"""What a session keeps is bounded, and rings that fail to be made leave nothing behind."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

import workers.session
from ipc.audio_ring import RingSpec, WorkerRing
from ipc.messages import AppMessage, LegState, Message, TrackStatus
from ipc.segment import names_of, new_name
from tests.fakes.peer import FakePeer
from tests.support import until
from workers.held_messages import MAX_HELD_BYTES
from workers.rings import Rings
from workers.said import MAX_WAITING, SHARE
from workers.session import Session
from workers.webrtc.data_channel import MAX_TEXT_BYTES

if TYPE_CHECKING:
    from ipc.clock import ManualClock
    from workers.udp_mux import UdpMux

FAR = 10**6
# What the session of the moment has told the engine.
TOLD: list[Message] = []


@pytest.fixture
async def session(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Session:
    FakePeer.made, FakePeer.gate = [], asyncio.Event()
    FakePeer.gate.set()
    monkeypatch.setattr(workers.session, "Peer", FakePeer)
    mux = cast("UdpMux", SimpleNamespace(received=0, dropped={}))
    session = Session("s_1", clock, lambda message: TOLD.append(message), mux)
    await session.answer("one", restart=False)
    TOLD.clear()
    return session


async def attach(session: Session) -> Rings:
    rings = Rings(RingSpec(key=bytes(16), epoch=1), "", None)
    session.offer_rings(rings)
    await session.attach_rings(1)
    return rings


# -- what a caller says -----------------------------------------------------------------------


async def test_a_flood_of_words_reaches_the_engine_beat_by_beat_and_in_order(
    session: Session,
) -> None:
    (peer,) = FakePeer.made
    for number in range(2 * SHARE):
        peer.callbacks["on_message"](number)
    peer.callbacks["on_track_status"](0, False)
    assert [told.data for told in TOLD if isinstance(told, AppMessage)] == [*range(SHARE)]
    for _ in range(2):
        session.settle(0)
    assert [told.data for told in TOLD if isinstance(told, AppMessage)] == [*range(2 * SHARE)]
    session.settle(0)
    assert isinstance(TOLD[-1], TrackStatus)
    assert session.dropped_messages == 0


async def test_words_before_the_end_are_told_before_it_and_those_beyond_bounds_are_counted(
    session: Session,
) -> None:
    (peer,) = FakePeer.made
    for number in range(SHARE + 2):
        peer.callbacks["on_message"](number)
    peer.callbacks["on_state"](peer, "closed")
    assert [getattr(told, "data", told) for told in TOLD[:-1]] == [*range(SHARE + 2)]
    assert isinstance(TOLD[-1], LegState)
    for number in range(MAX_WAITING + 3):
        peer.callbacks["on_message"](number)
    assert session.dropped_messages == 3


# -- messages that wait for their sample ------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    ["x" * MAX_TEXT_BYTES, bytes(MAX_TEXT_BYTES + 1), {b"a key": 1}],
    ids=["text", "bytes", "no JSON"],
)
async def test_a_message_that_no_caller_takes_is_not_held(session: Session, data: object) -> None:
    await attach(session)

    session.say(data, FAR)

    assert session.dropped_messages == 1
    assert len(session._held) == 0
    await session.close("end")


async def test_held_messages_are_bounded_by_bytes_and_leaving_ones_make_room(
    session: Session, clock: ManualClock
) -> None:
    rings, bot = await attach(session), FakePeer.made[0].data
    assert rings.bot_end is not None
    data = bytes(MAX_TEXT_BYTES)
    fitting = MAX_HELD_BYTES // len(data)
    for _ in range(fitting):
        session.say(data, 480)
    assert session.dropped_messages == 0

    session.say({"nested": [b"in bytes", 1.5, None]}, FAR)
    assert session.dropped_messages == 1
    rings.ring.commit(480, 1, 0, 0, 0)
    session.settle(clock.now_ns())
    session.say({"nested": [b"in bytes", 1.5, None]}, FAR)

    assert len(bot.sent) == fitting
    assert session.dropped_messages == 1
    await session.close("end")


async def test_messages_that_a_flush_dropped_make_room(
    session: Session, clock: ManualClock
) -> None:
    rings = await attach(session)
    bot = rings.bot_end
    assert bot is not None
    bot.write_speaker(memoryview(bytes(2 * 960)))
    data = bytes(MAX_TEXT_BYTES)
    fitting = MAX_HELD_BYTES // len(data)
    for _ in range(fitting):
        session.say(data, 960)
    bot.flush()
    session.settle(clock.now_ns())
    assert session.dropped_messages == fitting

    session.say(data, FAR)

    assert session.dropped_messages == fitting
    await session.close("end")


# -- connections that were replaced -------------------------------------------------------------


async def test_a_connection_that_was_replaced_is_forgotten_when_it_has_ended(
    session: Session,
) -> None:
    for _ in range(20):
        await session.answer("again", restart=True)
    await until(lambda: all(peer.closed for peer in FakePeer.made[:-1]))

    await until(lambda: not session._replaced, what="none that has ended is kept")
    await session.close("end")


# -- rings that cannot be made ------------------------------------------------------------------


def test_rings_that_cannot_be_filled_leave_no_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = RingSpec(key=bytes(16), epoch=1)
    old = Rings(spec, "", None)
    name = new_name("0badf00d")

    def preload(_ring: WorkerRing, _old: WorkerRing) -> None:
        raise MemoryError

    monkeypatch.setattr(WorkerRing, "preload", preload)
    with pytest.raises(MemoryError):
        Rings(spec, name, None, old.ring)

    assert name not in names_of("0badf00d")
    old.close()


async def test_rings_are_the_sessions_even_when_those_before_them_cannot_be_closed(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (Rings(RingSpec(key=bytes(16), epoch=epoch), "", None) for epoch in (1, 2))
    session.offer_rings(first)
    monkeypatch.setattr(first, "on_close", lambda: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        session.offer_rings(second)

    assert session.offered is second
    await session.close("end")
