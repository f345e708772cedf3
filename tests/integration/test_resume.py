"""A caller who offers again: the same call on a new path, or a new call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakes.audio import tone_source
from tests.fakes.bot import Events, serving, watching_bot
from tests.fakes.caller import FakeCaller
from tests.support import SOON_S, until

if TYPE_CHECKING:
    from tests.fakes.serve import ServeProcess


async def test_restart_pc_with_a_known_id_keeps_the_session(serve: ServeProcess) -> None:
    events: Events = []
    async with (
        serving(watching_bot(events), serve.endpoint) as bot,
        FakeCaller(serve.url, tone_source(440)) as caller,
    ):
        await caller.hears(440)
        pc_id, sessions = caller.pc_id, set(bot.sessions)
        caller.forget()
        await caller.connect(restart=True)
        await caller.hears(440)
        assert caller.pc_id == pc_id
        assert set(bot.sessions) == sessions
        assert ("closed", "caller_left") not in events
        await until(lambda: events, what="the beginning")
    # A resume before the path was lost is silent.
    assert [event for event in events if event[0] == "connected"] == [("connected", False)]


async def test_a_caller_who_vanishes_is_lost_within_seconds_and_may_come_back(
    serve: ServeProcess,
) -> None:
    events: Events = []
    async with (
        serving(watching_bot(events), serve.endpoint) as bot,
        FakeCaller(serve.url, tone_source(440)) as caller,
    ):
        await caller.hears(440)
        sessions = set(bot.sessions)
        caller.vanish()
        await until(lambda: ("disconnected", "lost") in events, SOON_S, what="the loss")
        assert set(bot.sessions) == sessions
        await caller.connect(restart=True)
        await caller.hears(440)
        assert set(bot.sessions) == sessions
        # Sound does not go through the engine, which tells this: it may be told later.
        await until(lambda: ("connected", True) in events, what="the return")


async def test_an_unknown_pc_id_begins_a_new_session(serve: ServeProcess) -> None:
    events: Events = []
    async with (
        serving(watching_bot(events), serve.endpoint) as bot,
    ):
        caller = FakeCaller(serve.url, tone_source(440))
        caller.pc_id = "pc_of_another_engine"
        async with caller:
            await caller.hears(440)
            assert caller.pc_id != "pc_of_another_engine"
            assert len(bot.sessions) == 1


async def test_the_id_of_an_ended_call_begins_a_new_session(serve: ServeProcess) -> None:
    events: Events = []
    async with (
        serving(watching_bot(events), serve.endpoint) as bot,
    ):
        async with FakeCaller(serve.url) as first:
            await first.hears(440)
        await until(lambda: not bot.sessions, what="the end of the first call")
        second = FakeCaller(serve.url)
        second.pc_id = first.pc_id
        await second.dial(restart=True)
        try:
            await second.hears(440)
            assert second.pc_id != first.pc_id
        finally:
            await second.close()


async def test_renegotiation_on_the_same_connection_keeps_the_audio(serve: ServeProcess) -> None:
    events: Events = []
    async with (
        serving(watching_bot(events), serve.endpoint) as bot,
        FakeCaller(serve.url, tone_source(440)) as caller,
    ):
        await caller.hears(440)
        await until(lambda: events, what="the beginning")
        sessions = set(bot.sessions)
        await caller.renegotiate()
        caller.forget()
        await caller.hears(440)
        assert len(caller.answers) == 2
        assert set(bot.sessions) == sessions
        assert events == [("connected", False)]


async def test_two_callers_do_not_share_a_session(serve: ServeProcess) -> None:
    async with (
        serving(watching_bot([]), serve.endpoint) as bot,
        FakeCaller(serve.url, tone_source(500)) as one,
        FakeCaller(serve.url, tone_source(900)) as other,
    ):
        assert one.pc_id != other.pc_id
        await until(lambda: len(bot.sessions) == 2, what="both sessions")
        await one.connect(restart=True)
        one.forget()
        await one.hears(500)
        other.forget()
        await other.hears(900)
