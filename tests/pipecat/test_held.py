"""Nobody is there to hear: writes hold, then keep real time, and nothing spins."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pipecat.audio.filters.base_audio_filter import BaseAudioFilter
from pipecat.audio.mixers.base_audio_mixer import BaseAudioMixer
from pipecat.audio.mixers.soundfile_mixer import SoundfileMixer
from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    MixerEnableFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)

from tests.fakes.audio import silence_source, tone, write_wav
from tests.fakes.caller import FakeCaller
from tests.fakes.serve import serve_of_a_module
from tests.pipecat.site import Site, said
from tests.support import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.serve import ServeProcess

pytestmark = [pytest.mark.usefixtures("found_serve"), pytest.mark.xdist_group("held")]


@pytest.fixture(scope="module")
def serve() -> Iterator[ServeProcess]:
    """Not the one of all tests: a caller who has been let go before it came is waited for."""
    with serve_of_a_module("--bots", "0") as process:
        yield process


class Hum(BaseAudioMixer):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """Mixes nothing, and counts."""

    def __init__(self) -> None:
        self.began_s = self.mixed_s = 0.0
        self._hz = 0

    async def start(self, sample_rate: int) -> None:
        self._hz = sample_rate

    async def stop(self) -> None: ...

    async def process_frame(self, frame: Any) -> None: ...

    async def mix(self, audio: bytes) -> bytes:
        self.began_s = self.began_s or asyncio.get_running_loop().time()
        self.mixed_s += len(audio) / 2 / self._hz
        return audio


class Deaf(FakeCaller):
    """Offers, and never comes."""

    async def connect(self, *, restart: bool = False) -> None:
        self.ignores_answers = True
        await self.dial(restart=restart)


async def test_a_mixer_without_a_caller_keeps_real_time() -> None:
    mixer = Hum()
    site = Site(audio_out_mixer=mixer, audio_out_write_timeout_secs=1.5)
    async with site, Deaf(site.url, silence_source()):
        await until(lambda: mixer.mixed_s >= 2.0)
        # What leads, and the writes that hold; after that no second is mixed in less than one.
        assert asyncio.get_running_loop().time() - mixer.began_s >= 1.8


async def test_a_write_gives_up_before_it_would_count_as_stuck() -> None:
    site = Site(audio_out_write_timeout_secs=2.0)
    async with site, Deaf(site.url, silence_source()):
        await until(lambda: site.calls)
        call = site.call
        output = call.transport.output()
        await until(lambda: output.sample_rate and call.before.seen)
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await output.write_audio_frame(said(600, 1.0)) is False
        assert loop.time() - began >= 0.9
        again = loop.time()
        assert await output.write_audio_frame(said(600, 0.2)) is False
        assert loop.time() - again >= 0.19
        assert call.connection.session.queued == 0


async def test_the_end_of_a_call_that_nobody_hears_comes() -> None:
    site = Site(audio_out_write_timeout_secs=1.2, audio_out_end_silence_secs=0)
    async with site, Deaf(site.url, silence_source()):
        await until(lambda: site.calls)
        call = site.call
        await call.say(said(600, 1.0), TTSStoppedFrame())
        await call.stop()
        await until(call.running.done)
        assert not call.after.of(TTSAudioRawFrame)
        # The speech has come to nothing; what was said in words has not.
        assert call.after.of(TTSStoppedFrame)


async def test_a_sound_file_is_played_by_the_worker(tmp_path: Any) -> None:
    write_wav(tmp_path / "hum.wav", tone(1500, 48_000))
    mixer = SoundfileMixer(
        sound_files={"hum": str(tmp_path / "hum.wav")}, default_sound="hum", volume=0.5
    )
    site = Site(audio_out_mixer=mixer)
    async with site, FakeCaller(site.url, silence_source()) as caller:
        # At 48 kHz: Pipecat's own mixer takes only files of the transport's rate, 24 kHz.
        await caller.hears(1500, db=-18)
        assert mixer._sounds == {}, "nothing was loaded here"
        await site.call.say(MixerEnableFrame(False))
        await caller.hears_silence()


class Tone(Hum):
    """Mixes a tone into everything."""

    async def mix(self, audio: bytes) -> bytes:
        samples = np.frombuffer(audio, np.int16)
        at = round(self.mixed_s * self._hz)
        hum = tone(1500, len(samples), start=at, hz=self._hz, db=-18)
        await super().mix(audio)
        mixed = np.clip(samples.astype(np.int32) + hum, -32768, 32767)
        return bytes(mixed.astype(np.int16).data)


async def test_a_mixer_of_ones_own_is_heard_before_and_after_an_interruption() -> None:
    mixer = Tone()
    async with Site(audio_out_mixer=mixer) as site, FakeCaller(site.url) as caller:
        await caller.hears(1500)
        call = site.call
        await call.say(said(600, 20.0))
        await until(lambda: len(call.after.of(TTSAudioRawFrame)) > 5)
        session = call.connection.session
        # What is mixed leads by little, so that speech does not wait behind the background.
        assert session.queued <= 0.15 * session.speaker_hz
        before, began = mixer.mixed_s, asyncio.get_running_loop().time()
        await call.interrupt()
        await until(lambda: call.after.of(BotStoppedSpeakingFrame))
        # What is discarded takes its time: nothing spins.
        assert mixer.mixed_s - before < asyncio.get_running_loop().time() - began + 1.0
        await caller.hears(1500)


async def test_a_mixer_and_a_filter_that_fail_leave_the_bot_its_voice() -> None:
    class Broken(Hum):
        async def mix(self, audio: bytes) -> bytes:
            await super().mix(audio)
            raise RuntimeError("no hum")

    class Moody(BaseAudioFilter):  # type: ignore[misc]  # Pipecat is not installed where types are checked
        frames = 0

        async def start(self, sample_rate: int) -> None: ...

        async def stop(self) -> None: ...

        async def process_frame(self, frame: Any) -> None: ...

        async def filter(self, audio: bytes) -> bytes:
            self.frames += 1
            if self.frames == 1:
                raise RuntimeError("not in the mood")
            return audio

    ends: dict[str, Any] = {"audio_out_end_silence_secs": 1, "video_out_destinations": ["screen"]}
    site = Site(audio_out_mixer=Broken(), audio_out_filter=Moody(), **ends)
    async with site, FakeCaller(site.url, silence_source()) as caller:
        await until(lambda: site.calls)
        await site.call.say(said(600, 1.5), TTSStoppedFrame())
        await caller.hears(600)
        await site.call.stop()
        await until(site.call.running.done)
