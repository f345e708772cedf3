"""Sessions with a server: another worker dials it when theirs is gone, and only one has them."""

from __future__ import annotations

import pytest

from engine.session import Session, State
from ipc.errors import BackbeatError, DialFailed, WorkerStalled
from ipc.messages import (
    CloseSession,
    Dial,
    Dialled,
    MediaMoved,
    OpenMedia,
    OpenWebsocket,
)
from ipc.websocket import Websocket
from tests.fakes.control import Setup
from tests.support import until

SERVER = Websocket(uri="ws://127.0.0.1:1/")


async def dialled(setup: Setup) -> Session:
    """A live session with a server, whose bot has its rings."""
    bot = setup.bots.add("b1")
    answer = await setup.sessions.bot_request(bot, OpenWebsocket(websocket=SERVER))
    assert isinstance(answer, Dialled)
    (session,) = setup.sessions.all
    await setup.sessions.bot_request(bot, OpenMedia(session=session.id))
    setup.leg(session, "connected")
    assert session.state is State.LIVE
    return session


def dials(setup: Setup) -> int:
    return len([asked for asked in setup.supervisor.asked if isinstance(asked, Dial)])


async def test_another_worker_dials_the_server_and_the_bot_comes_for_its_rings() -> None:
    setup = Setup()
    session = await dialled(setup)
    setup.lose_worker()
    await until(lambda: bool(setup.told(MediaMoved)))
    assert session.worker is setup.supervisor.worker
    assert setup.supervisor.worker.sessions == {session.id}
    assert dials(setup) == 2
    assert setup.told(MediaMoved) == [MediaMoved(session=session.id)]
    await setup.end()


async def test_a_worker_that_was_too_slow_to_dial_must_forget_the_session() -> None:
    setup = Setup()
    session = await dialled(setup)
    setup.supervisor.failures[Dial] = WorkerStalled("no answer")
    setup.lose_worker()
    forget = CloseSession(session=session.id, reason="moved_elsewhere")
    await until(lambda: forget in setup.supervisor.asked)
    assert session.lost_worker
    assert setup.supervisor.worker.sessions == set()
    setup.supervisor.failures.clear()
    await until(lambda: session.worker is setup.supervisor.worker)
    assert setup.told(MediaMoved) == [MediaMoved(session=session.id)]
    await setup.end()


@pytest.mark.parametrize(
    ("error", "ends"),
    [(DialFailed("refused", retryable=True), False), (DialFailed("403", retryable=False), True)],
    ids=["refused for now", "refused for good"],
)
async def test_a_server_that_refuses_is_asked_again_if_it_may_take_it(
    error: BackbeatError, ends: bool
) -> None:
    setup = Setup()
    session = await dialled(setup)
    setup.supervisor.failures[Dial] = error
    setup.lose_worker()
    await until(lambda: dials(setup) > 2 or session.over)
    assert session.over == ends
    await setup.end()
