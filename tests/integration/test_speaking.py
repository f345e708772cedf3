"""Speaking and being interrupted: what was cut, what was heard, where the playback is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from engine.sdk import Bot, Flushed, Played, Session
from ipc.errors import ConfigError
from tests.fakes.audio import FRAME, loud_frames, silence_source, tone
from tests.fakes.bot import serving
from tests.fakes.caller import FakeCaller
from tests.support import standing_still, until

if TYPE_CHECKING:
    from tests.fakes.serve import ServeProcess

pytestmark = pytest.mark.usefixtures("patient_flushes")

HZ = 48_000
# Two ticks, and one for the tail of the codec.
SLACK_FRAMES = 3
PLAYS = 16
MEDIA = pytest.mark.parametrize("media", ["shm", "zmq"])


@MEDIA
async def test_a_flush_cuts_within_two_ticks_of_what_it_reports(
    serve: ServeProcess, media: str
) -> None:
    bot = Bot("speaker", media=media)  # type: ignore[arg-type]  # one of the two
    flushed: list[Flushed] = []

    @bot.session
    async def speak(session: Session) -> None:
        playing = asyncio.create_task(session.play(tone(500, 10 * HZ)))
        async for _ in session.audio():
            if session.position >= 12_000:
                break
        flushed.append(await session.flush())
        await playing
        await session.wait_closed()

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        await until(lambda: bool(flushed), what="the flush")
        await caller.until(lambda: loud_frames(caller.heard()) > 3, "the tone")
        await caller.hears_silence(1.0)
        heard = loud_frames(caller.heard())
    sent_frames = flushed[0].cursor / FRAME
    assert flushed[0].exact
    assert 12_000 <= flushed[0].cursor < 10 * HZ
    assert sent_frames - SLACK_FRAMES <= heard <= sent_frames + SLACK_FRAMES


@MEDIA
async def test_a_play_that_waits_for_room_ends_with_the_flush_and_says_what_was_cut(
    serve: ServeProcess, media: str
) -> None:
    bot = Bot("speaker", media=media)  # type: ignore[arg-type]  # one of the two
    results: list[tuple[Played, Flushed]] = []

    @bot.session
    async def speak(session: Session) -> None:
        playing = asyncio.create_task(session.play(tone(500, 5 * HZ)))
        async for _ in session.audio():
            if session.position >= HZ // 2:
                break
        flush = session.flush()
        results.append((await playing, await flush))
        await session.wait_closed()

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        await until(lambda: bool(results), what="the end of play")
        await caller.hears_silence(0.5)
    played, flush = results[0]
    assert HZ // 2 <= flush.cursor < 2 * HZ
    assert played.start == 0
    assert flush.cursor <= played.end < 5 * HZ, "the ring holds one second, the rest waited"
    assert played.cut == 5 * HZ - flush.cursor


@MEDIA
async def test_what_is_played_after_a_flush_is_heard_whole(serve: ServeProcess, media: str) -> None:
    bot = Bot("speaker", media=media)  # type: ignore[arg-type]  # one of the two
    played: list[Played] = []

    @bot.session
    async def speak(session: Session) -> None:
        await session.play(tone(500, 40_000))
        await session.flush()
        played.append(await session.play(tone(900, HZ // 2)))
        await session.wait_played()
        session.send("done")
        await session.wait_closed()

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        await caller.until(lambda: "done" in caller.messages, "the end of the speech")
        await caller.until(lambda: loud_frames(caller.heard()) >= 23, "the second tone")
        await caller.hears_silence(0.3)
        assert loud_frames(caller.heard()) <= 25 + 2 * SLACK_FRAMES
    assert played[0].cut == 0


@MEDIA
async def test_the_position_grows_and_is_never_beyond_what_was_written(
    serve: ServeProcess, media: str
) -> None:
    bot = Bot("speaker", mic_hz=16_000, speaker_hz=16_000, media=media)  # type: ignore[arg-type]
    positions: list[tuple[int, int]] = []
    done = asyncio.Event()

    @bot.session
    async def speak(session: Session) -> None:
        written = 0
        async for _ in session.audio():
            if written < 16_000:
                played = await session.play(tone(500, 400, start=written, hz=16_000))
                written = played.end
            positions.append((session.position, written))
            if session.position == written == 16_000:
                break
        done.set()
        await session.wait_closed()  # the caller may still be coming

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()),
        asyncio.timeout(30),
    ):
        await done.wait()
    assert all(position <= written for position, written in positions)
    seen = [position for position, _ in positions]
    assert seen == sorted(seen)
    assert seen[-1] == 16_000


@MEDIA
async def test_wait_played_returns_when_everything_has_left(
    serve: ServeProcess, media: str
) -> None:
    bot = Bot("speaker", media=media)  # type: ignore[arg-type]  # one of the two
    positions: list[int] = []
    played: list[Played] = []

    @bot.session
    async def speak(session: Session) -> None:
        for _ in range(3):
            played.append(await session.play(tone(500, 10_000)))
            session.end_of_speech()
            await session.wait_played()
            positions.append(session.position)
        await session.wait_closed()  # the caller may still be coming

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()),
    ):
        await until(lambda: len(positions) == 3, what="the end of the speech")
    assert [result.end for result in played] == [10_000, 20_000, 30_000]
    assert positions == [10_000, 20_000, 30_000]
    assert all(result.cut == 0 for result in played)


@MEDIA
async def test_marks_resolve_as_played_or_cut_and_a_fade_is_exact(
    serve: ServeProcess, media: str
) -> None:
    bot = Bot("speaker", media=media)  # type: ignore[arg-type]  # one of the two
    done: list[tuple[list[bool], Flushed, int]] = []

    @bot.session
    async def speak(session: Session) -> None:
        first = await session.play(tone(500, 12_000), mark="0")
        # More than the ring holds, so that some of it is cut however late we are.
        rest = asyncio.gather(
            *(session.play(tone(500, 12_000), mark=str(n)) for n in range(1, PLAYS))
        )
        assert first.mark is not None
        await first.mark
        rtt_us = session._speaking._ring.playback().rtt_us
        flushed = await session.flush(fade_ms=10)
        marks = [play.mark for play in (first, *await rest) if play.mark is not None]
        done.append(([(await mark).played for mark in marks], flushed, rtt_us))
        await session.wait_closed()

    with standing_still() as still:
        async with (
            serving(bot, serve.endpoint),
            FakeCaller(serve.url, silence_source()) as caller,
        ):
            await until(lambda: bool(done), what="the marks")
            await caller.hears_silence(0.3)
    played, flushed, rtt_us = done[0]
    assert flushed.exact
    assert 12_000 < flushed.cursor < PLAYS * 12_000
    # Where this process stood still the ring may have run dry, and nothing is left that could fade.
    fading = flushed.cursor % FRAME
    assert fading == 480 or (fading == 0 and sum(still) > 0.5), "10 ms behind whole packets fade"
    assert played == [12_000 * (n + 1) <= flushed.cursor for n in range(PLAYS)]
    way = rtt_us // 2 * HZ // 1_000_000
    assert max(0, flushed.cursor - 20_000 - way) <= flushed.heard <= flushed.cursor - fading


async def test_the_codec_is_changed_during_the_call_and_bad_values_are_refused(
    serve: ServeProcess,
) -> None:
    bot = Bot("speaker", bitrate_bps=32_000, complexity=3)
    codes: list[str] = []

    @bot.session
    async def speak(session: Session) -> None:
        assert session.codec.bitrate_bps == 32_000
        await anext(session.messages())  # else it may be over before the caller listens
        await session.play(tone(500, HZ))
        await session.configure(bitrate_bps=16_000, application="voip", fec=True)
        assert (session.codec.complexity, session.codec.fec) == (3, True)
        for wrong in ({"bitrate_bps": 1}, {"application": "lowdelay"}):
            try:
                await session.configure(**wrong)
            except ConfigError as error:
                codes.append(error.code)
        await session.play(tone(900, HZ))
        await session.wait_closed()

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        caller.send("listening")
        await caller.hears(900, seconds=0.4)
    assert codes == ["codec", "codec"]
    with pytest.raises(ConfigError):
        Bot("speaker", complexity=11)


async def test_concurrent_plays_queue_up_whole(serve: ServeProcess) -> None:
    bot = Bot("speaker")
    played: list[Played] = []

    @bot.session
    async def speak(session: Session) -> None:
        await anext(session.messages())  # else it may be over before the caller listens
        tones = [tone(hertz, HZ) for hertz in (400, 600, 800)]
        played.extend(await asyncio.gather(*(session.play(pcm) for pcm in tones)))
        await session.wait_played()
        session.send("done")
        await session.wait_closed()

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        caller.send("listening")
        for hertz in (400, 600, 800):
            await caller.hears(hertz, seconds=0.4)
        await caller.until(lambda: "done" in caller.messages, "the end")
    assert [(p.start, p.end, p.cut) for p in played] == [
        (0, HZ, 0),
        (HZ, 2 * HZ, 0),
        (2 * HZ, 3 * HZ, 0),
    ]
