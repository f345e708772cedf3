"""Calls from beginning to end: many at once, their events, and who ended them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from engine.sdk import Bot, Session
from tests.fakes.audio import silence_source, tone_source
from tests.fakes.bot import Events, echo_bot, serving, watching_bot
from tests.fakes.caller import FakeCaller
from tests.fakes.serve import ServeProcess
from tests.fakes.wait import eventually
from tests.support import until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("media", ["shm", "zmq"])
async def test_five_calls_on_one_bot_each_hear_their_own_tone(
    serve: ServeProcess, media: str
) -> None:
    pitches = [300, 440, 600, 850, 1200]
    async with AsyncExitStack() as stack:
        bot = watching_bot([], mic_hz=16_000, speaker_hz=16_000, media=media)
        await stack.enter_async_context(serving(bot, serve.endpoint))
        callers = [
            await stack.enter_async_context(FakeCaller(serve.url, tone_source(hertz)))
            for hertz in pitches
        ]
        # Its offer to the bot may come later than the caller's answer.
        await until(lambda: len(bot.sessions) == 5, what="five sessions")
        for caller, hertz in zip(callers, pitches, strict=True):
            await caller.hears(hertz)


async def test_a_caller_who_leaves_fires_each_event_once_and_closes_the_session(
    serve: ServeProcess,
) -> None:
    events: Events = []
    async with (
        serving(watching_bot(events), serve.endpoint) as bot,
    ):
        async with FakeCaller(serve.url) as caller:
            await caller.hears(440)
        await until(lambda: not bot.sessions, what="the end of the session")
        assert events == [
            ("connected", False),
            ("disconnected", "caller_left"),
            ("closed", "caller_left"),
        ]

        async def forgotten() -> bool:
            _, body = await serve.health()
            return bool(body["sessions"] == 0)

        await eventually(forgotten, "the engine has no session")


async def test_a_bot_that_closes_tells_the_caller(serve: ServeProcess) -> None:
    events: Events = []
    async with (
        serving(watching_bot(events), serve.endpoint) as bot,
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        await until(lambda: bool(events), what="connected")
        await next(iter(bot.sessions.values())).close("enough")
        await caller.until(lambda: caller.left, "peerLeft")
        await until(lambda: not bot.sessions, what="the end of the session")
        assert events == [("connected", False), ("closed", "enough")]


async def test_a_handler_that_returns_ends_the_call(serve: ServeProcess) -> None:
    bot = Bot("brief")
    reasons: list[str] = []

    @bot.session
    async def brief(session: Session) -> None:
        session.on("closed", reasons.append)
        await anext(session.messages())  # else the call may be over before it is all there
        await session.play(bytes(48_000))
        await session.wait_played()

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        caller.send({"it": "is here"})
        await caller.until(lambda: caller.left, "peerLeft")
        await until(lambda: bool(reasons), what="closed")
    assert reasons == ["bot_done"]


async def test_the_end_of_the_engine_closes_calls_and_tells_both_sides(runtime_dir: Path) -> None:
    events: Events = []
    async with (
        ServeProcess(runtime_dir, "--bots", "0") as serve,
        serving(watching_bot(events), serve.endpoint),
        FakeCaller(serve.url) as caller,
    ):
        await caller.hears(440)
        serve.terminate()
        await caller.until(lambda: caller.left, "peerLeft")
        await until(lambda: ("closed", "engine_stopped") in events, what="closed")
        assert await serve.ended() == 0
    assert [event[0] for event in events].count("closed") == 1


async def test_the_request_data_of_a_call_reaches_its_bot(serve: ServeProcess) -> None:
    seen: list[object] = []
    bot = Bot("asked")

    @bot.session
    async def look(session: Session) -> None:
        seen.append(session.request_data)
        await session.wait_closed()

    data = {"bot": "asked", "name": "Ada", "nested": {"n": [1, None]}}
    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source(), request_data=data),
    ):
        await until(lambda: bool(seen), what="the session")
    assert seen == [data]


async def test_candidates_that_come_after_the_offer_connect_the_call(serve: ServeProcess) -> None:
    async with (
        serving(echo_bot(), serve.endpoint),
        FakeCaller(serve.url, tone_source(700), trickle=True) as caller,
    ):
        await caller.hears(700)


async def test_a_caller_who_never_connects_is_given_up(runtime_dir: Path) -> None:
    events: Events = []
    async with (
        ServeProcess(runtime_dir, "--bots", "0", "--connect-s", "3") as serve,
        serving(watching_bot(events), serve.endpoint),
    ):
        caller = FakeCaller(serve.url)
        caller.ignores_answers = True
        try:
            await caller.dial()
            await until(lambda: ("closed", "ice_failed") in events, what="closed")
        finally:
            await caller.close()
    assert events == [("closed", "ice_failed")]
