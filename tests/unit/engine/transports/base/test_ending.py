"""How an output ends: an EndFrame waits for the audio, a CancelFrame does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.transports.frames import (
    CancelFrame,
    EndFrame,
    ErrorFrame,
    OutputTransportMessageFrame,
    StartFrame,
    TextFrame,
)
from engine.transports.processors import FrameProcessorSetup
from ipc.errors import StateError
from tests.unit.engine.transports.base.output_world import (
    CHUNK,
    DOWN,
    HZ,
    MS,
    UP,
    LoopClock,
    OutputWorld,
    audio,
    pcm,
    speech,
)

if TYPE_CHECKING:
    from ipc.clock import ManualClock


def test_the_end_comes_after_the_last_sample_and_the_final_silence(clock: ManualClock) -> None:
    with OutputWorld(clock, audio_out_end_silence_secs=1) as world:
        world.handle(speech(7, 50))
        world.handle(OutputTransportMessageFrame("last"))
        ending = world.begin(world.output.process_frame(EndFrame(), DOWN))
        for _ in range(104):
            world.plays(10)
            assert not ending.done()
        world.plays(10)
        assert ending.done()
        assert world.written == pcm(7, 50) + bytes(2 * HZ)
        assert max(len(frame.audio) for frame in world.output.writes) == 2 * CHUNK
        assert world.output.messages == ["last"]
        assert world.output.names()[-2:] == ["BotStoppedSpeakingFrame", "EndFrame"]


def test_the_end_waits_for_timed_frames(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        frame = TextFrame("late")
        frame.pts = clock.now_ns() + 200_000_000
        world.handle(frame)
        ending = world.begin(world.output.process_frame(EndFrame(), DOWN))
        world.run(190)
        assert not ending.done()
        world.run(20)
        assert ending.done()
        assert world.output.names() == ["TextFrame", "EndFrame"]


def test_the_end_does_not_wait_for_ever(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    with OutputWorld(clock, audio_out_write_timeout_secs=2) as world:
        world.handle(audio(7, 200))
        ending = world.begin(world.output.process_frame(EndFrame(), DOWN))
        world.run(3500, step_ms=100)
        assert not ending.done()
        world.run(1000, step_ms=100)
        assert ending.done()
        assert "did not leave" in caplog.text


def test_a_cancel_waits_for_nothing(clock: ManualClock) -> None:
    with OutputWorld(clock, audio_out_end_silence_secs=2) as world:
        world.handle(speech(7, 2000))
        world.handle(CancelFrame())
        assert world.playout.unsent == 0
        assert world.output.names()[-1] == "CancelFrame"


def test_a_peer_that_reads_no_more_is_told_once(clock: ManualClock) -> None:
    with OutputWorld(clock, ahead=False, audio_out_write_timeout_secs=0.5) as world:
        world.output.blocks = True
        world.handle(audio(7, 200))
        world.run(400)
        assert world.output.is_usable
        world.run(200)
        assert not world.output.is_usable
        errors = [f for f, way in world.output.pushed if isinstance(f, ErrorFrame) and way is UP]
        assert len(errors) == 1
        world.run(5000, step_ms=100)
        assert len(errors) == 1


def test_what_cannot_be_sent_is_told_and_ends_nothing(clock: ManualClock) -> None:
    async def fail(_frame: object) -> bool:
        raise RuntimeError("broken")

    with OutputWorld(clock) as world, pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.output, "write_audio_frame", fail)
        patch.setattr(world.output, "send_message", fail)
        world.handle(audio(7, 40))
        world.handle(OutputTransportMessageFrame("lost"))
        patch.undo()
        world.handle(audio(8, 40))
        world.handle(OutputTransportMessageFrame("sent"))
        assert world.written == pcm(8, 40)
        world.plays(40)
        assert world.output.messages == ["sent"]
        errors = [f for f, way in world.output.pushed if isinstance(f, ErrorFrame) and way is UP]
        assert len(errors) == 2
        assert all("broken" in error.error for error in errors)


def test_a_second_setup_is_refused_and_changes_nothing(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        setup = FrameProcessorSetup(LoopClock(), world.manager, audio_out_sample_rate=8000)
        with pytest.raises(StateError) as refused:
            world.do(world.output.setup(setup))
        assert refused.value.code == "set_up"
        assert world.output.sample_rate == HZ
        world.handle(audio(7, 40))
        assert len(world.output.writes) == 1


def test_a_second_start_changes_nothing(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(audio(7, 400))
        world.handle(StartFrame())
        assert world.playout.unsent == 400 * MS
        assert world.output.names() == ["StartFrame"]


def test_audio_that_is_disabled_is_not_sent(clock: ManualClock) -> None:
    with OutputWorld(clock, audio_out_enabled=False) as world:
        world.handle(audio(7, 400))
        assert world.output.writes == []
        world.handle(TextFrame("but the rest goes on"))
        assert world.output.names() == ["TextFrame"]
