"""What the engine decides about sessions that their bot has placed, and about moved ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine.session import Session, State
from ipc.codec import Codec
from ipc.errors import (
    AlreadyAttached,
    BackbeatError,
    BotGone,
    ConfigError,
    NoWorker,
    SdpRejected,
    SessionNotFound,
    WorkerStalled,
)
from ipc.ice_server import IceServer
from ipc.messages import (
    AppMessage,
    Candidate,
    Candidates,
    CloseSession,
    Connected,
    Disconnected,
    LegState,
    MediaMoved,
    Message,
    Offer,
    Ok,
    OpenMedia,
    OpenRing,
    Placed,
    Renegotiate,
    SendMessage,
    SessionClosed,
    TrackStatus,
)
from tests.fakes.control import Setup
from tests.support import turn, until


async def ended(session: Session) -> str:
    async with asyncio.timeout(30):
        await session.closed.wait()
    return session.reason


async def opened(setup: Setup, session: Session, **bases: Any) -> Message:
    assert session.bot is not None
    return await setup.sessions.bot_request(session.bot, OpenMedia(session=session.id, **bases))


async def test_a_placed_session_is_its_bots_at_once_and_takes_no_room() -> None:
    setup = Setup()
    bot = setup.bots.add("b1", capacity=0)
    session = await setup.place(bot, request_data={"a": 1}, connect_s=7)
    assert (session.state, session.bot, session.connect_s) == (State.CONNECTING, bot, 7)
    assert (bot.room, bot.sessions, bot.placed) == (0, set(), {session.id})
    assert [type(message) for message in setup.supervisor.asked] == [Offer]
    setup.leg(session, "connecting")
    status = TrackStatus(session=session.id, receiver_index=0, enabled=False)
    said = AppMessage(session=session.id, data="early")
    for message in (status, said):
        setup.sessions.worker_message(setup.supervisor.worker, message)
    setup.leg(session, "connected")
    assert session.state.value == "live"
    assert setup.bots.told == [
        ("b1", LegState(session=session.id, state="connecting")),
        ("b1", status),
        ("b1", said),
        ("b1", LegState(session=session.id, state="connected")),
        ("b1", Connected(session=session.id)),
    ]
    told = len(setup.bots.told)
    assert await opened(setup, session) == Ok()
    assert session.attached
    assert len(setup.bots.told) == told  # nothing comes twice
    await setup.end()
    assert bot.placed == set()


async def test_rings_are_made_as_the_bot_asks_and_once() -> None:
    setup = Setup()
    session = await setup.place(setup.bots.add("b1", capacity=0))
    codec = Codec(bitrate_bps=32_000)
    wanted = OpenMedia(session=session.id, mic_hz=16_000, speaker_channels=2, codec=codec)
    assert session.bot is not None
    both = (setup.sessions.bot_request(session.bot, wanted) for _ in range(2))
    first, second = await asyncio.gather(*both, return_exceptions=True)
    assert first == Ok()
    assert isinstance(second, AlreadyAttached)
    (ring,) = [message for message in setup.supervisor.asked if isinstance(message, OpenRing)]
    assert (ring.mic_hz, ring.speaker_hz, ring.speaker_channels) == (16_000, 48_000, 2)
    assert (ring.codec, ring.mic_base, ring.epoch) == (codec, 0, 1)
    await setup.end()


async def test_rings_that_cannot_be_had_leave_the_session_as_it_is() -> None:
    setup = Setup()
    session = await setup.place(setup.bots.add("b1", capacity=0))
    setup.bots.refusing.add("b1")
    with pytest.raises(BotGone):
        await opened(setup, session)
    setup.bots.refusing.clear()
    setup.supervisor.failures[OpenRing] = ConfigError("no such rate")
    with pytest.raises(ConfigError):
        await opened(setup, session)
    with pytest.raises(ConfigError):
        await opened(setup, session, mic_base=-1)
    assert (session.state, session.segment) == (State.CONNECTING, "")
    del setup.supervisor.failures[OpenRing]
    assert await opened(setup, session) == Ok()
    await setup.end()


async def test_servers_of_the_offer_are_for_its_session() -> None:
    setup = Setup()
    bot = setup.bots.add("b1", capacity=0)
    mine = IceServer(urls=["stun:127.0.0.1:3478"])
    session = await setup.place(bot, ice_servers=[mine])
    await setup.sessions.bot_request(bot, Renegotiate(session=session.id, sdp="again"))
    offers = [message for message in setup.supervisor.asked if isinstance(message, Offer)]
    assert [offer.ice_servers for offer in offers] == [[mine], [mine]]
    await setup.end()


@pytest.mark.parametrize("connect_s", [0.0, -1.0, 86_400.1, float("nan")])
async def test_a_deadline_that_cannot_be_is_refused(connect_s: float) -> None:
    setup = Setup()
    with pytest.raises(ConfigError):
        await setup.place(setup.bots.add("b1"), connect_s=connect_s)
    assert setup.sessions.all == []


async def test_a_caller_who_does_not_connect_in_time_has_none() -> None:
    setup = Setup()
    session = await setup.place(setup.bots.add("b1", capacity=0), connect_s=0.01)
    assert await ended(session) == "ice_failed"
    assert setup.told(SessionClosed)


async def test_an_offer_that_fails_leaves_nothing() -> None:
    setup = Setup()
    bot = setup.bots.add("b1", capacity=0)
    setup.supervisor.failures[Offer] = SdpRejected("no")
    with pytest.raises(SdpRejected):
        await setup.place(bot)
    await until(lambda: not setup.sessions.all)
    assert (bot.placed, setup.supervisor.worker.sessions) == (set(), set())


async def test_a_restart_has_a_new_id_and_the_old_one_leads_there_until_it_is_complete() -> None:
    setup = Setup()
    bot = setup.bots.add("b1", capacity=0)
    session = await setup.place(bot)
    setup.leg(session, "connected")
    ids = [session.pc_id]
    for number in range(8):
        reply = await setup.sessions.bot_request(
            bot, Renegotiate(session=session.id, sdp=f"offer {number}", restart=True)
        )
        assert isinstance(reply, Placed)
        assert (reply.session, reply.pc_id) == (session.id, session.pc_id)
        ids.append(reply.pc_id)
    assert len(set(ids)) == 9
    known = setup.sessions._known
    assert [known.of_caller(pc_id) for pc_id in ids[-5:]] == [session] * 5
    assert [known.of_caller(pc_id) for pc_id in ids[:4]] == [None] * 4
    setup.leg(session, "connecting")
    setup.leg(session, "connected")
    assert [known.of_caller(pc_id) for pc_id in ids] == [None] * 8 + [session]
    assert session.state is State.LIVE
    assert setup.told(Connected) == [Connected(session=session.id)]
    await setup.end()
    assert known.of_caller(ids[-1]) is None


async def test_an_offer_on_the_same_connection_keeps_its_id() -> None:
    setup = Setup()
    bot = setup.bots.add("b1", capacity=0)
    session = await setup.place(bot)
    before = session.pc_id
    await setup.sessions.bot_request(bot, Renegotiate(session=session.id, sdp="again"))
    assert session.pc_id == before
    await setup.end()


async def test_only_its_bot_speaks_for_the_caller_of_a_placed_session() -> None:
    setup = Setup()
    bot, stranger = setup.bots.add("b1", capacity=0), setup.bots.add("b2", name="other")
    session = await setup.place(bot)
    candidates = Candidates(session=session.id, candidates=[Candidate(candidate="")])
    assert await setup.sessions.bot_request(bot, candidates) == Ok()
    with pytest.raises(SessionNotFound):
        await setup.sessions.add_candidates(session.pc_id, [])
    for message in (
        candidates,
        Renegotiate(session=session.id, sdp="offer"),
        OpenMedia(session=session.id),
    ):
        with pytest.raises(SessionNotFound):
            await setup.sessions.bot_request(stranger, message)
    _, pc_id = await setup.sessions.offer(
        "offer", pc_id=session.pc_id, restart=True, request_data={"bot": "other"}
    )
    assert pc_id != session.pc_id
    assert len(setup.sessions.all) == 2
    await setup.end()


@pytest.mark.parametrize("reason", ["bot_died", "bot_stalled", "bot_left"])
async def test_the_sessions_of_a_bot_without_room_end_with_it(reason: str) -> None:
    setup = Setup()
    bot = setup.bots.add("b1", capacity=0)
    session = await setup.place(bot)
    setup.leg(session, "connected")
    await opened(setup, session)
    setup.sessions.bot_gone(bot, reason)
    assert await ended(session) == reason


async def test_a_bot_of_the_same_name_with_room_takes_over_what_another_has_placed() -> None:
    setup = Setup()
    bot = setup.bots.add("b1", capacity=1)
    session = await setup.place(bot)
    setup.leg(session, "connected")
    await opened(setup, session)
    setup.bots.all.clear()
    setup.sessions.bot_gone(bot, "bot_died")
    assert session.state is State.INTERRUPTED
    heir = setup.bots.add("b2", capacity=1)
    await until(lambda: session.attached)
    assert (session.bot, session.placed, heir.sessions) == (heir, False, {session.id})
    assert setup.told(Connected)[-1] == Connected(session=session.id, resumed=True)
    await setup.end()


async def test_a_bot_that_gives_up_a_caller_who_dials_hears_of_the_end_at_once() -> None:
    setup = Setup()
    bot = setup.bots.add("b1", capacity=0)
    session = await setup.place(bot)
    await setup.sessions.bot_request(bot, CloseSession(session=session.id, reason="enough"))
    assert setup.told(SessionClosed) == [SessionClosed(session=session.id, reason="enough")]
    assert (session.state, bot.placed) == (State.CONNECTING, set())
    setup.leg(session, "connected")  # now the caller can be told
    assert await ended(session) == "enough"
    other = await setup.place(bot)
    message = CloseSession(session=other.id, reason="abandoned", at_once=True)
    await setup.sessions.bot_request(bot, message)
    assert await ended(other) == "abandoned"


# -- a worker that dies -----------------------------------------------------------------------


async def test_a_session_that_loses_its_worker_goes_on_at_another_with_new_rings() -> None:
    setup = Setup()
    bot = setup.bots.add("b1")
    session = await setup.live()
    setup.lose_worker("worker_stalled")
    assert session.state.value == "interrupted"
    assert setup.told(Disconnected) == [Disconnected(session=session.id, reason="worker_stalled")]
    message = SendMessage(session=session.id, data="meanwhile")
    setup.sessions.bot_message(bot, message)
    _, pc_id = await setup.sessions.offer(
        "offer", pc_id=session.pc_id, restart=True, request_data=None
    )
    assert pc_id == session.pc_id
    assert session.worker is setup.supervisor.worker
    assert setup.told(MediaMoved) == [MediaMoved(session=session.id)]
    setup.leg(session, "connected")
    assert setup.told(Connected) == [Connected(session=session.id)]  # its bot has no rings yet
    assert setup.supervisor.told == []
    assert await opened(setup, session, mic_base=9600, speaker_base=4800) == Ok()
    (*_, ring) = [m for m in setup.supervisor.asked if isinstance(m, OpenRing)]
    assert (ring.epoch, ring.mic_base, ring.speaker_base) == (2, 9600, 4800)
    assert session.state.value == "live"
    assert setup.told(Connected)[-1] == Connected(session=session.id, resumed=True)
    assert setup.supervisor.told == [message]
    await setup.end()


async def test_an_offer_to_a_worker_that_refuses_it_may_be_made_again() -> None:
    setup = Setup()
    setup.bots.add("b1")
    session = await setup.live()
    setup.lose_worker()
    errors: list[BackbeatError] = [SdpRejected("no"), WorkerStalled("no answer")]
    for error in errors:
        setup.supervisor.failures[Offer] = error
        with pytest.raises(type(error)):
            await setup.sessions.answer(session, "offer")
        assert session.lost_worker
        assert setup.supervisor.worker.sessions == set()
    del setup.supervisor.failures[Offer]
    assert await setup.sessions.answer(session, "offer") == "answer"
    assert setup.supervisor.worker.sessions == {session.id}
    await setup.end()


async def test_without_another_worker_a_caller_is_told_to_try_again() -> None:
    setup = Setup()
    setup.bots.add("b1")
    session = await setup.live()
    setup.lose_worker()
    setup.supervisor.worker.state = session.worker.state
    with pytest.raises(NoWorker):
        await setup.sessions.answer(session, "offer")
    assert session.state.value == "interrupted"
    await setup.end()


async def test_a_session_whose_worker_and_bot_die_waits_for_both() -> None:
    setup = Setup()
    old = setup.bots.add("b1")
    session = await setup.live()
    setup.lose_worker()
    setup.bots.all.clear()
    setup.sessions.bot_gone(old, "bot_died")
    new = setup.bots.add("b2")
    asked = len(setup.supervisor.asked)
    await turn()
    await setup.sessions.answer(session, "offer")
    await until(lambda: session.attached)
    assert session.bot is new
    assert setup.told(MediaMoved) == []
    assert len(setup.supervisor.asked) > asked
    await setup.end()


async def test_a_moved_session_whose_rings_cannot_be_made_ends() -> None:
    setup = Setup()
    setup.bots.add("b1")
    session = await setup.live()
    setup.lose_worker()
    await setup.sessions.answer(session, "offer")
    setup.supervisor.failures[OpenRing] = ConfigError("full", code="shm_full")
    with pytest.raises(ConfigError):
        await opened(setup, session)
    assert await ended(session) == "shm_full"


async def test_a_caller_of_a_dead_worker_who_stays_away_has_left() -> None:
    setup = Setup(resume_s=0)
    setup.bots.add("b1")
    session = await setup.live()
    setup.lose_worker()
    assert await ended(session) == "worker_died"
