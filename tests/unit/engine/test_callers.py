"""WebSocket callers at the engine: who is let in, with what, where, and who is not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from engine.supervisor import WorkerHandle, WorkerState
from ipc.errors import Overloaded, StateError, WorkerDied, WorkerStalled
from ipc.messages import (
    Admit,
    Claim,
    Claimed,
    CloseSession,
    Connected,
    Disconnected,
    LegState,
    MediaMoved,
    Message,
    OpenMedia,
    OpenRing,
    Refused,
)
from tests.fakes.control import Setup
from tests.support import until

if TYPE_CHECKING:
    from engine.session import Session


class Calls(Setup):
    """A setup whose callers come over WebSocket."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.bots.add("b1")
        self.token = self.sessions.callers.issue({"who": "me"}, "127.0.0.1")

    async def claim(
        self,
        token: str | None = None,
        worker: WorkerHandle | None = None,
        *,
        host: str = "localhost:7861",
        origin: str | None = None,
    ) -> Message:
        claim = Claim(
            caller=7, token=self.token if token is None else token, host=host, origin=origin
        )
        return await self.sessions.callers.request(worker or self.supervisor.worker, claim)

    async def in_call(self) -> Session:
        assert isinstance(await self.claim(), Claimed)
        (session,) = self.sessions.all
        await until(lambda: session.attached)
        self.leg(session, "connected")
        assert state_of(session) == "live"
        return session

    async def refused(self, **options: Any) -> tuple[int, str]:
        answer = await self.claim(**options)
        assert isinstance(answer, Refused), answer
        return answer.status, answer.code

    def says(self, worker: WorkerHandle, session: Session, state: Any, reason: str = "") -> None:
        message = LegState(session=session.id, state=state, reason=reason)
        self.sessions.worker_message(worker, message)

    def asked(self, kind: type[Message]) -> list[Message]:
        return [message for message in self.supervisor.asked if isinstance(message, kind)]


def state_of(session: Session) -> str:
    return session.state.value


async def test_a_claim_begins_a_session_where_the_connection_is() -> None:
    setup = Calls()
    worker = WorkerHandle(name="w9", token="", state=WorkerState.LIVE)
    claimed = await setup.claim(worker=worker)
    (session,) = setup.sessions.all
    assert claimed == Claimed(session=session.id)
    assert (session.worker, session.request_data) == (worker, {"who": "me"})
    assert session.snapshot()["transport"] == "websocket"
    kinds = [type(message) for message in setup.supervisor.asked]
    assert kinds[:2] == [Admit, OpenRing]
    assert setup.supervisor.asked[0] == Admit(session=session.id, caller=7)
    await setup.end()


async def test_a_caller_who_left_has_used_its_token_up() -> None:
    setup = Calls()
    session = await setup.in_call()
    setup.leg(session, "closed", "caller_left")
    await until(lambda: not setup.sessions.all)
    assert await setup.refused() == (401, "bad_token")


async def test_strangers_pages_and_guesses_are_refused() -> None:
    setup = Calls()
    assert await setup.refused(token="") == (401, "no_token")
    assert await setup.refused(token="guess") == (401, "bad_token")
    assert await setup.refused(host="evil.example") == (403, "host_not_allowed")
    assert await setup.refused(origin="https://evil.example") == (403, "origin_not_allowed")
    assert setup.supervisor.asked == []
    assert isinstance(await setup.claim(origin="http://localhost:3000"), Claimed)
    await setup.end()


async def test_without_a_free_bot_the_token_stays_good() -> None:
    setup = Calls()
    bots, setup.bots.all = setup.bots.all, []
    assert await setup.refused() == (503, "no_bot")
    setup.bots.all = bots
    await setup.in_call()
    await setup.end()


@pytest.mark.parametrize("kind", [Admit, OpenRing])
async def test_a_claim_that_fails_leaves_nothing_and_the_token_good(kind: type[Message]) -> None:
    setup = Calls()
    setup.supervisor.failures[kind] = Overloaded("no room", code="shm_full")
    assert await setup.refused() == (503, "shm_full")
    assert setup.sessions.all == []
    assert not any(bot.sessions for bot in setup.bots.all)
    setup.supervisor.failures.clear()
    await setup.in_call()
    await setup.end()


async def test_one_who_never_came_in_may_try_again() -> None:
    setup = Calls()
    assert isinstance(await setup.claim(), Claimed)
    (session,) = setup.sessions.all
    setup.leg(session, "lost", "connection_lost")
    await until(lambda: not setup.sessions.all)
    assert session.reason == "not_connected"
    await setup.in_call()
    await setup.end()


async def test_two_at_once_with_one_token_are_one_too_many() -> None:
    setup = Calls()
    both = await asyncio.gather(setup.claim(), setup.claim())
    assert sorted(type(answer).__name__ for answer in both) == ["Claimed", "Refused"]
    assert await setup.refused() == (409, "token_in_use")  # the first is still connecting
    await setup.end()


async def test_an_engine_that_ends_or_is_full_takes_nobody() -> None:
    setup = Calls(max_sessions=1)
    await setup.in_call()
    other = setup.sessions.callers.issue(None, "127.0.0.1")
    assert await setup.refused(token=other) == (503, "overloaded")
    await setup.end()
    assert await setup.refused(token=other) == (503, "stopping")


async def test_a_caller_who_lost_its_connection_goes_on_at_the_same_worker() -> None:
    setup = Calls()
    session = await setup.in_call()
    setup.leg(session, "lost", "connection_lost")
    assert state_of(session) == "interrupted"
    assert await setup.claim() == Claimed(session=session.id)
    assert len(setup.asked(OpenRing)) == 1
    setup.leg(session, "connected")
    assert state_of(session) == "live"
    assert setup.told(Disconnected) == [Disconnected(session=session.id, reason="connection_lost")]
    assert setup.told(Connected)[-1] == Connected(session=session.id, resumed=True)
    await setup.end()


async def test_a_dead_workers_caller_goes_on_where_it_comes_to() -> None:
    setup = Calls()
    session = await setup.in_call()
    setup.lose_worker()
    assert state_of(session) == "interrupted"
    await until(lambda: setup.told(Disconnected))
    assert await setup.claim() == Claimed(session=session.id)
    assert session.worker is setup.supervisor.worker
    assert setup.told(MediaMoved) == [MediaMoved(session=session.id)]
    assert session.bot is not None
    setup.leg(session, "connected")
    await setup.sessions.bot_request(session.bot, OpenMedia(session=session.id))
    assert state_of(session) == "live"
    await setup.end()


async def test_a_caller_who_comes_to_another_worker_takes_its_session_along() -> None:
    setup = Calls()
    session = await setup.in_call()
    before = setup.supervisor.worker
    other = WorkerHandle(name="w9", token="", state=WorkerState.LIVE)
    assert await setup.claim(worker=other) == Claimed(session=session.id)
    assert setup.asked(CloseSession) == [CloseSession(session=session.id, reason="replaced")]
    assert (before.sessions, other.sessions) == (set(), {session.id})
    assert setup.told(MediaMoved) == [MediaMoved(session=session.id)]
    setup.says(before, session, "closed", "late")
    setup.says(other, session, "connected")
    assert session.bot is not None
    await setup.sessions.bot_request(session.bot, OpenMedia(session=session.id))
    assert state_of(session) == "live"
    await setup.end()


async def test_a_worker_that_cannot_take_it_leaves_the_session_for_the_next() -> None:
    setup = Calls()
    session = await setup.in_call()
    setup.lose_worker()
    setup.supervisor.failures[Admit] = WorkerStalled("no")
    assert await setup.refused() == (503, "worker_stalled")
    assert session.lost_worker
    setup.supervisor.failures[Admit] = StateError("no", code="caller_gone")
    assert await setup.refused() == (409, "caller_gone")
    setup.supervisor.failures.clear()
    assert await setup.claim() == Claimed(session=session.id)
    await setup.end()


def test_where_callers_go() -> None:
    def at(scheme: str, host: str, **settings: Any) -> str:
        callers = Setup(**settings).sessions.callers
        callers.port = 7861
        return callers.url(scheme, host)

    assert at("http", "localhost") == "ws://localhost:7861/ws-client"
    assert at("https", "[::1]") == "wss://[::1]:7861/ws-client"
    for public in ("wss://v.example/a", "wss://v.example/a/", "wss://v.example/a/ws-client"):
        assert at("http", "x", public_ws_url=public) == "wss://v.example/a/ws-client"


async def test_a_caller_who_moves_on_before_its_bot_has_come_for_rings_is_kept() -> None:
    setup = Calls()
    session = await setup.in_call()
    second, third = (WorkerHandle(name=n, token="", state=WorkerState.LIVE) for n in ("w8", "w9"))
    await setup.claim(worker=second)
    setup.bots.offering.clear()
    assert session.bot is not None
    asking = asyncio.create_task(
        setup.sessions.bot_request(session.bot, OpenMedia(session=session.id))
    )
    await until(lambda: len(setup.bots.offered) == 2)
    await setup.claim(worker=third)
    setup.bots.offering.set()
    with pytest.raises(WorkerDied):
        await asking
    assert not session.over
    setup.says(third, session, "connected")
    await setup.sessions.bot_request(session.bot, OpenMedia(session=session.id))
    assert state_of(session) == "live"
    await setup.end()


async def test_a_caller_who_moves_on_while_its_next_bot_attaches_is_kept() -> None:
    setup = Calls()
    session = await setup.in_call()
    old = setup.bots.all.pop()
    setup.bots.offering.clear()
    setup.sessions.bot_gone(old, "bot_died")
    setup.bots.add("b2")
    await until(lambda: setup.bots.offered == ["b1", "b2"])
    other = WorkerHandle(name="w9", token="", state=WorkerState.LIVE)
    assert await setup.claim(worker=other) == Claimed(session=session.id)
    setup.says(other, session, "connected")
    setup.bots.offering.set()
    await until(lambda: session.attached)
    assert (state_of(session), session.worker) == ("live", other)
    await setup.end()


async def test_one_who_never_came_in_may_try_again_at_once() -> None:
    setup = Calls()
    assert isinstance(await setup.claim(), Claimed)
    (first,) = setup.sessions.all
    setup.leg(first, "lost", "connection_lost")
    assert first.over
    second = await setup.claim()
    assert isinstance(second, Claimed)
    assert second.session != first.id
    await setup.end()


async def test_a_session_that_ends_while_its_caller_comes_in_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setup = Calls()
    ask = setup.supervisor.request

    async def admitted(worker: WorkerHandle, message: Message, **options: Any) -> Message:
        if isinstance(message, Admit):
            (session,) = setup.sessions.all
            setup.sessions.close(session, "engine_stopped")
            await session.closed.wait()
        return await ask(worker, message, **options)

    monkeypatch.setattr(setup.supervisor, "request", admitted)
    assert await setup.refused() == (409, "session_closed")
    await setup.end()


async def test_who_is_admitted_again_and_never_comes_is_lost_only_once() -> None:
    setup = Calls()
    session = await setup.in_call()
    setup.lose_worker()
    deadline = session.deadline
    assert await setup.claim() == Claimed(session=session.id)
    setup.leg(session, "lost", "connection_lost")
    assert setup.told(Disconnected) == [Disconnected(session=session.id, reason="worker_died")]
    assert session.deadline is deadline is not None
    await setup.end()
