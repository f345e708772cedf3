"""A worker's session between a leg and rings that are both fakes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

import workers.session
from ipc.audio_ring import NEVER, RingSpec
from ipc.errors import BotRejected, SdpRejected, StateError
from ipc.messages import AppMessage, LegState, Message, TrackStatus
from tests.fakes.peer import FakePeer
from tests.support import until
from workers.held_messages import MAX_HELD
from workers.rings import Rings
from workers.session import Session
from workers.webrtc.data_channel import Unread

if TYPE_CHECKING:
    from ipc.bell import BellRope
    from ipc.clock import ManualClock
    from workers.udp_mux import UdpMux


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> list[FakePeer]:
    FakePeer.made, FakePeer.gate = [], asyncio.Event()
    FakePeer.gate.set()
    monkeypatch.setattr(workers.session, "Peer", FakePeer)
    return FakePeer.made


@pytest.fixture
def told() -> list[Message]:
    return []


@pytest.fixture
def session(clock: ManualClock, told: list[Message]) -> Session:
    mux = cast("UdpMux", SimpleNamespace(received=0, dropped={}))
    return Session("s_1", clock, lambda message: told.append(message), mux)


def make_rings(epoch: int = 1) -> Rings:
    return Rings(RingSpec(key=bytes(16), epoch=epoch), "", None)


async def test_a_connection_that_an_offer_broke_is_replaced_by_the_next_offer(
    session: Session, peers: list[FakePeer]
) -> None:
    await session.answer("one", restart=False)
    with pytest.raises(SdpRejected):
        await session.answer("bad", restart=False)
    await session.answer("two", restart=False)
    assert [peer.answers for peer in peers] == [["one"], ["two"]]
    await session.close("end")
    assert all(peer.closed for peer in peers)


async def test_what_waits_for_the_old_channel_goes_to_the_new_one(
    session: Session, peers: list[FakePeer]
) -> None:
    await session.answer("one", restart=False)
    await session.answer("two", restart=True)
    assert peers[1].data.heir_of is peers[0].data
    await session.close("end")


async def test_a_bot_that_claims_its_rings_too_late_is_refused(
    session: Session, peers: list[FakePeer]
) -> None:
    await session.answer("one", restart=False)
    rings = make_rings()

    async def claimed() -> None:
        raise BotRejected("too late")

    rings.claimed = claimed
    session.offer_rings(rings)
    with pytest.raises(BotRejected):
        await session.attach_rings(1)
    assert session.rings is None
    assert peers[0].sender.ring is None
    await session.close("end")


async def test_a_second_offer_goes_to_the_same_peer_unless_it_is_a_restart(
    session: Session, peers: list[FakePeer]
) -> None:
    assert await session.answer("one", restart=False) == "answer to one"
    await session.answer("two", restart=False)
    assert [peer.answers for peer in peers] == [["one", "two"]]
    await session.answer("three", restart=True)
    await until(lambda: peers[0].closed)
    assert not peers[1].closed
    assert peers[1].answers == ["three"]


async def test_a_restart_that_fails_leaves_the_old_path(
    session: Session, peers: list[FakePeer]
) -> None:
    await session.answer("one", restart=False)
    with pytest.raises(SdpRejected):
        await session.answer("bad", restart=True)
    assert [peer.closed for peer in peers] == [False, True]
    assert session.peer is peers[0]  # type: ignore[comparison-overlap]  # a fake


async def test_a_leg_that_was_replaced_is_not_heard_any_more(
    session: Session, peers: list[FakePeer], told: list[Message]
) -> None:
    await session.answer("one", restart=False)
    peers[0].callbacks["on_state"](peers[0], "connected")
    await session.answer("two", restart=True)
    peers[0].callbacks["on_state"](peers[0], "closed")
    peers[1].callbacks["on_state"](peers[1], "lost")
    assert told == [
        LegState(session="s_1", state="connected"),
        LegState(session="s_1", state="lost", reason="lost"),
    ]


async def test_a_session_that_closes_while_it_answers_keeps_no_peer(
    session: Session, peers: list[FakePeer]
) -> None:
    FakePeer.gate.clear()
    answering = asyncio.create_task(session.answer("one", restart=False))
    while not peers:
        await asyncio.wait([asyncio.create_task(session.close("too late"))])
    FakePeer.gate.set()
    await asyncio.gather(answering, return_exceptions=True)
    assert all(peer.closed for peer in peers)
    assert session.peer is None


async def test_messages_and_track_changes_carry_the_cursor_of_the_microphone(
    session: Session, peers: list[FakePeer], told: list[Message]
) -> None:
    await session.answer("one", restart=False)
    peers[0].callbacks["on_message"]("early")
    session.offer_rings(make_rings())
    await session.attach_rings(1)
    assert session.rings is not None
    session.rings.ring.write_mic(memoryview(bytes(960)))
    peers[0].callbacks["on_message"](Unread("late"))
    peers[0].callbacks["on_track_status"](0, False)
    assert told == [
        AppMessage(session="s_1", data="early", cursor=0),
        AppMessage(session="s_1", data="late", cursor=480, unread=True),
        TrackStatus(session="s_1", receiver_index=0, enabled=False, cursor=480),
    ]
    await session.close("end")


async def test_rings_flow_only_after_the_bot_of_their_epoch_attached(
    session: Session, peers: list[FakePeer]
) -> None:
    await session.answer("one", restart=False)
    session.offer_rings(make_rings(1))
    assert peers[0].sender.ring is None
    with pytest.raises(StateError):
        await session.attach_rings(7)
    assert session.rings is None
    await session.attach_rings(1)
    assert session.rings is not None
    assert peers[0].sender.ring is peers[0].receiver.ring is session.rings.ring
    session.offer_rings(make_rings(2))
    session.withdraw_rings(1)
    assert session.offered is not None
    session.withdraw_rings(2)
    assert session.offered is None
    assert session.rings.epoch == 1
    await session.close("end")
    assert peers[0].sender.ring is None


async def test_a_message_at_a_cursor_waits_for_its_sample_and_order_is_kept(
    session: Session, peers: list[FakePeer], clock: ManualClock
) -> None:
    await session.answer("one", restart=False)
    session.offer_rings(make_rings())
    await session.attach_rings(1)
    assert session.rings is not None
    ring, bot = session.rings.ring, session.rings.bot_end
    assert bot is not None
    session.say("second", 960)
    session.say("third", 960)
    session.say("first", 480)
    session.say("now", None)
    session.say("past", 0)
    bot.write_speaker(memoryview(bytes(2 * 4_800)))
    session.send(clock.now_ns())
    session.settle(clock.now_ns())
    sent = peers[0].data.sent
    assert sent == ["now", "past"]
    ring.take(480)
    ring.commit(480, 1, 0, 0, 0)
    session.send(clock.now_ns())
    session.settle(clock.now_ns())
    assert sent == ["now", "past", "first"]
    ring.take(480)
    ring.commit(960, 1, 0, 0, 0)
    session.send(clock.now_ns())
    session.settle(clock.now_ns())
    assert sent[3:] == ["second", "third"]
    await session.close("end")


async def test_a_message_at_a_cursor_waits_also_before_its_rings_are_attached(
    session: Session, peers: list[FakePeer], clock: ManualClock
) -> None:
    await session.answer("one", restart=False)
    session.offer_rings(make_rings())
    # The bot speaks at once; that it has attached comes to the worker by way of the engine.
    session.say("early", 480)
    assert peers[0].data.sent == []
    await session.attach_rings(1)
    session.send(clock.now_ns())
    session.settle(clock.now_ns())
    assert peers[0].data.sent == []
    assert session.rings is not None
    session.rings.ring.commit(480, 1, 0, 0, 0)
    session.send(clock.now_ns())
    session.settle(clock.now_ns())
    assert peers[0].data.sent == ["early"]
    await session.close("end")


async def test_a_flush_drops_held_messages_beyond_what_was_sent(
    session: Session, peers: list[FakePeer], clock: ManualClock
) -> None:
    await session.answer("one", restart=False)
    session.offer_rings(make_rings())
    await session.attach_rings(1)
    assert session.rings is not None
    bot = session.rings.bot_end
    assert bot is not None
    bot.write_speaker(memoryview(bytes(2 * 960)))
    session.say("sent", 480)
    session.say("cut", 960)
    session.rings.ring.take(480)
    session.rings.ring.commit(480, 1, 0, 0, 0)
    bot.flush()
    session.send(clock.now_ns())
    session.settle(clock.now_ns())
    assert peers[0].data.sent == ["sent"]
    assert session.dropped_messages == 1
    session.send(clock.now_ns())
    session.settle(clock.now_ns())
    await session.close("end")


async def test_held_messages_are_bounded_and_what_is_no_json_is_counted(
    session: Session, peers: list[FakePeer]
) -> None:
    session.say("no leg", None)
    assert session.dropped_messages == 1
    await session.answer("one", restart=False)
    session.offer_rings(make_rings())
    await session.attach_rings(1)
    for number in range(MAX_HELD + 5):
        session.say(number, 10**6)
    session.say("not JSON", None)
    assert session.dropped_messages == 1 + 5 + 1
    await session.close("end")


@pytest.mark.parametrize(("reason", "goodbyes"), [("caller_left", 0), ("bot_done", 1)])
async def test_closing_tells_a_caller_who_is_still_there(
    session: Session, peers: list[FakePeer], reason: str, goodbyes: int
) -> None:
    await session.answer("one", restart=False)
    await session.close(reason)
    await session.close(reason)
    assert (peers[0].data.goodbyes, peers[0].closed) == (goodbyes, True)


@pytest.mark.parametrize("reason", ["engine_gone", "engine_stopped"])
async def test_only_without_an_engine_there_is_little_time_for_goodbyes(
    session: Session, peers: list[FakePeer], reason: str
) -> None:
    await session.answer("one", restart=False)
    await session.close(reason)
    assert peers[0].data.in_haste is (reason == "engine_gone")


async def test_candidates_without_a_leg_are_refused(session: Session) -> None:
    with pytest.raises(StateError):
        await session.add_candidates([])


async def test_a_message_that_its_flush_has_overtaken_is_dropped(
    session: Session, peers: list[FakePeer]
) -> None:
    await session.answer("one", restart=False)
    session.offer_rings(make_rings())
    await session.attach_rings(1)
    assert session.rings is not None
    ring, bot = session.rings.ring, session.rings.bot_end
    assert bot is not None
    bot.write_speaker(memoryview(bytes(2 * 960)))
    bot.flush()
    assert ring.apply_flush()
    session.say("never", 960)
    session.say("later", 1_000)
    session.say("now", None)
    assert peers[0].data.sent == ["now"]
    assert session.dropped_messages == 1
    await session.close("end")


class Rope:
    """Counts how often the bell is rung."""

    def __init__(self) -> None:
        self.pulls = 0

    def pull(self) -> None:
        self.pulls += 1

    pull_later = pull

    def let_go(self) -> None:
        pass


async def test_a_bot_that_waits_for_room_is_woken_once_and_now_and_then_again(
    session: Session, peers: list[FakePeer], clock: ManualClock
) -> None:
    rope = Rope()
    rings = Rings(RingSpec(key=bytes(16), epoch=1), "", cast("BellRope", rope))
    session.offer_rings(rings)
    await session.attach_rings(1)
    bot = rings.bot_end
    assert bot is not None
    bot.write_speaker(memoryview(bytes(2 * 4_800)))

    def frames(count: int) -> int:
        before = rope.pulls
        for _ in range(count):
            clock.advance_ms(20)
            rings.ring.take(960 if rings.ring.speaker_waiting() >= 960 else 0)
            rings.ring.commit(rings.ring.taken, clock.now_ns(), 0, 0, 0)
            session.settle(clock.now_ns())
        return rope.pulls - before

    bot.want(960 * 2)
    assert frames(1) == 0, "not reached"
    assert frames(3) == 1, "reached"
    assert frames(25) == 5, "every 100 ms, should a bell have been lost"
    bot.want(bot.speaker_sent)
    assert frames(1) == 1, "another wish, fulfilled at once"
    bot.want(NEVER)
    assert frames(10) == 0
    await session.close("end")


async def test_a_bot_is_rung_for_the_mic_only_when_it_reaches_what_the_bot_waits_for(
    session: Session, peers: list[FakePeer]
) -> None:
    rope = Rope()
    rings = Rings(RingSpec(key=bytes(16), epoch=1), "", cast("BellRope", rope))
    session.offer_rings(rings)
    await session.attach_rings(1)
    await session.answer("one", restart=False)
    bot = rings.bot_end
    assert bot is not None

    def hear() -> int:
        before = rope.pulls
        rings.ring.write_mic(memoryview(bytes(2 * 960)))
        session._mic_grew()
        return rope.pulls - before

    assert hear() == 1, "a bot that says nothing wants everything"
    bot.want_mic(NEVER)
    assert hear() == 0
    bot.want_mic(bot.mic_written + 961)
    assert [hear(), hear(), hear()] == [0, 1, 1]
    await session.close("end")
