"""An interruption: what may be interrupted is gone at once, the rest goes on in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from engine.transports.base import BaseAudioMixer
from engine.transports.frames import (
    Frame,
    InterruptionFrame,
    MixerControlFrame,
    OutputTransportMessageFrame,
    TextFrame,
    TTSStoppedFrame,
)
from tests.unit.engine.transports.base.output_world import (
    MS,
    FakeOutput,
    OutputWorld,
    audio,
    pcm,
    speech,
)

if TYPE_CHECKING:
    from ipc.clock import ManualClock


def lasting(frame: Frame) -> Frame:
    frame.interruptible = False
    return frame


class Counting(BaseAudioMixer):
    """Adds a sample's place to it, so that what was mixed says where."""

    def __init__(self) -> None:
        self.at = 0
        self.calls = 0

    async def start(self, sample_rate: int) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def process_frame(self, frame: MixerControlFrame) -> None:
        pass

    async def mix(self, audio: bytes) -> bytes:
        self.calls += 1
        samples = np.frombuffer(audio, np.int16)
        places = np.arange(self.at, self.at + len(samples))
        self.at += len(samples)
        return (samples + places).astype(np.int16).tobytes()


def test_everything_that_waits_is_dropped_at_once(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(speech(7, 2010))
        world.handle(OutputTransportMessageFrame("after"))
        world.handle(TTSStoppedFrame())
        world.plays(40)
        written = len(world.written)
        world.output.pushed.clear()
        world.handle(InterruptionFrame())
        assert world.playout.flushes == 1
        assert world.playout.unsent == 0
        assert sorted(world.output.names()) == ["BotStoppedSpeakingFrame", "InterruptionFrame"]
        world.run(3000)
        assert len(world.written) == written
        assert world.output.messages == []
        assert len(world.output.names()) == 2


def test_what_comes_after_an_interruption_is_whole_and_alone(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(speech(7, 70))
        world.handle(InterruptionFrame())
        world.output.writes.clear()
        world.handle(speech(8, 50))
        world.handle(TTSStoppedFrame())
        assert world.written == pcm(8, 50)


def test_uninterruptible_audio_survives_and_is_told_when_it_was_played(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(speech(7, 400))
        world.handle(speech(8, 800, interruptible=False))
        world.handle(lasting(OutputTransportMessageFrame("kept")))
        world.handle(OutputTransportMessageFrame("dropped"))
        world.plays(40)
        world.handle(InterruptionFrame())
        assert "BotStoppedSpeakingFrame" not in world.output.names()
        assert world.output.messages == []
        for _ in range(20):
            world.plays(40)
        assert world.output.messages == ["kept"]
        assert world.written.count(pcm(8, 40)) == 20
        assert world.output.names().count("TTSAudioRawFrame") == 1 + 20
        world.run(4000)
        assert world.output.names().count("BotStoppedSpeakingFrame") == 1


def test_a_chunk_is_uninterruptible_when_any_of_it_is(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(audio(7, 30))
        world.handle(audio(8, 10, interruptible=False))
        world.handle(InterruptionFrame())
        assert [frame.interruptible for frame in world.output.writes] == [False]
        world.plays(40)
        assert world.output.names() == ["InterruptionFrame", "OutputAudioRawFrame"]


def test_what_is_written_while_it_is_cleaned_up_is_discarded(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(speech(7, 40))
        world.plays(40)
        sender = world.output._media_senders[None]
        sender.interrupt()
        world.do(sender.handle_audio_frame(audio(8, 40)))
        world.do(sender.handle_sync_frame(TextFrame("old")))
        world.do(sender.handle_sync_frame(lasting(TextFrame("kept"))))
        world.do(sender.handle_interruptions(InterruptionFrame()))
        world.run()
        assert world.written == pcm(7, 40)
        assert world.playout.flushes == 1
        assert world.output.names().count("TextFrame") == 1
        world.do(sender.handle_audio_frame(audio(9, 40)))
        world.run()
        assert world.written == pcm(7, 40) + pcm(9, 40)


def test_a_chunk_in_the_filter_is_not_written_after_the_interruption(clock: ManualClock) -> None:
    class Slow(Counting):
        gate: asyncio.Event

        async def mix(self, audio: bytes) -> bytes:
            await self.gate.wait()
            return await super().mix(audio)

    mixer = Slow()
    with OutputWorld(clock, ahead=False, audio_out_mixer=mixer) as world:
        mixer.gate = gate = asyncio.Event()
        world.handle(audio(1000, 40))
        world.run(200)
        mixer.gate.clear()
        world.handle(InterruptionFrame())
        gate.set()
        world.run(200)
        assert pcm(1000, 40) not in world.written


def test_the_background_goes_on_where_the_mixer_stands(clock: ManualClock) -> None:
    mixer = Counting()
    with OutputWorld(clock, audio_out_mixer=mixer, audio_out_lead_ms=100) as world:
        world.run()
        assert len(world.output.writes) == 3  # 100 ms, in chunks of 40
        world.plays(20)
        world.handle(InterruptionFrame())
        world.run()
        # Cut, and at once as much anew: nobody waits for the lead that is gone.
        assert world.playout.unsent == 120 * MS
        places = np.frombuffer(world.written, np.int16)
        assert places.tolist() == list(range(len(places)))


def test_a_message_right_behind_an_interruption_waits_for_nothing(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(speech(7, 100))
        world.handle(lasting(speech(8, 100)))
        world.handle(InterruptionFrame())
        world.handle(OutputTransportMessageFrame("next"))
        assert world.output.messages == [], "what survived is before it"
        for _ in range(3):
            world.plays(40)
        assert world.output.messages == ["next"]
        world.handle(InterruptionFrame())
        world.handle(OutputTransportMessageFrame("at once"))
        assert world.output.messages == ["next", "at once"]


def test_the_background_does_not_hold_up_an_interruption(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def push(_self: object, frame: Frame, direction: object = None) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(20):
            turn = loop.create_future()
            loop.call_soon(turn.set_result, None)
            await turn

    with OutputWorld(clock, audio_out_mixer=Counting(), audio_out_lead_ms=100) as world:
        world.plays(60)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FakeOutput, "push_frame", push)
            world.handle(InterruptionFrame())
        assert world.playout.unsent > 0
        assert "late" not in caplog.text


def test_an_interruption_of_one_destination_leaves_the_others(clock: ManualClock) -> None:
    with OutputWorld(clock, audio_out_destinations=["stage"]) as world:
        frame = audio(8, 400)
        frame.transport_destination = "stage"
        world.handle(frame)
        world.handle(audio(7, 400))
        world.handle(InterruptionFrame())
        assert world.playout.unsent == 0
        assert world.output.playouts["stage"].unsent == 400 * MS


def test_timed_frames_that_may_be_interrupted_do_not_come(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        for text in ("kept", "dropped"):
            frame = TextFrame(text)
            frame.pts = clock.now_ns() + 50_000_000
            frame.interruptible = text == "dropped"
            world.handle(frame)
        world.handle(InterruptionFrame())
        world.run(100)
        texts = [frame.text for frame, _ in world.output.pushed if isinstance(frame, TextFrame)]
        assert texts == ["kept"]
