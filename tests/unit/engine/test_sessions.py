"""The states of a session, and what the engine decides when something goes away."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from engine.sessions import TRANSITIONS, Session, State
from engine.supervisor import WorkerHandle, WorkerState
from ipc.errors import (
    NoBot,
    Overloaded,
    SdpRejected,
    SessionNotFound,
    StateError,
)
from ipc.messages import (
    AppMessage,
    CloseSession,
    Connected,
    Disconnected,
    LegState,
    Message,
    Offer,
    OpenRing,
    SessionClosed,
)
from tests.fakes.control import Setup
from tests.support import until


def test_the_table_of_states_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(TRANSITIONS) == set(State)
    for state, following in TRANSITIONS.items():
        print(f"{state.value:12} -> {', '.join(sorted(s.value for s in following)) or '(end)'}")
        assert state not in following
        if state not in (State.CLOSING, State.CLOSED):
            assert State.CLOSING in following
    assert TRANSITIONS[State.CLOSED] == frozenset()
    reached, grown = {State.NEW}, True
    while grown:
        more = {after for state in reached for after in TRANSITIONS[state]} - reached
        grown = bool(more)
        reached |= more
    assert reached == set(State)
    assert "closed       -> (end)" in capsys.readouterr().out


@pytest.mark.parametrize("before", list(State))
@pytest.mark.parametrize("after", list(State))
async def test_only_transitions_of_the_table_are_made(before: State, after: State) -> None:
    setup = Setup()
    session = Session("s_1", "pc_1", "echo", setup.supervisor.worker, None, state=before)
    if after is before or after in TRANSITIONS[before]:
        setup.sessions._move(session, after)
        assert session.state is after
    else:
        with pytest.raises(StateError):
            setup.sessions._move(session, after)
        assert session.state is before


async def test_a_call_goes_through_its_states_in_order() -> None:
    setup = Setup()
    bot = setup.bots.add("b1")
    session = await setup.call({"a": 1})
    assert session.state is State.CONNECTING
    assert session.id.startswith("s_0123abcd")
    assert bot.sessions == {session.id}
    await until(lambda: session.attached)
    setup.leg(session, "connected")
    states = [State.CONNECTING, session.state]
    setup.leg(session, "closed", "caller_left")
    states.append(session.state)
    async with asyncio.timeout(30):
        await session.closed.wait()
    states.append(session.state)
    assert states == [State.CONNECTING, State.LIVE, State.CLOSING, State.CLOSED]
    assert all(after in TRANSITIONS[before] for before, after in pairwise(states))
    assert setup.told(Disconnected) == [Disconnected(session=session.id, reason="caller_left")]
    assert setup.told(SessionClosed) == [SessionClosed(session=session.id, reason="caller_left")]
    assert (setup.sessions.all, bot.sessions, setup.supervisor.worker.sessions) == (
        [],
        set(),
        set(),
    )


async def test_closing_again_changes_nothing() -> None:
    setup = Setup()
    setup.bots.add("b1")
    session = await setup.live()
    for reason in ("first", "second"):
        setup.sessions.close(session, reason)
    async with asyncio.timeout(30):
        await session.closed.wait()
    setup.sessions.close(session, "third")
    setup.leg(session, "connected")
    assert session.reason == "first"
    assert setup.told(SessionClosed) == [SessionClosed(session=session.id, reason="first")]
    closes = [m for m in setup.supervisor.asked if isinstance(m, CloseSession)]
    assert closes == [CloseSession(session=session.id, reason="first")]


async def test_messages_before_the_bot_attached_are_kept_in_order() -> None:
    setup = Setup()
    setup.bots.add("b1")
    setup.bots.offering.clear()
    session = await setup.call()
    setup.leg(session, "connected")
    for number in range(3):
        message = AppMessage(session=session.id, data=number)
        setup.sessions.worker_message(setup.supervisor.worker, message)
    assert session.state is State.CONNECTING
    setup.bots.offering.set()
    await until(lambda: session.state is State.LIVE)
    await until(lambda: len(setup.bots.told) == 4)
    assert isinstance(setup.bots.told[0][1], Connected)
    assert [m.data for _, m in setup.bots.told[1:] if isinstance(m, AppMessage)] == [0, 1, 2]
    await setup.end()


async def test_a_bot_that_does_not_attach_gives_way_to_the_next() -> None:
    setup = Setup()
    first, second = setup.bots.add("b1"), setup.bots.add("b2")
    setup.bots.refusing.add("b1")
    session = await setup.call()
    await until(lambda: session.attached)
    assert setup.bots.offered == ["b1", "b2"]
    assert (first.sessions, second.sessions) == (set(), {session.id})
    await setup.end()


async def test_when_no_bot_attaches_the_session_ends_with_no_bot() -> None:
    setup = Setup()
    for identity in ("b1", "b2"):
        setup.bots.add(identity)
        setup.bots.refusing.add(identity)
    session = await setup.call()
    async with asyncio.timeout(30):
        await session.closed.wait()
    assert session.reason == "no_bot"
    assert setup.bots.offered == ["b1", "b2"]
    assert not any(bot.sessions for bot in setup.bots.all)


@pytest.mark.parametrize("reason", ["bot_died", "bot_stalled"])
async def test_a_call_whose_bot_died_is_held_for_the_next_of_its_name(reason: str) -> None:
    setup = Setup()
    old = setup.bots.add("b1")
    session = await setup.live()
    setup.bots.all.clear()
    setup.sessions.bot_gone(old, reason)
    assert session.state.value == "interrupted"
    setup.sessions.worker_message(
        setup.supervisor.worker, AppMessage(session=session.id, data="meanwhile")
    )
    setup.bots.add("other", name="another")
    new = setup.bots.add("b2")
    await until(lambda: session.attached)
    assert session.state is State.LIVE
    assert session.bot is new
    assert session.epoch == 2
    await until(lambda: ("b2", AppMessage(session=session.id, data="meanwhile")) in setup.bots.told)
    await setup.end()


async def test_a_bot_that_left_by_its_own_will_takes_its_calls_along() -> None:
    setup = Setup()
    bot = setup.bots.add("b1")
    session = await setup.live()
    setup.sessions.bot_gone(bot, "bot_left")
    async with asyncio.timeout(30):
        await session.closed.wait()
    assert session.reason == "bot_left"


async def test_a_call_ends_when_no_bot_comes_back_in_time() -> None:
    setup = Setup(resume_s=0)
    bot = setup.bots.add("b1")
    session = await setup.live()
    setup.bots.all.clear()
    setup.sessions.bot_gone(bot, "bot_died")
    async with asyncio.timeout(30):
        await session.closed.wait()
    assert session.reason == "bot_gone"


async def test_calls_that_still_dial_end_with_their_worker_which_nobody_asks() -> None:
    setup = Setup()
    setup.bots.add("b1")
    session = await setup.call()
    await until(lambda: session.attached)
    worker = setup.supervisor.worker
    worker.state, worker.reason = WorkerState.GONE, "worker_stalled"
    asked = len(setup.supervisor.asked)
    setup.sessions.worker_gone(worker)
    async with asyncio.timeout(30):
        await session.closed.wait()
    assert session.reason == "worker_stalled"
    assert len(setup.supervisor.asked) == asked


async def test_a_lost_path_interrupts_and_its_return_resumes() -> None:
    setup = Setup()
    setup.bots.add("b1")
    session = await setup.live()
    setup.leg(session, "lost")
    assert session.state.value == "interrupted"
    setup.leg(session, "connected")
    assert session.state is State.LIVE
    connected = [m.resumed for m in setup.told(Connected) if isinstance(m, Connected)]
    assert connected == [False, True]
    assert setup.told(Disconnected) == [Disconnected(session=session.id, reason="lost")]
    await setup.end()


async def test_a_path_that_never_was_ends_the_call() -> None:
    setup = Setup()
    setup.bots.add("b1")
    session = await setup.call()
    setup.leg(session, "lost")
    async with asyncio.timeout(30):
        await session.closed.wait()
    assert session.reason == "ice_failed"


@pytest.mark.parametrize("asked", [Offer, OpenRing])
async def test_an_offer_that_fails_leaves_nothing(asked: type[Message]) -> None:
    setup = Setup()
    bot = setup.bots.add("b1")
    setup.supervisor.failures[asked] = SdpRejected("no")
    with pytest.raises(SdpRejected):
        await setup.call()
    await until(lambda: not setup.sessions.all)
    assert (bot.sessions, setup.supervisor.worker.sessions) == (set(), set())


async def test_calls_that_cannot_be_taken_are_refused_with_the_reason() -> None:
    setup = Setup(max_sessions=1)
    with pytest.raises(NoBot):
        await setup.call()
    setup.bots.add("b1")
    await setup.live()
    with pytest.raises(Overloaded):
        await setup.call()
    assert setup.sessions.not_ready()
    await setup.end()
    with pytest.raises(Overloaded):
        await setup.call()


async def test_candidates_and_bots_reach_only_sessions_of_their_own() -> None:
    setup = Setup()
    setup.bots.add("b1")
    stranger = setup.bots.add("b2", name="stranger")
    session = await setup.live()
    with pytest.raises(SessionNotFound):
        await setup.sessions.add_candidates("pc_unknown", [])
    with pytest.raises(SessionNotFound):
        await setup.sessions.bot_request(stranger, CloseSession(session=session.id))
    other = WorkerHandle(name="w2", token="", state=WorkerState.LIVE)
    message = LegState(session=session.id, state="closed", reason="caller_left")
    setup.sessions.worker_message(other, message)
    assert session.state is State.LIVE
    await setup.end()
