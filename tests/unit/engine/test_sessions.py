"""The states of a session, and what the engine decides when something goes away."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import pytest

from engine.bots import BotHandle
from engine.config import Settings
from engine.sessions import TRANSITIONS, Session, Sessions, State
from engine.supervisor import Supervisor, WorkerHandle, WorkerState
from ipc.errors import (
    BackbeatError,
    BotGone,
    NoBot,
    NoWorker,
    Overloaded,
    SdpRejected,
    SessionNotFound,
    StateError,
)
from ipc.messages import (
    Answer,
    AppMessage,
    CloseSession,
    Connected,
    Disconnected,
    Hello,
    LegState,
    Message,
    Offer,
    Ok,
    OpenRing,
    RingOpened,
    SessionClosed,
)
from tests.support import until

if TYPE_CHECKING:
    from engine.bots import Bots


class FakeSupervisor:
    def __init__(self) -> None:
        self.worker = WorkerHandle(name="w1", token="", state=WorkerState.LIVE)
        self.asked: list[Message] = []
        self.told: list[Message] = []
        self.failures: dict[type[Message], BackbeatError] = {}

    def place(self) -> WorkerHandle:
        if self.worker.state is not WorkerState.LIVE:
            raise NoWorker("none")
        return self.worker

    async def request(self, _worker: WorkerHandle, message: Message) -> Message:
        self.asked.append(message)
        if (failure := self.failures.get(type(message))) is not None:
            raise failure
        if isinstance(message, Offer):
            return Answer(sdp="answer")
        return RingOpened() if isinstance(message, OpenRing) else Ok()

    def notify(self, _worker: WorkerHandle, message: Message) -> None:
        self.told.append(message)


class FakeBots:
    def __init__(self) -> None:
        self.all: list[BotHandle] = []
        self.told: list[tuple[str, Message]] = []
        self.refusing: set[str] = set()
        self.offered: list[str] = []
        self.offering = asyncio.Event()
        self.offering.set()

    def add(self, identity: str, name: str = "echo", capacity: int = 2) -> BotHandle:
        bot = BotHandle(identity, identity.encode(), Hello(name=name, capacity=capacity), 0)
        self.all.append(bot)
        return bot

    def choose(self, name: str | None, without: set[str] | None = None) -> BotHandle:
        for bot in self.all:
            if name in (None, bot.name) and bot.room > 0 and bot.id not in (without or ()):
                return bot
        raise NoBot("none")

    async def wait_for(self, name: str, timeout_s: float) -> BotHandle:
        try:
            await until(lambda: any(bot.name == name for bot in self.all), timeout_s)
        except AssertionError:
            raise NoBot("none came") from None
        return self.choose(name)

    async def offer(self, bot: BotHandle, _offer: Message) -> None:
        self.offered.append(bot.id)
        await self.offering.wait()
        if bot.id in self.refusing:
            raise BotGone("it did not attach")

    def notify(self, bot: BotHandle, message: Message) -> None:
        self.told.append((bot.id, message))

    def released(self, bot: BotHandle, session_id: str) -> None:
        bot.sessions.discard(session_id)


class Setup:
    """Sessions between fakes."""

    def __init__(self, **settings: Any) -> None:
        self.supervisor = FakeSupervisor()
        self.bots = FakeBots()
        self.sessions = Sessions(
            Settings(**settings),
            "0123abcd",
            cast("Supervisor", self.supervisor),
            cast("Bots", self.bots),
        )

    async def call(self, request_data: Any = None) -> Session:
        _, pc_id = await self.sessions.offer(
            "offer", pc_id=None, restart=False, request_data=request_data
        )
        return next(session for session in self.sessions.all if session.pc_id == pc_id)

    async def live(self) -> Session:
        session = await self.call()
        await until(lambda: session.attached)
        self.leg(session, "connected")
        assert session.state is State.LIVE
        return session

    def leg(self, session: Session, state: Any, reason: str = "") -> None:
        message = LegState(session=session.id, state=state, reason=reason)
        self.sessions.worker_message(self.supervisor.worker, message)

    def told(self, kind: type[Message]) -> list[Message]:
        return [message for _, message in self.bots.told if isinstance(message, kind)]

    async def end(self) -> None:
        await self.sessions.close_all("test_over")


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
    async with asyncio.timeout(5):
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
    async with asyncio.timeout(5):
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
    async with asyncio.timeout(5):
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
    async with asyncio.timeout(5):
        await session.closed.wait()
    assert session.reason == "bot_left"


async def test_a_call_ends_when_no_bot_comes_back_in_time() -> None:
    setup = Setup(resume_s=0)
    bot = setup.bots.add("b1")
    session = await setup.live()
    setup.bots.all.clear()
    setup.sessions.bot_gone(bot, "bot_died")
    async with asyncio.timeout(5):
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
    async with asyncio.timeout(5):
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
    async with asyncio.timeout(5):
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
