"""What the transport itself says over the data channel, and what an answer promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.sdk import Bot, Session
from tests.fakes.audio import tone_source
from tests.fakes.bot import serving, watching_bot
from tests.fakes.caller import FakeCaller
from tests.support import until

if TYPE_CHECKING:
    from tests.fakes.serve import ServeProcess

RENEGOTIATE = {"type": "signalling", "message": {"type": "renegotiate"}}
PEER_LEFT = {"type": "signalling", "message": {"type": "peerLeft"}}


async def test_the_last_words_arrive_before_the_connection_closes(serve: ServeProcess) -> None:
    bot = Bot("leaving")

    @bot.session
    async def leave(session: Session) -> None:
        async for _ in session.messages():
            for number in range(5):
                session.send({"n": number, "text": "x" * 60_000})
            await session.close()

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, tone_source(440)) as caller,
    ):
        caller.send("go")
        await caller.until(lambda: caller.states[-1] == "closed", "the end")
        assert [message.get("n") for message in caller.messages] == [0, 1, 2, 3, 4, None]
        assert caller.messages[-1] == PEER_LEFT
        assert "a=max-message-size:262144" in caller.answers[0]


async def test_a_bot_may_have_the_caller_offer_again(serve: ServeProcess) -> None:
    bot = watching_bot([])
    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, tone_source(440)) as caller,
    ):
        await caller.hears(440)
        next(iter(bot.sessions.values())).send(RENEGOTIATE)
        await caller.until(lambda: RENEGOTIATE in caller.messages, "the request")
        await caller.renegotiate()
        caller.forget()
        await caller.hears(440)
        assert len(caller.answers) == 2


async def test_pings_are_counted_have_an_age_and_their_end_ends_no_call(
    serve: ServeProcess,
) -> None:
    bot = watching_bot([])
    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, tone_source(440)) as caller,
    ):
        await until(lambda: bot.sessions, what="the session")
        session = next(iter(bot.sessions.values()))
        caller.send("ping: 1")
        ages: list[float] = []
        media: dict[str, Any] = {}
        while len(ages) < 2 or ages[-1] < 5_500:
            media = (await session.stats())["backbeat-media"]
            if "pingAgeMs" in media:
                ages.append(media["pingAgeMs"])
            caller.forget()
            await caller.hears(440, seconds=0.3)
        assert media["pings"] == 1
        assert ages == sorted(ages)
        assert caller.connected
        assert session.connected


async def test_messages_that_cannot_be_carried_are_refused_and_counted(
    serve: ServeProcess,
) -> None:
    bot = Bot("listener")
    got: list[Any] = []
    sessions: list[Session] = []

    @bot.session
    async def listen(session: Session) -> None:
        sessions.append(session)
        async for message in session.messages():
            got.append(message)  # noqa: PERF401 - looked at while it grows

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, tone_source(440)) as caller,
    ):
        caller.send('"\\ud800"')  # half a character
        caller.send("[" * 40 + "]" * 40)
        caller.send({"type": "signalling", "message": {"type": "trackStatus"}})
        caller.send('{"no": "type"}')
        caller.send("no JSON")
        caller.send(b"\x00\x01")
        await until(lambda: b"\x00\x01" in got, what="the last message")
        assert got == [{"no": "type"}, "no JSON", b"\x00\x01"]
        found = await sessions[0].stats()
        assert found["backbeat-media"]["malformedMessages"] == 3
        assert found["data-channel"]["messagesReceived"] == 6
