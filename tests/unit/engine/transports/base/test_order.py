"""What follows audio leaves after it, in order, and is told when that was played."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.transports.frames import (
    BotSpeakingFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ControlFrame,
    DataFrame,
    Frame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    SpeechOutputAudioRawFrame,
    TextFrame,
    TTSStoppedFrame,
)
from tests.unit.engine.transports.base.output_world import (
    CHUNK,
    DOWN,
    HZ,
    UP,
    OutputWorld,
    audio,
    pcm,
    speech,
)

if TYPE_CHECKING:
    from ipc.clock import ManualClock


def test_audio_is_written_in_chunks_and_goes_on_once_it_was_played(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(audio(7, 100))
        assert [len(frame.audio) for frame in world.output.writes] == [2 * CHUNK] * 2
        assert world.output.pushed == []
        world.plays(39)
        assert world.output.pushed == []
        world.plays(1)
        assert world.output.names() == ["OutputAudioRawFrame"]
        world.plays(40)
        assert world.output.names() == ["OutputAudioRawFrame"] * 2


def test_a_write_stays_at_most_the_lead_ahead(clock: ManualClock) -> None:
    with OutputWorld(clock, audio_out_lead_ms=100) as world:
        world.handle(audio(7, 1000))
        assert len(world.output.writes) == 3
        world.plays(40)
        assert len(world.output.writes) == 4


@pytest.mark.parametrize("ahead", [True, False])
def test_a_tail_shorter_than_a_chunk_is_not_lost(clock: ManualClock, ahead: bool) -> None:
    with OutputWorld(clock, ahead=ahead) as world:
        world.handle(audio(7, 50))
        world.run(40)
        assert len(world.written) == 2 * CHUNK
        world.run(500)
        assert world.written[: len(pcm(7, 50))] == pcm(7, 50)
        rest = world.written[len(pcm(7, 50)) :]
        # Who cannot take a part of a chunk gets silence behind it.
        assert rest == (b"" if ahead else pcm(0, 30))


@pytest.mark.parametrize("ms", [50, 300, 390])
def test_there_is_no_hole_before_the_tail_of_a_short_sound(clock: ManualClock, ms: int) -> None:
    with OutputWorld(clock) as world:
        world.handle(audio(7, ms))
        whole = ms // 40 * 40
        for _ in range(max(9, whole // 10 - 1)):
            world.plays(10)
        assert world.written == pcm(7, ms)


def test_the_end_of_speech_synthesis_is_the_end_of_its_audio(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(speech(7, 50))
        world.handle(TTSStoppedFrame())
        assert world.written == pcm(7, 50)
        assert world.playout.ends == [len(pcm(7, 50)) // 2]
        assert world.output.writes[-1].transport_destination is None


def test_chunks_are_frames_of_the_class_that_came(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        frame = speech(7, 80)
        frame.context_id = "turn"
        world.handle(frame)
        one, two = world.output.writes
        assert type(one) is type(two) is type(frame)
        assert one.id != two.id != frame.id
        assert vars(one)["context_id"] == "turn"


def test_speaking_is_told_as_it_is_heard(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(speech(7, 80))
        world.handle(TTSStoppedFrame())
        world.run(100)
        assert world.output.pushed == []
        world.plays(1)
        assert world.output.names() == world.output.names(UP) == ["BotStartedSpeakingFrame"]
        world.plays(39)
        assert world.output.names()[1:] == ["BotSpeakingFrame", "TTSAudioRawFrame"]
        world.plays(39)
        assert world.output.names()[3:] == []
        world.plays(1)
        assert world.output.names()[3:] == [
            "TTSAudioRawFrame",
            "BotStoppedSpeakingFrame",
            "TTSStoppedFrame",
        ]


def test_speaking_events_know_their_siblings_and_their_destination(clock: ManualClock) -> None:
    with OutputWorld(clock, audio_out_destinations=["stage"]) as world:
        frame = speech(7, 40)
        frame.transport_destination = "stage"
        world.handle(frame)
        world.output.playouts["stage"].plays(40)
        world.run()
        starts = [f for f, _ in world.output.pushed if isinstance(f, BotStartedSpeakingFrame)]
        one, two = starts
        assert (one.broadcast_sibling_id, two.broadcast_sibling_id) == (two.id, one.id)
        assert {frame.transport_destination for frame in starts} == {"stage"}


def test_speaking_is_repeated_five_times_a_second(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(speech(7, 1000))
        for _ in range(25):
            world.plays(40)
        told = [
            f for f, way in world.output.pushed if isinstance(f, BotSpeakingFrame) and way is UP
        ]
        assert len(told) in (4, 5)


def test_silence_ends_speech_in_a_continuous_stream(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(SpeechOutputAudioRawFrame(pcm(0, 80) + pcm(500, 80) + pcm(0, 400), HZ, 1))
        for _ in range(14):
            world.plays(40)
        events = [name for name in world.output.names() if name.startswith("BotSt")]
        assert events == ["BotStartedSpeakingFrame", "BotStoppedSpeakingFrame"]
        before = world.output.names()[: world.output.names().index("BotStoppedSpeakingFrame")]
        assert before.count("SpeechOutputAudioRawFrame") == 4 + 8


def test_speech_that_nobody_ends_is_over_after_three_seconds(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(speech(7, 40))
        world.plays(40)
        world.run(2900)
        assert "BotStoppedSpeakingFrame" not in world.output.names()
        world.run(300)
        assert world.output.names().count("BotStoppedSpeakingFrame") == 1


def test_plain_audio_is_no_speech(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(audio(500, 40))
        world.plays(40)
        assert world.output.names() == ["OutputAudioRawFrame"]


def test_a_message_leaves_behind_the_audio_before_it(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(audio(7, 50))
        world.handle(OutputTransportMessageFrame("after"))
        world.handle(audio(8, 50))
        world.plays(49)
        assert world.output.messages == []
        world.plays(1)
        assert world.output.messages == ["after"]
        assert world.output.names() == [
            "OutputAudioRawFrame",
            "OutputAudioRawFrame",
            "OutputTransportMessageFrame",
        ]


def test_an_urgent_message_overtakes(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(audio(7, 50))
        world.handle(OutputTransportMessageUrgentFrame("now"))
        assert world.output.messages == ["now"]


def test_other_frames_keep_their_place_behind_the_audio(clock: ManualClock) -> None:
    class Custom(ControlFrame):
        pass

    with OutputWorld(clock) as world:
        world.handle(audio(7, 40))
        world.handle(custom := Custom())
        world.handle(TextFrame("caption"))
        assert world.output.custom == []
        world.plays(40)
        assert world.output.custom[0] is custom
        assert world.output.names() == ["OutputAudioRawFrame", "Custom", "TextFrame"]


def test_a_frame_with_a_time_goes_on_at_that_time(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        now = clock.now_ns()
        frames: list[Frame] = []
        for ms, text in ((60, "b"), (20, "a"), (60, "c")):
            frame = TextFrame(text)
            frame.pts = now + ms * 1_000_000
            frames.append(frame)
            world.handle(frame)
        world.run(10)
        assert world.output.pushed == []
        world.run(10)
        assert [frame for frame, _ in world.output.pushed] == [frames[1]]
        world.run(40)
        assert [frame for frame, _ in world.output.pushed] == [frames[1], frames[0], frames[2]]


def test_without_a_playout_what_is_written_is_played(clock: ManualClock) -> None:
    with OutputWorld(clock, ahead=False) as world:
        world.handle(speech(7, 40))
        world.handle(OutputTransportMessageFrame("after"))
        world.handle(TTSStoppedFrame())
        assert world.output.names() == [
            "BotStartedSpeakingFrame",
            "BotSpeakingFrame",
            "TTSAudioRawFrame",
            "OutputTransportMessageFrame",
            "BotStoppedSpeakingFrame",
            "TTSStoppedFrame",
        ]


def test_what_the_transport_did_not_take_does_not_go_on(clock: ManualClock) -> None:
    with OutputWorld(clock, ahead=False) as world:
        world.output.takes = False
        world.handle(speech(7, 40))
        assert world.output.pushed == []


def test_frames_of_no_destination_are_dropped_and_the_others_go_on(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    with OutputWorld(clock) as world:
        frame = audio(7, 40)
        frame.transport_destination = "nowhere"
        world.handle(frame)
        world.handle(audio(8, 40))
        assert world.written == pcm(8, 40)
        assert "nowhere" in caplog.text


def test_upstream_frames_and_system_frames_pass(clock: ManualClock) -> None:
    class Data(DataFrame):
        pass

    with OutputWorld(clock) as world:
        world.handle(Data(), UP)
        world.handle(BotStoppedSpeakingFrame(), DOWN)
        assert world.output.names(UP) == ["Data"]
        assert world.output.names() == ["BotStoppedSpeakingFrame"]
