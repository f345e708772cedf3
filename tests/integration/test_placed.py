"""Sessions that a bot places: the answer first, the rings when it asks for them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from engine.sdk import Bot
from ipc.errors import (
    AlreadyAttached,
    BotError,
    ConfigError,
    SdpRejected,
    SessionClosed,
    StateError,
)
from tests.fakes.bot import FakeBot, registered, serving
from tests.fakes.offers import audio, offer
from tests.fakes.placed import PlacedCaller, echo, watch
from tests.fakes.serve import ServeProcess
from tests.fakes.wait import eventually
from tests.support import SOON_S, turn, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fakes.bot import Events


@asynccontextmanager
async def placing(serve: ServeProcess, *, media: str = "shm") -> AsyncIterator[Bot]:
    bot = Bot("transport", capacity=0, media=media)  # type: ignore[arg-type]
    async with serving(bot, serve.endpoint):
        yield bot


@asynccontextmanager
async def echoing(caller: PlacedCaller) -> AsyncIterator[None]:
    await caller.session.open_media(mic_hz=16_000, speaker_hz=16_000)
    task = asyncio.create_task(echo(caller.session))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def none_left(serve: ServeProcess) -> bool:
    _, health = await serve.health()
    return not health["sessions"]


def of(events: Events, *kinds: str) -> Events:
    return [event for event in events if event[0] in kinds]


async def test_the_answer_needs_no_ring_and_what_comes_before_is_kept_once(
    serve: ServeProcess,
) -> None:
    async with placing(serve) as bot, PlacedCaller(bot, trickle=True) as caller:
        for number in range(3):
            caller.send({"n": number})
        mute = {"type": "trackStatus", "receiver_index": 0, "enabled": False}
        caller.send({"type": "signalling", "message": mute})
        kept = caller.session._events._kept
        await until(lambda: kept["message"] and kept["track"], what="what comes unheard")
        assert serve.segments() == []
        with pytest.raises(StateError) as refused:
            _ = caller.session.mic_hz
        assert refused.value.code == "no_media"
        async with echoing(caller):
            await caller.hears(440)
            events = watch(caller.session)
            await until(lambda: len(events) == 7, what="all that was kept")
            assert of(events, "peer") == [("peer", "connecting"), ("peer", "connected")]
            assert of(events, "connected") == [("connected", False)]
            assert of(events, "message") == [("message", {"n": n}) for n in range(3)]
            assert of(events, "track") == [("track", 0, False)]
            assert caller.session.mic_hz == caller.session.speaker_hz == 16_000
            caller.send("later")
            await until(lambda: events[-1] == ("message", "later"), what="the message")
            with pytest.raises(AlreadyAttached):
                await caller.session.open_media()
        await caller.session.close()
        await caller.until(lambda: caller.left, "peerLeft")
        await until(lambda: ("closed", "bot_closed") in events, what="the end")
        await until(lambda: not bot.sessions, what="the end of the session")
        assert bot.registered.is_set()


@pytest.mark.parametrize("media", ["shm", "zmq"])
async def test_a_restart_has_a_new_id_and_keeps_session_and_queued_speech(
    serve: ServeProcess, media: str
) -> None:
    async with placing(serve, media=media) as bot, PlacedCaller(bot) as caller:
        session, first = caller.session, caller.pc_id
        events = watch(session)
        async with echoing(caller), serve.client() as client:
            await caller.hears(440)
            caller.forget()
            await caller.connect(restart=True)
            assert caller.pc_id not in (None, first)
            assert session.pc_id == caller.pc_id
            await caller.hears(440)
            assert [*bot.sessions] == [session.id]
            # Sound does not go through the engine, which tells and knows this: it may be later.
            twice = [("peer", "connecting"), ("peer", "connected")] * 2
            await until(lambda: of(events, "peer") == twice, what="the new connection")
            states = {
                pc_id: (await client.get(f"/api/sessions/{pc_id}/stats")).status_code
                for pc_id in (first, caller.pc_id)
            }
            assert states == {first: 404, caller.pc_id: 200}
        # A resume before the path was lost is silent.
        assert of(events, "connected", "disconnected") == [("connected", False)]
        assert of(events, "peer") == twice


async def test_a_caller_who_vanishes_may_come_back(serve: ServeProcess) -> None:
    async with placing(serve) as bot, PlacedCaller(bot) as caller:
        events = watch(caller.session)
        async with echoing(caller):
            await caller.hears(440)
            caller.vanish()
            await until(lambda: ("disconnected", "lost") in events, SOON_S, what="the loss")
            assert ("peer", "lost") in events
            await caller.connect(restart=True)
            await caller.hears(440)
        came = [("connected", False), ("connected", True)]
        await until(lambda: of(events, "connected") == came, what="the return")


async def test_a_caller_who_leaves_ends_the_session(serve: ServeProcess) -> None:
    async with placing(serve) as bot:
        async with PlacedCaller(bot) as caller:
            events = watch(caller.session)
        await until(lambda: ("closed", "caller_left") in events, what="the end")
        assert events[-3:] == [
            ("peer", "closed"),
            ("disconnected", "caller_left"),
            ("closed", "caller_left"),
        ]
        with pytest.raises(SessionClosed):
            await caller.session.open_media()
        await eventually(lambda: none_left(serve), "the end of the session")
        await until(lambda: not bot.sessions, what="the end in the bot")


async def test_a_caller_who_never_connects_ends_the_session(serve: ServeProcess) -> None:
    async with placing(serve) as bot:
        placed = await bot.open_webrtc(offer(audio()), connect_s=0.5)
        events = watch(placed.session)
        await until(lambda: ("closed", "ice_failed") in events, what="the end")
        await eventually(lambda: none_left(serve), "the end of the session")


async def test_what_cannot_be_placed_is_refused_for_that_call_alone(serve: ServeProcess) -> None:
    with pytest.raises(BotError) as refused:
        await Bot("nowhere", capacity=0).open_webrtc(offer(audio()))
    assert refused.value.code == "no_engine"
    async with placing(serve) as bot:
        with pytest.raises(SdpRejected):
            await bot.open_webrtc("nonsense")
        with pytest.raises(SdpRejected):
            await bot.open_webrtc(offer(audio()), "answer")
        for seconds in (0, -1, 86_401, float("nan")):
            with pytest.raises(ConfigError):
                await bot.open_webrtc(offer(audio()), connect_s=seconds)
        await eventually(lambda: none_left(serve), "no session is left")
        assert bot.sessions == {}
        async with PlacedCaller(bot) as caller:
            with pytest.raises(ConfigError):
                await caller.session.open_media(mic_hz=44_100)
            with pytest.raises(SdpRejected):
                await caller.session.renegotiate("nonsense", restart=True)
            async with echoing(caller):
                await caller.hears(440)


async def test_an_offer_that_nobody_waits_for_any_more_leaves_no_session(
    serve: ServeProcess,
) -> None:
    async with placing(serve) as bot:
        given_up = asyncio.create_task(bot.open_webrtc(offer(audio())))
        await turn()  # it is on its way
        await turn()
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert bot._registration is not None
        under_way = bot._registration.placing._running
        assert under_way, "it is being placed, and will be given up"
        await until(lambda: not under_way, what="the end of both")
        await eventually(lambda: none_left(serve), "the end of the session")
        await until(lambda: not bot.sessions, what="the end in the bot")


async def test_a_bot_that_leaves_takes_the_sessions_that_it_placed_along(
    serve: ServeProcess,
) -> None:
    async with FakeBot(serve.endpoint) as bot:
        await bot.hello("raw", capacity=0)
        placed = await bot.ask("open_webrtc", sdp=offer(audio()))
        assert placed["t"] == "placed"
        assert (await serve.health())[1]["sessions"] == 1
        await bot.say("goodbye")

        await eventually(lambda: none_left(serve), "the end of the session")


async def test_the_end_of_the_engine_ends_placed_sessions_and_the_next_takes_new_ones(
    runtime_dir: Path,
) -> None:
    bot = Bot("transport", capacity=0)
    async with ServeProcess(runtime_dir, "--bots", "0") as first, serving(bot, first.endpoint):
        async with PlacedCaller(bot) as caller:
            events = watch(caller.session)
            first.kill()
            await until(lambda: ("closed", "engine_gone") in events, what="the end")
            await until(lambda: not bot.sessions, what="the end of the session")
        async with ServeProcess(runtime_dir, "--bots", "0"):
            await registered(bot)
            async with PlacedCaller(bot) as again, echoing(again):
                await again.hears(440)
