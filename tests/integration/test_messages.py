"""App messages between caller and bot: all of them, in order, also before both are there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from engine.sdk import Bot, Session
from tests.fakes.audio import silence_source
from tests.fakes.bot import serving
from tests.fakes.caller import FakeCaller
from tests.support import until

if TYPE_CHECKING:
    from tests.fakes.serve import ServeProcess


async def test_messages_arrive_both_ways_in_order(serve: ServeProcess) -> None:
    bot = Bot("counter")
    got: list[Any] = []

    @bot.session
    async def count(session: Session) -> None:
        for number in range(100):
            session.send({"from": "bot", "n": number})
        async for message in session.messages():
            got.append(message)  # noqa: PERF401 - looked at while it grows

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        for number in range(100):
            caller.send({"from": "caller", "n": number})
        await until(lambda: len(got) == 100, what="the caller's messages")
        last = {"from": "bot", "n": 99}
        await caller.until(lambda: last in caller.messages, "the bot's messages")
    assert got == [{"from": "caller", "n": number} for number in range(100)]
    # What is sent before the channel opens waits, at most 50, the newest ones.
    numbers = [message["n"] for message in caller.messages if "n" in message]
    assert numbers == sorted(numbers)
    assert numbers[-50:] == list(range(50, 100))


async def test_every_kind_of_message_arrives_as_it_was_sent(serve: ServeProcess) -> None:
    bot = Bot("mirror")

    @bot.session
    def mirror(session: Session) -> None:
        session.on("message", lambda data: session.send(data))

    sent: list[Any] = [
        {"a": [1, 2.5, None, True, {"b": "ä\u2028\U0001f600"}]},
        [1, 2],
        "words that are no JSON",
        "more words " * 1_000,
        b"\x00\x01\xff",
        "",
        {"type": "text", "text": "x" * 60_000},
        b"\xee" * 60_000,
    ]
    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        for message in sent:
            caller.send(message)
        await caller.until(lambda: len(caller.messages) == len(sent), "all messages")
        assert caller.messages == sent


async def test_messages_sent_before_the_bot_attaches_are_kept(serve: ServeProcess) -> None:
    bot = Bot("slow")
    release = asyncio.Event()
    got: list[Any] = []

    @bot.session
    async def listen(session: Session) -> None:
        await release.wait()
        async for message in session.messages():
            got.append(message)  # noqa: PERF401 - looked at while it grows

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        for number in range(20):
            caller.send({"n": number})
        caller.send("ping: 1")
        release.set()
        await until(lambda: len(got) == 20, what="the kept messages")
        assert [message["n"] for message in got] == list(range(20))


async def test_pings_and_track_status_are_no_messages_of_the_bot(serve: ServeProcess) -> None:
    bot = Bot("listener")
    got: list[Any] = []
    tracks: list[tuple[int, bool]] = []

    @bot.session
    def listen(session: Session) -> None:
        session.on("message", got.append)
        session.on("track", lambda index, enabled: tracks.append((index, enabled)))

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        caller.send("ping: 123")
        for enabled in (False, True):
            status = {"type": "trackStatus", "receiver_index": 0, "enabled": enabled}
            caller.send({"type": "signalling", "message": status})
        for broken in (None, 5, {}, {"type": "trackStatus", "receiver_index": 9, "enabled": True}):
            caller.send({"type": "signalling", "message": broken})
        caller.send("end")
        await until(lambda: "end" in got, what="the last message")
        assert got == ["end"]
        await until(lambda: len(tracks) == 2, what="both track events")
        assert tracks == [(0, False), (0, True)]


async def test_a_message_at_a_cursor_leaves_after_that_sample(serve: ServeProcess) -> None:
    bot = Bot("speaker", speaker_hz=16_000)
    seen: list[tuple[int, int]] = []

    @bot.session
    async def speak(session: Session) -> None:
        played = await session.play(bytes(16_000))
        session.send({"end": played.end}, at=played.end)
        async for message in session.messages():
            seen.append((message["ack"], session.position))  # noqa: PERF401 - same

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        await caller.until(lambda: bool(caller.messages), "the message at the end")
        caller.send({"ack": caller.messages[0]["end"]})
        await until(lambda: bool(seen), what="the acknowledgement")
        end, position = seen[0]
        assert end == 8_000
        assert position >= end


async def test_a_flush_drops_messages_beyond_it(serve: ServeProcess) -> None:
    bot = Bot("speaker")

    @bot.session
    async def speak(session: Session) -> None:
        played = await session.play(bytes(2 * 48_000))
        session.send("never", at=played.end)
        await session.flush()
        session.send("after")
        await session.wait_closed()

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        await caller.until(lambda: "after" in caller.messages, "the message after the flush")
        caller.forget()
        await caller.until(lambda: len(caller.heard()) > 1.5 * 48_000, "1.5 s more")
        assert "never" not in caller.messages
