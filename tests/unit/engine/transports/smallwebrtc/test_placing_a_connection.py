"""A connection's first offer: how long the caller is waited for, and the first event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.sdk import Session
from engine.sdk.placing import Placed
from engine.transports.smallwebrtc import connection as module
from engine.transports.smallwebrtc.connection import MAX_CONNECT_S, STATES, SmallWebRTCConnection
from tests.support import until
from tests.unit.engine.sdk.test_session import FakeLine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ipc.messages import Message


class Bot:
    """Places whatever is asked of it, and keeps how."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.asked: dict[str, Any] = {}

    async def open_webrtc(self, sdp: str, **asked: Any) -> Placed:
        self.asked = asked
        return Placed(self.session, "v=0", "pc_1")


class Home:
    """The way to the bot."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self.released = 0

    async def acquire(self) -> Home:
        return self

    async def bot(self) -> Bot:
        return self._bot

    def release(self) -> None:
        self.released += 1


class DeafLine(FakeLine):
    """An engine that does not read while it is `deaf`."""

    deaf = False

    def notify(self, message: Message) -> bool:
        return not self.deaf and super().notify(message)


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    made = Session("s_1", DeafLine(), None)
    yield made
    made.ended("test over")
    await made.settle(1.0)


@pytest.fixture
def bot(session: Session, monkeypatch: pytest.MonkeyPatch) -> Bot:
    made = Bot(session)
    monkeypatch.setattr(module, "Home", Home(made))
    return made


@pytest.mark.parametrize(("given_s", "asked_s"), [(60, 60), (301, 301), (10**9, MAX_CONNECT_S)])
async def test_any_time_to_connect_is_taken(bot: Bot, given_s: int, asked_s: int) -> None:
    connection = SmallWebRTCConnection(connection_timeout_secs=given_s)
    await connection.initialize("v=0", "offer")
    assert bot.asked["connect_s"] == asked_s


async def test_every_state_is_told_in_its_turn(bot: Bot, session: Session) -> None:
    connection = SmallWebRTCConnection()
    told: list[str] = []
    for state in STATES:
        connection.add_event_handler(state, lambda _connection, state=state: told.append(state))
    await connection.initialize("v=0", "offer")
    await until(lambda: told == ["new"])
    session.peer_changed("connecting")
    await until(lambda: told == ["new", "connecting"])
    session.ended("ice_failed")
    await until(lambda: told == ["new", "connecting", "failed", "closed"])


async def test_a_message_that_the_engine_does_not_read_is_known_to_be_lost(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    connection = SmallWebRTCConnection.of(session)
    line: Any = session._line
    assert connection.send_app_message({"n": 1}) is True
    line.deaf = True
    assert [connection.send_app_message({"n": n}) for n in (2, 3)] == [False, False]
    line.deaf = False
    assert connection.send_app_message({"n": 4}) is True
    assert [message.data for message in line.notified] == [{"n": 1}, {"n": 4}]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "2 messages to the caller were lost" in said[1]
