"""A sound file under the bot's speech, as a real caller hears it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from engine.sdk import Bot, Session, SoundFile
from ipc.errors import ConfigError
from tests.fakes.audio import FRAME, HZ, silence_source, tone
from tests.fakes.bot import serving
from tests.fakes.caller import FakeCaller
from tests.fakes.placed import PlacedCaller
from tests.fakes.sounds import clicks_db, write_sound
from tests.support import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.audio import Samples
    from tests.fakes.serve import ServeProcess

BACKGROUND, SPEECH = 1_150, 440
SAID = HZ * 9 // 10


def ambience(tmp_path: Path, seconds: float = 0.6, hz: int = 22_050) -> str:
    """A tone of -20 dB that loops, at a rate that is none of ours."""
    samples = tone(BACKGROUND, round(seconds * hz), hz=hz, db=-20)
    return write_sound(tmp_path / "ambience.wav", samples, hz=hz)


def level_at(samples: Samples, hertz: float) -> float:
    """The level of one tone among others, in dB."""
    window = np.hanning(len(samples))
    at = np.arange(len(samples))
    wave = np.exp(-2j * np.pi * hertz * at / HZ)
    amplitude = 2 * abs(np.sum(samples * window * wave)) / window.sum()
    return 20 * float(np.log10(max(amplitude, 1e-3) / 32_767))


async def test_background_plays_alone_loops_and_stays_when_speech_is_flushed(
    serve: ServeProcess, tmp_path: Path
) -> None:
    bot = Bot("ambient")
    speak, stop = asyncio.Event(), asyncio.Event()
    positions: list[int] = []
    cut: list[bool] = []

    @bot.session
    async def talk(session: Session) -> None:
        await session.configure(mixer=SoundFile(path=ambience(tmp_path), volume=0.5))
        while not any(cut):
            await speak.wait()
            speak.clear()
            positions.append(session.position)
            # All of it is in the ring at once: it cannot run dry where this process stands still.
            played = await session.play(tone(SPEECH, SAID))
            await stop.wait()
            stop.clear()
            flushed = await session.flush()
            cut.append(played.start < flushed.cursor < played.end)
        await session.wait_closed()

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        await caller.hears(BACKGROUND, db=-26, seconds=2)
        # Three rounds of the loop and more, with nothing at its seams.
        assert clicks_db(caller.heard(2)) < -65
        while not any(cut):  # a flush that comes behind the last word, or is late, cuts nothing
            speak.set()
            await caller.until(lambda: level_at(caller.heard(0.4), SPEECH) > -13, "speech")
            last = caller.heard(0.4)
            assert abs(level_at(last, SPEECH) + 12) < 1
            assert abs(level_at(last, BACKGROUND) + 26) < 1.5
            caller.forget()
            stop.set()
            await caller.hears(BACKGROUND, db=-26, seconds=0.5)
            heard = caller.heard()
            assert level_at(heard[-HZ // 2 :], SPEECH) < -60
            # The cut lies somewhere in there. A step of the speech would be 15 dB louder.
            assert clicks_db(heard) < -45
            steps = [
                level_at(heard[start : start + FRAME], BACKGROUND)
                for start in range(0, len(heard) - FRAME, FRAME)
            ]
            assert min(steps) > -33, "there is no hole in the background"
            await until(lambda: len(cut) == len(positions), what="the answer to the flush")
        assert positions[0] == 0, "the background moves no cursor"


async def test_it_changes_pauses_and_ends_during_the_call(
    serve: ServeProcess, tmp_path: Path
) -> None:
    bot = Bot("ambient", speaker_hz=16_000)
    path = ambience(tmp_path)
    sessions: list[Session] = []
    bot.session(sessions.append)
    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        await until(lambda: bool(sessions), what="the session")
        session = sessions[0]
        await session.configure(mixer=SoundFile(path=path, volume=1.0))
        await caller.hears(BACKGROUND, db=-20)
        await session.configure(mixer=SoundFile(path=path, volume=0.25))
        await caller.hears(BACKGROUND, db=-32)
        await session.configure(mixer=SoundFile(path=path, volume=0.25, mixing=False))
        await caller.hears_silence()
        await session.configure(mixer=SoundFile(path=path, volume=0.25))
        await caller.hears(BACKGROUND, db=-32)
        await session.configure(bitrate_bps=64_000)
        assert session.mixer == SoundFile(path=path, volume=0.25)
        await session.configure(mixer=None)
        await caller.hears_silence()
        once = write_sound(tmp_path / "once.wav", tone(700, HZ, db=-20))
        await session.configure(mixer=SoundFile(path=once, volume=1.0, loop=False))
        await caller.hears(700, db=-20)
        await caller.hears_silence()


async def test_a_file_that_cannot_be_played_is_refused_and_the_call_goes_on(
    serve: ServeProcess, tmp_path: Path
) -> None:
    bot = Bot("ambient")
    sessions: list[Session] = []
    bot.session(sessions.append)
    path = ambience(tmp_path)
    (tmp_path / "words.wav").write_text("words")
    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        await until(lambda: bool(sessions), what="the session")
        session = sessions[0]
        await session.configure(mixer=SoundFile(path=path, volume=1.0))
        codes = []
        for wrong in (tmp_path / "none.wav", tmp_path / "words.wav", tmp_path):
            with pytest.raises(ConfigError) as caught:
                await session.configure(mixer=SoundFile(path=str(wrong)), bitrate_bps=16_000)
            codes.append(caught.value.code)
        assert codes == ["sound_missing", "sound_unreadable", "sound_unreadable"]
        assert session.codec.bitrate_bps == 48_000
        with pytest.raises(ConfigError) as caught:
            await session.configure(mixer="music.wav")  # type: ignore[arg-type]  # on purpose
        assert caught.value.code == "mixer"
        await caller.hears(BACKGROUND, db=-20)


async def test_a_caller_who_comes_back_finds_it_playing(
    serve: ServeProcess, tmp_path: Path
) -> None:
    bot = Bot("ambient")
    sessions: list[Session] = []
    bot.session(sessions.append)
    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        await until(lambda: bool(sessions), what="the session")
        await sessions[0].configure(mixer=SoundFile(path=ambience(tmp_path), volume=1.0))
        await caller.hears(BACKGROUND, db=-20)
        await caller.connect(restart=True)
        caller.forget()
        await caller.hears(BACKGROUND, db=-20)


@pytest.mark.usefixtures("patient_flushes")
async def test_without_silence_nothing_is_sent_until_the_bot_speaks(serve: ServeProcess) -> None:
    bot = Bot("quiet", silence=False)
    sessions: list[Session] = []
    bot.session(sessions.append)

    async def sent() -> int:
        records = await sessions[0].stats()
        found: int = records["outbound-audio"]["packetsSent"]
        return found

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        await until(lambda: bool(sessions), what="the session")
        session = sessions[0]
        # Before its bot was there, the caller got silence. In the slot that answers a flush,
        # the last of it leaves.
        assert (await session.flush()).exact
        before = await sent()
        mic = session.audio()
        for _ in range(50):  # a second of the caller's
            await anext(mic)
        assert await sent() == before
        await session.play(tone(SPEECH, HZ // 2))
        session.end_of_speech()
        await session.wait_played()
        assert 25 <= await sent() - before <= 28
        await caller.hears(SPEECH, db=-12, seconds=0.2)
        await session.configure(silence=True)
        while await sent() - before < 60:  # the test's own deadline ends it
            await anext(mic)
        await mic.aclose()  # type: ignore[attr-defined]  # a generator


async def test_a_placed_session_is_configured_before_its_media(
    serve: ServeProcess, tmp_path: Path
) -> None:
    bot = Bot("transport", capacity=0)
    async with (
        serving(bot, serve.endpoint),
        PlacedCaller(bot, silence_source()) as caller,
    ):
        session = caller.session
        await session.configure(silence=False, bitrate_bps=24_000)
        with pytest.raises(ConfigError):
            await session.configure(mixer=SoundFile(path=str(tmp_path / "none.wav")))
        await session.configure(mixer=SoundFile(path=ambience(tmp_path), volume=1.0))
        await session.open_media(mic_hz=16_000, speaker_hz=24_000)
        assert (session.codec.silence, session.codec.bitrate_bps) == (False, 24_000)
        await caller.hears(BACKGROUND, db=-20)
        await session.configure(mixer=None)
        # It fades within a frame, one packet says so, and then nothing comes.
        mic = session.audio()
        sent: list[int] = []
        while len(sent) < 2 or sent[-1] > sent[-2]:
            sent.append((await session.stats())["outbound-audio"]["packetsSent"])
            session.skip_audio()
            for _ in range(5):
                await anext(mic)
        await mic.aclose()  # type: ignore[attr-defined]  # a generator
        await session.play(tone(SPEECH, 12_000, hz=24_000))
        await caller.hears(SPEECH, seconds=0.2)
