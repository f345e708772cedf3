"""A function of one call becomes a bot of the SDK, also without Pipecat."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from engine.sdk import Bot, loader
from engine.transports import runner
from engine.transports.runner import RunnerArguments, as_bot
from engine.transports.smallwebrtc.connection import SmallWebRTCConnection
from ipc.errors import ConfigError
from tests.support import until

if TYPE_CHECKING:
    from pathlib import Path


class FakeSession:
    """As much of a session as a connection asks for before it is used."""

    id = "s_1"
    pc_id = "p_1"
    connected = True
    closed = False

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.request_data = {"name": "Ada"}

    def on(self, event: str, handler: Any) -> None: ...

    async def wait_closed(self) -> None:
        await self.over.wait()


@pytest.fixture(autouse=True)
def _without_pipecat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_arguments_of", lambda: runner._our_arguments)


async def test_the_function_is_given_the_call() -> None:
    given: list[RunnerArguments] = []

    async def bot(runner_args: RunnerArguments) -> None:
        given.append(runner_args)

    session: Any = FakeSession()
    await as_bot(bot).handle(session)
    assert isinstance(given[0].webrtc_connection, SmallWebRTCConnection)
    assert given[0].webrtc_connection.session is session
    assert (given[0].body, given[0].session_id) == ({"name": "Ada"}, "s_1")
    assert (given[0].handle_sigint, given[0].pipeline_idle_timeout_secs) == (False, 300)


async def test_what_the_function_raises_is_raised() -> None:
    async def bot(runner_args: RunnerArguments) -> None:
        raise ZeroDivisionError

    session: Any = FakeSession()
    with pytest.raises(ZeroDivisionError):
        await as_bot(bot).handle(session)


async def test_a_function_that_outlives_its_call_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "AFTER_CALL_S", 0.01)
    ended: list[bool] = []

    async def bot(runner_args: RunnerArguments) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    session: Any = FakeSession()
    handling = asyncio.create_task(as_bot(bot).handle(session))
    await until(lambda: not handling.done())
    session.over.set()
    await handling
    assert ended == [True]


async def test_a_handler_that_is_cancelled_takes_the_function_along() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def bot(runner_args: RunnerArguments) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    session: Any = FakeSession()
    handling = asyncio.create_task(as_bot(bot).handle(session))
    await began.wait()
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling
    assert ended.is_set()


def test_a_file_with_such_a_function_is_a_bot(tmp_path: Path) -> None:
    file = tmp_path / "greeter_of_this_test.py"
    file.write_text("async def bot(runner_args): ...\nasync def other(runner_args): ...\n")
    for spec in (str(file), f"{file}:other"):
        bot = loader.load(spec, as_bot)
        assert isinstance(bot, Bot)
        assert bot.name == "greeter_of_this_test"
    with pytest.raises(ConfigError, match="async def"):
        loader.load(f"{file}:nobody", as_bot)
    with pytest.raises(ConfigError):
        loader.load(str(file))
