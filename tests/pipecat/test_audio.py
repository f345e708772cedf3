"""Rates, channels and the lead, as a caller hears them and a pipeline gets them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.processors.audio.audio_buffer_processor import AudioBufferProcessor

from tests.fakes.audio import HZ, pitch_hz, silence_source, tone, tone_source
from tests.fakes.caller import FakeCaller
from tests.pipecat.site import OUT_HZ, Site, Tap, loud_s, said
from tests.support import until

pytestmark = pytest.mark.usefixtures("found_serve")


@pytest.mark.parametrize("hz", [16_000, 22_050, 44_100])
async def test_speech_of_another_rate_is_heard_whole(hz: int) -> None:
    async with Site() as site, FakeCaller(site.url, silence_source()) as caller:
        await until(lambda: site.calls)
        call = site.call
        await call.say(said(600, 3.0, hz=hz), TTSStoppedFrame())
        await caller.hears(600, db=-12)
        await until(lambda: call.after.of(TTSStoppedFrame))
        passed = sum(frame.num_frames for frame in call.after.of(TTSAudioRawFrame)) / 24_000
        assert passed == pytest.approx(3.0, abs=0.041)


async def test_two_rates_in_one_pipeline_follow_each_other() -> None:
    async with Site() as site, FakeCaller(site.url, silence_source()) as caller:
        await until(lambda: site.calls)
        await site.call.say(said(600, 2.0, hz=16_000), said(900, 5.0, hz=8_000))
        await caller.hears(600)
        await caller.hears(900)


async def test_stereo_goes_in_and_out_at_its_speed() -> None:
    both: Any = {"audio_out_channels": 2, "audio_in_channels": 2}
    async with Site(**both) as site, FakeCaller(site.url, tone_source(440)) as caller:
        await until(lambda: site.calls)
        call = site.call
        left = tone(600, 48_000, hz=24_000)
        samples = np.stack((left, np.zeros(48_000, np.int16)), axis=1)
        await call.say(TTSAudioRawFrame(samples.tobytes(), 24_000, 2), TTSStoppedFrame())
        # The caller hears the mean of both channels.
        await caller.hears(600, db=-18)
        await until(lambda: call.after.of(BotStoppedSpeakingFrame))

        await until(lambda: loud_s(caller.heard(), HZ) > 1.7)
        assert loud_s(caller.heard(), HZ) < 2.3
        frames = call.before.of(InputAudioRawFrame)
        assert {(frame.num_channels, frame.num_frames) for frame in frames} == {(2, 320)}


@pytest.mark.parametrize("lead_ms", [100, 400])
async def test_writes_lead_by_what_was_asked_for(lead_ms: int) -> None:
    async with Site(audio_out_lead_ms=lead_ms) as site, FakeCaller(site.url, silence_source()):
        await until(lambda: site.calls)
        call = site.call
        await call.say(said(600, 20.0))
        session: Any = call.connection.session
        most = 0.0

        def leads() -> bool:
            nonlocal most
            most = max(most, session.queued * 1000 / session.speaker_hz)
            return most > lead_ms - 40 and len(call.after.of(OutputAudioRawFrame)) > 25

        await until(leads, what="the lead")
        assert most <= lead_ms + 40


async def test_the_rest_of_a_chunk_is_heard_without_being_told() -> None:
    async with Site() as site, FakeCaller(site.url, silence_source()):
        await until(lambda: site.calls)
        call = site.call
        await call.say(said(600, 0.5 + 0.01, OutputAudioRawFrame))

        def passed() -> float:
            frames = call.after.of(OutputAudioRawFrame)
            return float(sum(frame.num_frames for frame in frames)) / 24_000

        await until(lambda: passed() > 0.51)


async def test_a_volume_is_heard() -> None:
    site = Site(audio_out_volume=0.25)
    async with site, FakeCaller(site.url, silence_source()) as caller:
        await until(lambda: site.calls)
        await site.call.say(said(600, 10.0))
        await caller.hears(600, db=-24)


async def test_what_the_caller_says_is_recorded_in_step_with_the_bot() -> None:
    recorder = AudioBufferProcessor(sample_rate=OUT_HZ, num_channels=2, auto_start_recording=True)
    tracks: list[bytes] = []

    async def take(_recorder: Any, audio: bytes, _hz: int, _channels: int) -> None:
        tracks.append(audio)

    recorder.add_event_handler("on_audio_data", take)
    behind = Tap()
    site = Site(more=lambda: [recorder, behind], echoes=True)
    async with site, FakeCaller(site.url, tone_source(440)) as caller:
        await caller.hears(440)
        # Silence comes first where the caller's first word is late.
        await until(lambda: loud_s(behind.samples(OutputAudioRawFrame), OUT_HZ) > 1.5)
        await recorder.stop_recording()
        await until(lambda: tracks)
    bot = np.frombuffer(tracks[0], np.int16).reshape(-1, 2)[:, 1]
    loud = np.flatnonzero(np.abs(bot.astype(int)) > 1000)
    middle = bot[loud[0] : loud[-1]]
    assert loud_s(middle, OUT_HZ) > 1.4
    assert pitch_hz(middle) * OUT_HZ / HZ == pytest.approx(440, rel=0.02)
