"""RTVI on a bare session: the handshake, requests, and what is malformed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from engine.sdk.rtvi import MAX_ID, MAX_RUNNING, PROTOCOL, Rtvi
from ipc.errors import ConfigError, StateError
from tests.support import until

if TYPE_CHECKING:
    from engine.sdk import Session


class FakeSession:
    """Hands messages in and keeps what is sent."""

    id = "s_1"

    def __init__(self) -> None:
        self.closed = self.waits = False
        self.reason = ""
        self.fails: Exception | None = None
        self.sent: list[dict[str, Any]] = []
        self.played = asyncio.Event()
        self._handlers: dict[str, Any] = {}

    def on(self, event: str, handler: Any) -> None:
        self._handlers[event] = handler

    def says(self, message: Any) -> None:
        self._handlers["message"](message)

    def asks(self, kind: str, data: Any = None, request: str | None = "r1") -> None:
        self.says({"label": "rtvi-ai", "type": kind, "id": request, "data": data})

    def send(self, data: Any, *, at: int | None = None) -> bool:
        self.sent.append(data)
        return True

    async def wait_played(self) -> None:
        self.waits = True
        if self.fails is not None:
            raise self.fails
        await self.played.wait()

    async def close(self, reason: str) -> None:
        self.closed, self.reason = True, reason
        self._handlers["closed"]()


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def rtvi(session: FakeSession) -> Rtvi:
    return Rtvi(cast("Session", session), about={"name": "test"}, capabilities={"metrics": True})


async def test_a_ready_client_is_answered_under_its_id(session: FakeSession, rtvi: Rtvi) -> None:
    session.asks("client-ready", {"version": "2.1.0", "about": {"library": "x"}}, "abc")
    await rtvi.wait_ready()
    (answer,) = session.sent
    assert (answer["label"], answer["type"], answer["id"]) == ("rtvi-ai", "bot-ready", "abc")
    assert answer["data"]["version"] == PROTOCOL
    assert answer["data"]["about"] == {"library": "backbeat", "name": "test"}
    assert answer["data"]["capabilities"]["audio_in"] is True
    assert answer["data"]["capabilities"]["metrics"] is True


@pytest.mark.parametrize(
    ("said", "told", "warned"),
    [
        ("2.0.0", PROTOCOL, False),
        ("2.3.1", PROTOCOL, False),
        ("1.0.0", "1.0.0", False),
        ("1.2.0", "1.2.0", False),
        ("1.3.0", PROTOCOL, True),
        ("0.4.0", PROTOCOL, True),
        ("3.0.0", PROTOCOL, True),
        ("two", PROTOCOL, True),
        (None, PROTOCOL, True),
        (2, PROTOCOL, True),
    ],
)
async def test_versions_that_do_not_fit_are_told_and_the_call_goes_on(
    session: FakeSession, rtvi: Rtvi, said: Any, told: str, warned: bool
) -> None:
    session.asks("client-ready", {"version": said})
    kinds = [message["type"] for message in session.sent]
    assert kinds == (["error-response"] if warned else []) + ["bot-ready"]
    assert session.sent[-1]["data"]["version"] == told
    if warned:
        assert "Compatibility issues" in session.sent[0]["data"]["error"]
        assert session.sent[0]["id"] == "r1"
    await rtvi.wait_ready()


@pytest.mark.parametrize("data", [None, "text", [], {}])
async def test_a_ready_without_a_version_counts_too(
    session: FakeSession, rtvi: Rtvi, data: Any
) -> None:
    session.asks("client-ready", data)
    assert [message["type"] for message in session.sent] == ["error-response", "bot-ready"]


async def test_client_messages_get_their_answers(session: FakeSession, rtvi: Rtvi) -> None:
    @rtvi.message("double")
    def double(data: int) -> int:
        return data * 2

    @rtvi.message("later")
    async def later(data: Any) -> Any:
        return {"got": data}

    session.asks("client-message", {"t": "double", "d": 21}, "a")
    session.asks("client-message", {"t": "later", "d": [1]}, "b")
    await until(lambda: len(session.sent) == 2)
    answers = {answer["id"]: answer for answer in session.sent}
    assert answers["a"]["type"] == "server-response"
    assert answers["a"]["data"] == {"t": "double", "d": 42}
    assert answers["b"]["data"] == {"t": "later", "d": {"got": [1]}}


async def test_other_types_have_handlers_of_the_bots(session: FakeSession, rtvi: Rtvi) -> None:
    pressed: list[Any] = []
    rtvi.on("dtmf")(pressed.append)
    session.asks("dtmf", {"buttons": ["1"]})
    await until(lambda: pressed)
    assert pressed == [{"buttons": ["1"]}]
    assert session.sent == []
    with pytest.raises(ConfigError, match="wait_ready"):
        rtvi.on("client-ready")


@pytest.mark.parametrize(
    "asked",
    [
        {"label": "rtvi-ai", "type": "llm-function-call-result", "id": "r1"},
        {"label": "rtvi-ai", "type": 7, "id": "r1"},
        {"label": "rtvi-ai", "id": "r1"},
        {"label": "rtvi-ai", "type": "client-message", "id": "r1", "data": "text"},
        {"label": "rtvi-ai", "type": "client-message", "id": "r1", "data": {"t": 1}},
        {"label": "rtvi-ai", "type": "client-message", "id": "r1", "data": {"t": "unknown"}},
    ],
)
async def test_what_cannot_be_served_is_refused_by_name(
    session: FakeSession, rtvi: Rtvi, asked: dict[str, Any]
) -> None:
    session.says(asked)
    await until(lambda: session.sent)
    (answer,) = session.sent
    assert (answer["type"], answer["id"]) == ("error-response", "r1")
    assert answer["data"]["error"]


async def test_a_handler_that_fails_is_an_error_of_that_request_alone(
    session: FakeSession, rtvi: Rtvi
) -> None:
    @rtvi.message("bad")
    def bad(_data: Any) -> None:
        raise RuntimeError("secret")

    session.asks("client-message", {"t": "bad"}, "x")
    await until(lambda: session.sent)
    assert session.sent[0]["type"] == "error-response"
    assert "secret" not in str(session.sent[0])
    session.asks("client-ready", {"version": "2.0.0"}, "y")
    assert session.sent[1]["type"] == "bot-ready"


@pytest.mark.parametrize("message", ["text", b"bytes", [1], {"type": "client-ready"}, None, 7])
async def test_what_is_not_rtvi_is_left_alone(
    session: FakeSession, rtvi: Rtvi, message: Any
) -> None:
    session.says(message)
    assert (rtvi.ignored, session.sent) == (1, [])


async def test_a_client_that_hangs_up_hears_the_end_of_the_sentence(
    session: FakeSession, rtvi: Rtvi
) -> None:
    session.asks("disconnect-bot")
    await until(lambda: session.waits)
    assert not session.closed
    session.played.set()
    await until(lambda: session.closed)
    assert session.reason == "client_asked"


@pytest.mark.parametrize("request_id", [7, [], {}, True, "x" * (MAX_ID + 1)])
async def test_an_id_that_could_not_be_answered_under_is_refused_without_it(
    session: FakeSession, rtvi: Rtvi, request_id: Any
) -> None:
    session.asks("client-ready", {"version": "2.0.0"}, request_id)
    (answer,) = session.sent
    assert answer["type"] == "error-response"
    assert "id" not in answer


async def test_a_client_may_hang_up_before_there_is_media(session: FakeSession, rtvi: Rtvi) -> None:
    session.fails = StateError("no media yet")
    session.asks("disconnect-bot")
    await until(lambda: session.closed)
    assert session.reason == "client_asked"


async def test_only_so_many_requests_run_at_once_and_all_end_with_the_call(
    session: FakeSession, rtvi: Rtvi
) -> None:
    @rtvi.message("never")
    async def never(_data: Any) -> None:
        await asyncio.Event().wait()

    for number in range(MAX_RUNNING + 1):
        session.asks("client-message", {"t": "never"}, str(number))
    assert [message["id"] for message in session.sent] == [str(MAX_RUNNING)]
    await session.close("over")
    await until(lambda: not rtvi._running)


async def test_server_messages_carry_any_data(session: FakeSession, rtvi: Rtvi) -> None:
    assert rtvi.send({"any": ["thing"]})
    assert rtvi.send_as("bot-interrupted")
    assert session.sent == [
        {"label": "rtvi-ai", "type": "server-message", "data": {"any": ["thing"]}},
        {"label": "rtvi-ai", "type": "bot-interrupted"},
    ]
