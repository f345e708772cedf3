"""Images at their rate, keys as tones, both in order with the audio where that is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine.transports.base import BaseOutputTransport
from engine.transports.base.dtmf import tone
from engine.transports.base.urgent_keys import MAX_WAITING
from engine.transports.frames import (
    ErrorFrame,
    InterruptionFrame,
    KeypadEntry,
    OutputDTMFFrame,
    OutputDTMFUrgentFrame,
    OutputImageRawFrame,
    SpriteFrame,
)
from ipc.errors import Overloaded
from tests.unit.engine.transports.base.output_world import HZ, FakeOutput, OutputWorld, audio, pcm

if TYPE_CHECKING:
    from ipc.clock import ManualClock

LIVE: Any = {"video_out_enabled": True, "video_out_is_live": True, "video_out_framerate": 10}


def image(name: bytes) -> OutputImageRawFrame:
    return OutputImageRawFrame(name, (1, 1), "RGB")


def shown(world: OutputWorld) -> list[bytes]:
    return [frame.image for frame in world.output.images]


def test_a_picture_repeats_at_the_frame_rate(clock: ManualClock) -> None:
    with OutputWorld(clock, video_out_enabled=True, video_out_framerate=10) as world:
        world.run(300)
        assert shown(world) == []
        world.handle(image(b"a"))
        world.run(1000)
        assert 10 <= len(shown(world)) <= 11


def test_an_image_that_cannot_be_written_is_told_once(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(_self: object, frame: OutputImageRawFrame) -> bool:
        raise ValueError("wrong size")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeOutput, "write_video_frame", refuse)
        with OutputWorld(clock, video_out_enabled=True) as world:
            world.handle(image(b"a"))
            world.run(1000)
    assert caplog.text.count("could not be written") == 1


def test_sprites_take_turns(clock: ManualClock) -> None:
    with OutputWorld(clock, video_out_enabled=True, video_out_framerate=10) as world:
        world.handle(SpriteFrame([image(b"a"), image(b"b")]))
        world.run(400)
        assert shown(world)[:4] == [b"a", b"b", b"a", b"b"]


def test_live_images_are_shown_once_each_and_the_oldest_of_too_many_go(clock: ManualClock) -> None:
    with OutputWorld(clock, **LIVE) as world:
        for number in range(20):
            world.output._media_senders[None]._video.show(image(b"%d" % number))
        world.run(2000)
        assert shown(world) == [b"15", b"16", b"17", b"18", b"19"]


def test_an_interruption_takes_live_images(clock: ManualClock) -> None:
    with OutputWorld(clock, **LIVE) as world:
        for name in (b"a", b"b", b"c"):
            world.handle(image(name))
        world.handle(InterruptionFrame())
        world.run(1000)
        assert shown(world) == [b"a", b"b"]


def test_an_image_in_sync_waits_for_the_audio_before_it(clock: ManualClock) -> None:
    with OutputWorld(clock, video_out_enabled=True) as world:
        frame = image(b"a")
        frame.sync_with_audio = True
        world.handle(audio(7, 40))
        world.handle(frame)
        world.run(100)
        assert shown(world) == []
        world.plays(40)
        assert shown(world)[0] == b"a"


def test_a_key_is_two_sines_and_silence() -> None:
    samples = np.frombuffer(tone(KeypadEntry.FIVE, HZ), np.int16)
    spectrum = np.abs(np.fft.rfft(samples, HZ))
    loudest = sorted(int(at) for at in np.argsort(spectrum)[-40:])
    assert any(abs(at - 770) <= 5 for at in loudest)
    assert any(abs(at - 1336) <= 5 for at in loudest)
    assert not samples[-(HZ * 70 // 1000) :].any()
    assert len({tone(key, HZ) for key in KeypadEntry}) == 12


def test_keys_are_pressed_behind_the_audio_or_at_once(clock: ManualClock) -> None:
    with OutputWorld(clock) as world:
        world.handle(audio(7, 40))
        world.handle(OutputDTMFFrame(buttons=[KeypadEntry.ONE, KeypadEntry.STAR]))
        keys = tone(KeypadEntry.ONE, HZ) + tone(KeypadEntry.STAR, HZ)
        assert world.written == pcm(7, 40) + keys
        world.handle(OutputDTMFUrgentFrame(button=KeypadEntry.ONE))
        assert world.written == pcm(7, 40) + keys + tone(KeypadEntry.ONE, HZ)
        for _ in range(20):
            world.plays(40)
        assert world.output.names() == ["OutputAudioRawFrame", "OutputDTMFFrame"]


def test_only_so_many_urgent_keys_wait(clock: ManualClock) -> None:
    with OutputWorld(clock, ahead=False) as world:
        world.output.blocks = True
        for _ in range(1 + MAX_WAITING):  # one is being pressed
            world.handle(OutputDTMFUrgentFrame(button=KeypadEntry.ONE))
        with pytest.raises(Overloaded):
            world.handle(OutputDTMFUrgentFrame(button=KeypadEntry.ONE))
        keys = [task for task in world.manager.current_tasks() if "keys" in task.get_name()]
        assert len(keys) == 1


def test_urgent_keys_that_cannot_be_pressed_are_told_and_the_next_ones_are(
    clock: ManualClock,
) -> None:
    with OutputWorld(clock) as world, pytest.MonkeyPatch.context() as patch:

        async def fail(_frame: object) -> bool:
            raise RuntimeError("broken")

        patch.setattr(world.output, "write_audio_frame", fail)
        world.handle(OutputDTMFUrgentFrame(button=KeypadEntry.ONE))
        patch.undo()
        world.handle(OutputDTMFUrgentFrame(button=KeypadEntry.TWO))
        assert world.written == tone(KeypadEntry.TWO, HZ)
        (error,) = [frame for frame, _ in world.output.pushed if isinstance(frame, ErrorFrame)]
        assert "broken" in error.error


def test_a_transport_with_keys_of_its_own_presses_them_in_their_place(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pressed: list[str] = []

    async def press(
        _self: BaseOutputTransport, frame: OutputDTMFFrame | OutputDTMFUrgentFrame
    ) -> None:
        pressed.append(frame.to_string())

    with OutputWorld(clock) as world:
        monkeypatch.setattr(BaseOutputTransport, "_supports_native_dtmf", lambda _self: True)
        monkeypatch.setattr(BaseOutputTransport, "_write_dtmf_native", press)
        world.handle(audio(7, 40))
        world.handle(OutputDTMFFrame.from_string("12#"))
        assert pressed == []
        world.plays(40)
        assert pressed == ["12#"]
