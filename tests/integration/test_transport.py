"""The documented transport in a pipeline, with a real caller: frames in and out, in order."""

from __future__ import annotations

import numpy as np
import pytest

from engine.transports.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ClientConnectedFrame,
    EndFrame,
    InputAudioRawFrame,
    InputTransportMessageFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from tests.fakes.audio import pitch_hz, tone_source
from tests.fakes.caller import FakeCaller
from tests.fakes.transport_site import TransportSite, said, speech
from tests.support import until

pytestmark = pytest.mark.usefixtures("found_serve")


async def test_what_the_caller_says_comes_in_and_is_said_back() -> None:
    async with TransportSite(echoes=True) as site, FakeCaller(site.url, tone_source(440)) as caller:
        await caller.hears(440)
        call = site.call
        assert call.transport.get_client_id(call.connection) == caller.pc_id
        frames = call.before.of(InputAudioRawFrame)
        assert {(f.sample_rate, f.num_channels, f.num_frames) for f in frames} == {(16_000, 1, 320)}
        await until(lambda: len(call.before.of(InputAudioRawFrame)) > 100)

        def hears_the_caller() -> bool:
            last = call.before.of(InputAudioRawFrame)[-50:]
            samples = np.frombuffer(b"".join(f.audio for f in last), np.int16)
            return abs(pitch_hz(np.repeat(samples, 3)) - 440) < 5

        await until(hears_the_caller, what="the caller's tone")
        out = call.after.of(OutputAudioRawFrame)
        # A caller whose packets come late leaves less than a chunk, which does not wait for more.
        assert {f.sample_rate for f in out} == {24_000}
        assert {f.num_frames for f in out} <= {480, 960}
        assert sum(f.num_frames == 960 for f in out) > len(out) / 2
        assert len(call.before.of(ClientConnectedFrame)) == 1
        assert call.events() == ["on_client_connected"]


async def test_speech_is_heard_and_told_as_it_is_heard() -> None:
    async with TransportSite() as site, FakeCaller(site.url) as caller:
        await until(lambda: site.calls)
        call = site.call
        await call.say(said(speech(600, 1.0)), TTSStoppedFrame())
        await caller.hears(600, seconds=0.3)  # once it may run dry, where this process stands still
        await until(lambda: call.after.of(BotStoppedSpeakingFrame))
        await until(lambda: len(call.after.of(TTSAudioRawFrame)) == 25)
        kinds = [type(frame) for frame in call.after.came]
        stopped = kinds.index(BotStoppedSpeakingFrame)
        assert kinds[:stopped].count(TTSAudioRawFrame) == 25
        assert kinds.index(BotStartedSpeakingFrame) < kinds.index(TTSAudioRawFrame)
        assert len(call.before.of(BotStartedSpeakingFrame)) == 1


async def test_messages_go_both_ways_and_keep_their_place() -> None:
    async with TransportSite() as site, FakeCaller(site.url) as caller:
        await until(lambda: site.calls)
        call = site.call
        caller.send({"hello": 1})
        await until(lambda: call.messages("on_client_message"))
        assert call.messages() == call.messages("on_client_message") == [{"hello": 1}]
        assert [f.message for f in call.before.of(InputTransportMessageFrame)] == [{"hello": 1}]
        await call.say(said(speech(600, 0.5)), OutputTransportMessageFrame({"said": "half"}))
        await caller.until(lambda: {"said": "half"} in caller.messages, "the message")
        await until(lambda: len(call.after.of(TTSAudioRawFrame)) == 13)


async def test_the_end_comes_when_everything_was_heard() -> None:
    async with TransportSite(audio_out_end_silence_secs=1) as site, FakeCaller(site.url) as caller:
        await until(lambda: site.calls)
        call = site.call
        await call.say(said(speech(600, 1.51), OutputAudioRawFrame), EndFrame())
        await until(call.running.done)

        def loud_s() -> float:
            return float((np.abs(caller.heard().astype(int)) > 1000).sum() / 48_000)

        await caller.until(lambda: loud_s() > 1.3, "all that was said")
        await caller.until(lambda: caller.left, "the goodbye")
        assert sum(f.num_frames for f in call.after.of(OutputAudioRawFrame)) == 36_240
        assert call.events() == ["on_client_connected"]
        assert call.transport.output()._client.is_closing
