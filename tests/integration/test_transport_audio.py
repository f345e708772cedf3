"""Audio of the documented transport as a caller hears it: each parameter has its effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine.transports.base import BaseAudioMixer, SoundfileMixer
from engine.transports.frames import (
    BotStoppedSpeakingFrame,
    InputAudioRawFrame,
    MixerControlFrame,
    MixerEnableFrame,
    OutputAudioRawFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from tests.fakes.audio import level_db, pitch_hz, tone, tone_source, write_wav
from tests.fakes.caller import FakeCaller
from tests.fakes.transport_site import TransportSite, said, speech
from tests.support import until

pytestmark = pytest.mark.usefixtures("found_serve")

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.audio import Samples


def level_at(samples: Samples, hertz: int) -> float:
    """Of a tone within other sound, in dB below full scale."""
    window = np.hanning(len(samples))
    spectrum = np.abs(np.fft.rfft(samples / 32768 * window)) / window.sum() * 2
    at = round(hertz * len(samples) / 48_000)
    return float(20 * np.log10(max(spectrum[at - 3 : at + 4].max(), 1e-9)))


def loud_s(caller: FakeCaller, above: int) -> float:
    """For how long a caller has heard samples beyond that, in s."""
    return float((np.abs(caller.heard().astype(int)) > above).sum() / 48_000)


async def hears_both(caller: FakeCaller, one: int, two: int) -> None:
    def good() -> bool:
        last = caller.heard(0.5)
        return len(last) == 24_000 and min(level_at(last, one), level_at(last, two)) > -40

    await caller.until(good, f"{one} and {two} Hz together")


class Hum(BaseAudioMixer):
    """A tone of the bot's own making."""

    def __init__(self, hertz: int) -> None:
        self._hertz = hertz
        self._hz = self._at = 0

    async def start(self, sample_rate: int) -> None:
        self._hz = sample_rate

    async def stop(self) -> None:
        pass

    async def process_frame(self, frame: MixerControlFrame) -> None:
        pass

    async def mix(self, audio: bytes) -> bytes:
        samples = np.frombuffer(audio, np.int16)
        hum = tone(self._hertz, len(samples), start=self._at, hz=self._hz, db=-18)
        self._at += len(samples)
        mixed = np.clip(samples.astype(np.int32) + hum, -32768, 32767)
        return bytes(mixed.astype(np.int16).data)


@pytest.mark.parametrize(("in_hz", "out_hz"), [(8_000, 48_000), (22_050, 22_050), (44_100, 8_000)])
async def test_rates_are_those_that_were_asked_for(in_hz: int, out_hz: int) -> None:
    rates: Any = {"audio_in_sample_rate": in_hz, "audio_out_sample_rate": out_hz}
    async with TransportSite(**rates) as site, FakeCaller(site.url, tone_source(440)) as caller:
        await until(lambda: site.calls)
        call = site.call
        await call.say(said(speech(600, 2.0, hz=out_hz), hz=out_hz))
        await caller.hears(600, db=-12)
        await until(lambda: len(call.before.of(InputAudioRawFrame)) > 75)

        def hears_the_caller() -> bool:
            last = call.before.of(InputAudioRawFrame)[-50:]
            samples = np.frombuffer(b"".join(frame.audio for frame in last), np.int16)
            return bool(pitch_hz(samples) * in_hz / 48_000 == pytest.approx(440, rel=0.02))

        await until(hears_the_caller, what="the caller's tone")
        assert {frame.sample_rate for frame in call.before.of(InputAudioRawFrame)} == {in_hz}


async def test_stereo_goes_in_and_out_at_its_speed() -> None:
    both: Any = {"audio_out_channels": 2, "audio_in_channels": 2}
    async with TransportSite(**both) as site, FakeCaller(site.url, tone_source(440)) as caller:
        await until(lambda: site.calls)
        call = site.call
        left = np.stack((speech(600, 2.0), np.zeros(48_000, np.int16)), axis=1).reshape(-1)
        await call.say(said(left, channels=2), TTSStoppedFrame())
        # The caller hears the mean of both channels.
        await caller.hears(600, db=-18)
        await until(lambda: call.after.of(BotStoppedSpeakingFrame))
        await caller.until(lambda: loud_s(caller, 500) >= 1.7, "all of it")
        await caller.hears_silence(0.3)
        assert loud_s(caller, 500) <= 2.3
        frames = call.before.of(InputAudioRawFrame)
        assert {(frame.num_channels, frame.num_frames) for frame in frames} == {(2, 320)}


async def test_destinations_are_heard_together() -> None:
    site = TransportSite(audio_out_destinations=["music"])
    async with site, FakeCaller(site.url) as caller:
        await until(lambda: site.calls)
        call = site.call
        await call.say(
            said(speech(1500, 6.0), OutputAudioRawFrame, destination="music"),
            said(speech(600, 2.0)),
        )
        await hears_both(caller, 600, 1500)
        await call.interrupt()
        # Only the default destination was interrupted.
        await caller.hears(1500)


@pytest.mark.parametrize("mapped", [False, True])
async def test_a_mixer_is_heard_before_under_and_after_speech(mapped: bool) -> None:
    mixer = {None: Hum(1500)} if mapped else Hum(1500)
    async with TransportSite(audio_out_mixer=mixer) as site, FakeCaller(site.url) as caller:
        await caller.hears(1500)
        await site.call.say(said(speech(600, 5.0)))
        await hears_both(caller, 600, 1500)
        session = site.call.connection.session
        assert session.queued * 1000 / session.speaker_hz <= 140
        await site.call.interrupt()
        await caller.hears(1500)


async def test_a_sound_file_is_played_by_the_worker_and_switched_off(tmp_path: Path) -> None:
    write_wav(tmp_path / "hum.wav", tone(1500, 48_000))
    mixer = SoundfileMixer(
        sound_files={"hum": str(tmp_path / "hum.wav")}, default_sound="hum", volume=0.5
    )
    async with TransportSite(audio_out_mixer=mixer) as site, FakeCaller(site.url) as caller:
        await caller.hears(1500, db=-18)
        assert mixer._samples == {}, "nothing was loaded here"
        await site.call.say(said(speech(600, 3.0)))
        await hears_both(caller, 600, 1500)
        await site.call.interrupt()
        await caller.hears(1500)
        await site.call.say(MixerEnableFrame(False))
        await caller.hears_silence()


async def test_an_interruption_silences_at_once_and_what_follows_is_whole() -> None:
    async with TransportSite() as site, FakeCaller(site.url) as caller:
        await until(lambda: site.calls)
        call = site.call
        await call.say(said(speech(600, 20.0)))
        await caller.hears(600)
        passed = len(call.after.of(TTSAudioRawFrame))
        session = call.connection.session
        await until(lambda: session.queued > 0, what="more to say")
        await call.interrupt()
        assert session.queued == 0
        await until(lambda: call.after.of(BotStoppedSpeakingFrame))
        await call.say(said(speech(900, 2.0)), TTSStoppedFrame())
        await caller.hears(900)
        # Of the 20 s only what was heard has gone on to recorders.
        assert len(call.after.of(TTSAudioRawFrame)) < passed + 200


async def test_uninterruptible_speech_is_heard_to_its_end() -> None:
    async with TransportSite() as site, FakeCaller(site.url) as caller:
        await until(lambda: site.calls)
        call = site.call
        await call.say(said(speech(600, 2.0), interruptible=False))
        await until(lambda: call.after.of(TTSAudioRawFrame))
        await call.interrupt()
        await until(lambda: len(call.after.of(TTSAudioRawFrame)) == 50)
        await caller.until(lambda: loud_s(caller, 1000) > 1.6, "all of it")


async def test_volume_is_heard() -> None:
    async with TransportSite(audio_out_volume=0.25) as site, FakeCaller(site.url) as caller:
        await until(lambda: site.calls)
        await site.call.say(said(speech(600, 3.0)))
        await caller.hears(600, db=-24)


async def test_without_auto_silence_nothing_is_sent_while_nothing_is_said() -> None:
    site = TransportSite(audio_out_auto_silence=False)
    async with site, FakeCaller(site.url) as caller:
        await until(lambda: site.calls)
        call = site.call
        await call.say(said(speech(600, 1.0)), TTSStoppedFrame())
        await caller.hears(600, seconds=0.3)
        await until(lambda: call.after.of(BotStoppedSpeakingFrame))
        await caller.until(lambda: len(caller.heard()) >= 0.95 * 48_000, "all of it")
        # What has come is what was said, and no silence around it.
        assert len(caller.heard()) / 48_000 == pytest.approx(1.0, abs=0.2)
        assert level_db(caller.heard()) > -14


async def test_a_bitrate_counts_only_where_it_is_given() -> None:
    codecs: list[int] = []
    given: list[dict[str, Any]] = [{}, {"audio_out_bitrate": 24_000}]
    for params in given:
        async with TransportSite(**params) as site, FakeCaller(site.url):
            # A caller may be there before the bot has said how it speaks, but is told behind it.
            await until(lambda: site.calls and "on_client_connected" in site.call.events())
            codecs.append(site.call.connection.session.codec.bitrate_bps)
    assert codecs == [48_000, 24_000]


async def test_audio_is_written_ahead_so_that_a_stall_is_not_heard() -> None:
    async with TransportSite() as site, FakeCaller(site.url):
        await until(lambda: site.calls)
        call = site.call
        await call.say(said(speech(600, 3.0)))
        await until(lambda: len(call.after.of(TTSAudioRawFrame)) > 5)
        session = call.connection.session
        most = 0.0

        def ahead() -> bool:
            nonlocal most
            most = max(most, session.queued * 1000 / session.speaker_hz)
            return most > 300

        await until(ahead)
        assert most <= 440
