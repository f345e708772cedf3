"""The engine's part in dialled sessions: how they begin, move, and end."""

from __future__ import annotations

import asyncio

import pytest

import engine.dialling
from engine.session import State
from ipc.errors import ConfigError, DialFailed, SessionNotFound, StateError
from ipc.messages import (
    CloseSession,
    Dial,
    Dialled,
    Disconnected,
    LegState,
    MediaMoved,
    OpenMedia,
    OpenWebsocket,
    RawMessage,
    Renegotiate,
    SendRaw,
    SessionClosed,
)
from ipc.websocket import Reconnect, Websocket
from tests.fakes.control import Setup
from tests.support import until


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setattr(engine.dialling, "FIRST_PAUSE_S", 0.001)
    return Setup()


async def dialled(setup: Setup, reconnect: Reconnect | None = None) -> str:
    bot = setup.bots.add("b1", capacity=0)
    websocket = Websocket(uri="ws://far/", reconnect=reconnect)
    reply = await setup.sessions.bot_request(bot, OpenWebsocket(websocket=websocket))
    assert isinstance(reply, Dialled)
    leg(setup, reply.session, "connected")
    return reply.session


def leg(setup: Setup, session: str, state: str, reason: str = "") -> None:
    message = LegState(session=session, state=state, reason=reason)  # type: ignore[arg-type]
    setup.sessions.worker_message(setup.supervisor.worker, message)


def told(setup: Setup, kind: type) -> list[object]:
    return [message for _, message in setup.bots.told if isinstance(message, kind)]


async def test_a_dialled_session_is_live_when_its_leg_is(setup: Setup) -> None:
    name = await dialled(setup)
    (session,) = setup.sessions.all
    assert (session.id, session.state, session.placed) == (name, State.LIVE, True)
    await setup.sessions.close_all("end")


async def test_one_that_fails_leaves_nothing(setup: Setup) -> None:
    bot = setup.bots.add("b1", capacity=0)
    setup.supervisor.failures[Dial] = DialFailed("no", code="dial_refused")
    with pytest.raises(DialFailed):
        await setup.sessions.bot_request(bot, OpenWebsocket(websocket=Websocket(uri="ws://far/")))
    await until(lambda: not setup.sessions.all)
    assert not bot.placed


async def test_what_is_raw_goes_between_the_bot_and_its_worker_only(setup: Setup) -> None:
    name = await dialled(setup)
    (session,) = setup.sessions.all
    assert session.bot is not None
    raw = RawMessage(session=name, data=b"x")
    setup.sessions.worker_message(setup.supervisor.worker, raw)
    assert told(setup, RawMessage) == [raw]
    send = SendRaw(session=name, data=b"y")
    await setup.sessions.bot_request(session.bot, send)
    assert setup.supervisor.asked[-1] is send
    with pytest.raises(SessionNotFound):
        await setup.sessions.bot_request(setup.bots.add("b2"), send)
    with pytest.raises(StateError):
        await setup.sessions.bot_request(session.bot, Renegotiate(session=name, sdp="offer"))
    await setup.sessions.close_all("end")


async def test_a_server_that_left_for_good_ends_the_session(setup: Setup) -> None:
    name = await dialled(setup)
    leg(setup, name, "closed", "server_left")
    await until(lambda: not setup.sessions.all)
    assert told(setup, Disconnected) == [Disconnected(session=name, reason="server_left")]
    assert told(setup, SessionClosed) == [SessionClosed(session=name, reason="server_left")]


async def test_one_that_is_dialled_again_has_the_time_that_was_asked_for(setup: Setup) -> None:
    name = await dialled(setup, Reconnect(within_s=100))
    (session,) = setup.sessions.all
    leg(setup, name, "lost", "server_closed")
    assert session.state is State.INTERRUPTED
    assert session.deadline is not None
    left_s = session.deadline.when() - asyncio.get_running_loop().time()
    assert 100 < left_s <= 111
    leg(setup, name, "connected")
    states = [session.state]
    assert states == [State.LIVE]
    await setup.sessions.close_all("end")


async def test_a_dead_workers_server_is_dialled_by_another_until_it_answers(
    setup: Setup,
) -> None:
    name = await dialled(setup)
    (session,) = setup.sessions.all
    assert session.bot is not None
    await setup.sessions.bot_request(session.bot, OpenMedia(session=name))
    failures = setup.supervisor.failures
    failures[Dial] = DialFailed("later", code="dial_refused", retryable=True)
    asked = len(setup.supervisor.asked)
    setup.lose_worker()

    def dials() -> int:
        return sum(isinstance(message, Dial) for message in setup.supervisor.asked[asked:])

    await until(lambda: dials() >= 3)
    assert not told(setup, MediaMoved)
    del failures[Dial]
    await until(lambda: told(setup, MediaMoved))
    assert session.worker is setup.supervisor.worker
    assert session.state is State.INTERRUPTED
    await setup.sessions.close_all("end")


async def test_a_server_that_refuses_the_next_worker_ends_the_session(setup: Setup) -> None:
    name = await dialled(setup)
    setup.supervisor.failures[Dial] = DialFailed("no", code="dial_http_403", retryable=False)
    setup.lose_worker()
    await until(lambda: not setup.sessions.all)
    assert told(setup, SessionClosed) == [SessionClosed(session=name, reason="dial_http_403")]


async def test_a_bot_that_leaves_hangs_up(setup: Setup) -> None:
    name = await dialled(setup)
    (session,) = setup.sessions.all
    assert session.bot is not None
    setup.sessions.bot_gone(session.bot, "bot_died")
    await until(lambda: not setup.sessions.all)
    assert CloseSession(session=name, reason="bot_died") in setup.supervisor.asked


def test_a_uri_that_is_none_never_reaches_a_worker() -> None:
    with pytest.raises(ConfigError):
        OpenWebsocket(websocket=Websocket(uri="far"))
