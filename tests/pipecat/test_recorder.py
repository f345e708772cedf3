"""What follows the audio follows its playing: recorders, speaking events, messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.processors.audio.audio_buffer_processor import AudioBufferProcessor

from tests.fakes.audio import HZ, pitch_hz
from tests.fakes.caller import FakeCaller
from tests.pipecat.site import OUT_HZ, Call, Site, Tap, said
from tests.support import until

pytestmark = pytest.mark.usefixtures("found_serve")


def recorded_s(call: Call) -> float:
    """Seconds of the bot's audio that have come to recorders."""
    frames = call.after.of(OutputAudioRawFrame)
    return float(sum(frame.num_frames for frame in frames)) / OUT_HZ


def sent_s(call: Call) -> float:
    """Seconds of audio that have left for the caller."""
    session = call.connection.session
    return session.position / session.speaker_hz


async def test_a_recorder_gets_audio_when_it_has_left_and_all_of_it() -> None:
    async with Site() as site, FakeCaller(site.url):
        await until(lambda: site.calls)
        call = site.call
        await call.say(said(600, 2.0), TTSStoppedFrame())
        ahead: list[float] = []

        def done() -> bool:
            ahead.append(recorded_s(call) - sent_s(call))
            return recorded_s(call) >= 2.0

        await until(done)
        assert max(ahead) < 0.001
        assert recorded_s(call) == pytest.approx(2.0)


async def test_a_recorder_of_an_interrupted_bot_has_what_was_heard_and_no_more() -> None:
    async with Site() as site, FakeCaller(site.url) as caller:
        await until(lambda: site.calls)
        call = site.call
        await call.say(said(600, 20.0))
        await caller.hears(600)
        session = call.connection.session
        await until(lambda: session.queued > 0.2 * session.speaker_hz)
        await call.interrupt()
        await until(lambda: call.after.of(BotStoppedSpeakingFrame))
        assert session.queued == 0
        left = sent_s(call)
        await until(lambda: recorded_s(call) >= left - 0.061)
        assert recorded_s(call) <= left + 0.001


async def test_speaking_events_follow_the_playing() -> None:
    async with Site() as site, FakeCaller(site.url):
        await until(lambda: site.calls)
        call = site.call
        await call.say(said(600, 3.0), TTSStoppedFrame())
        await until(lambda: call.after.of(BotStartedSpeakingFrame))
        assert sent_s(call) < 2.5
        await until(lambda: call.after.of(BotStoppedSpeakingFrame))
        assert sent_s(call) >= 3.0
        kinds = (BotStartedSpeakingFrame, BotStoppedSpeakingFrame)
        await until(lambda: len(call.before.of(*kinds)) == 2)  # upstream
        assert [type(frame) for frame in call.before.of(*kinds)] == [*kinds]
        await until(lambda: call.after.of(TTSStoppedFrame))
        # The events are system frames and may overtake audio in a processor's queue.
        order = call.after.of(TTSAudioRawFrame, TTSStoppedFrame)
        assert [type(frame) for frame in order] == [*[TTSAudioRawFrame] * 75, TTSStoppedFrame]


async def test_a_message_in_the_speech_leaves_in_its_place() -> None:
    async with Site() as site, FakeCaller(site.url) as caller:
        await until(lambda: site.calls)
        call = site.call
        message: Any = OutputTransportMessageFrame(message={"here": 1})
        await call.say(said(600, 1.0), message, said(600, 9.0), TTSStoppedFrame())
        await caller.until(lambda: {"here": 1} in caller.messages, "the message")
        assert 0.99 <= sent_s(call) < 9.0


async def test_a_message_behind_what_was_cut_never_leaves() -> None:
    async with Site() as site, FakeCaller(site.url) as caller:
        await until(lambda: site.calls)
        call = site.call
        cut: Any = OutputTransportMessageFrame(message={"cut": 1})
        await call.say(said(600, 0.3), cut, said(600, 5.0))
        await until(lambda: call.after.of(BotStartedSpeakingFrame))
        await call.interrupt()
        await until(lambda: call.after.of(BotStoppedSpeakingFrame))
        cut_s = sent_s(call)
        last: Any = OutputTransportMessageFrame(message={"last": 1})
        await call.say(said(600, 0.5), last, TTSStoppedFrame())
        await caller.until(lambda: {"last": 1} in caller.messages, "the last message")
        # Before it, if all stood still between the first word and the interruption.
        assert {"cut": 1} not in caller.messages or cut_s >= 0.3


async def test_pipecats_own_recorder_has_the_conversation() -> None:
    recorder = AudioBufferProcessor(sample_rate=OUT_HZ, num_channels=2, auto_start_recording=True)
    tracks: list[bytes] = []

    async def take(_recorder: Any, audio: bytes, _hz: int, _channels: int) -> None:
        tracks.append(audio)

    recorder.add_event_handler("on_audio_data", take)
    behind = Tap()
    async with Site(more=lambda: [recorder, behind]) as site, FakeCaller(site.url) as caller:
        await until(lambda: site.calls)
        call = site.call
        await call.say(said(600, 1.5), TTSStoppedFrame())
        await caller.hears(600)
        await until(lambda: behind.of(TTSStoppedFrame))
        await recorder.stop_recording()
        await until(lambda: tracks)
    samples = np.frombuffer(tracks[0], np.int16).reshape(-1, 2)
    # It fills with silence what passes without sound.
    bot = samples[: len(samples) // 240 * 240, 1].reshape(-1, 240).astype(int)
    loud = bot[np.abs(bot).max(axis=1) > 1000].reshape(-1)
    assert len(loud) / OUT_HZ == pytest.approx(1.5, abs=0.1)
    assert pitch_hz(loud) * OUT_HZ / HZ == pytest.approx(600, rel=0.02)
