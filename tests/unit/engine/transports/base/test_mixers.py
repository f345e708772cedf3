"""Backgrounds: under speech and in silence, per destination, at the pace of real time."""

from __future__ import annotations

import math
import wave
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine.transports.base import BaseAudioFilter, BaseAudioMixer, SoundfileMixer
from engine.transports.frames import (
    EndFrame,
    FilterControlFrame,
    FilterEnableFrame,
    MixerControlFrame,
    MixerEnableFrame,
    MixerUpdateSettingsFrame,
    VolumeFrame,
    VolumeGainFrame,
)
from ipc.errors import ConfigError
from tests.unit.engine.transports.base.output_world import DOWN, HZ, OutputWorld, audio, pcm

if TYPE_CHECKING:
    from pathlib import Path

    from ipc.clock import ManualClock


class Hum(BaseAudioMixer):
    """Adds a number to each sample."""

    def __init__(self, number: int, *, fails: bool = False) -> None:
        self.number = number
        self.fails = fails
        self.calls = 0
        self.told: list[Any] = []

    async def start(self, sample_rate: int) -> None:
        self.told.append(sample_rate)

    async def stop(self) -> None:
        self.told.append("stop")

    async def process_frame(self, frame: MixerControlFrame) -> None:
        self.told.append(frame)

    async def mix(self, audio: bytes) -> bytes:
        self.calls += 1
        if self.fails:
            raise RuntimeError("no hum")
        return (np.frombuffer(audio, np.int16) + np.int16(self.number)).tobytes()


class Double(BaseAudioFilter):
    """Doubles each sample while it is on."""

    def __init__(self) -> None:
        self.on = True
        self.told: list[Any] = []

    async def start(self, sample_rate: int) -> None:
        self.told.append(sample_rate)

    async def stop(self) -> None:
        self.told.append("stop")

    async def process_frame(self, frame: FilterControlFrame) -> None:
        if isinstance(frame, FilterEnableFrame):
            self.on = frame.enable

    async def filter(self, audio: bytes) -> bytes:
        return (np.frombuffer(audio, np.int16) * (2 if self.on else 1)).astype(np.int16).tobytes()


def test_the_background_is_under_speech_and_between_it(clock: ManualClock) -> None:
    hum = Hum(5)
    with OutputWorld(clock, audio_out_mixer=hum, audio_out_lead_ms=100) as world:
        world.handle(audio(100, 80))
        for _ in range(10):
            world.plays(40)
        assert pcm(105, 80) in world.written
        assert set(np.frombuffer(world.written, np.int16)) == {5, 105}
    assert hum.told == [HZ, "stop"]


@pytest.mark.parametrize("takes", [True, False])
def test_a_mixer_without_a_peer_does_not_spin(clock: ManualClock, takes: bool) -> None:
    hum = Hum(5)
    with OutputWorld(clock, ahead=False, audio_out_mixer=hum) as world:
        world.output.takes = takes
        world.run(2000)
        assert 48 <= hum.calls <= 55


def test_a_mixer_that_fails_does_not_spin_and_speech_ends_it_not(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    hum = Hum(5, fails=True)
    with OutputWorld(clock, ahead=False, audio_out_mixer=hum) as world:
        world.run(1000)
        assert hum.calls <= 30
        hum.fails = False
        world.handle(audio(100, 40))
        world.run(100)
        assert pcm(105, 40) in world.written
        assert "no hum" in caplog.text


def test_speech_is_heard_and_ends_without_a_mixer_that_fails(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    hum = Hum(5, fails=True)
    given: dict[str, Any] = {"audio_out_lead_ms": 100, "audio_out_end_silence_secs": 1}
    with OutputWorld(clock, audio_out_mixer=hum, **given) as world:
        world.handle(audio(100, 80))
        for _ in range(4):
            world.plays(40)
        assert pcm(100, 80) in world.written
        ending = world.begin(world.output.process_frame(EndFrame(), DOWN))
        for _ in range(40):
            world.plays(40)
        assert ending.done()
        assert world.playout.ends == [world.playout.written]
    assert caplog.text.count("the mixer failed: no hum") == 1


def test_a_destination_of_images_gets_no_silence_and_no_background(clock: ManualClock) -> None:
    hum = Hum(5)
    given: dict[str, Any] = {
        "audio_out_end_silence_secs": 1,
        "audio_out_mixer": {"screen": hum},
        "video_out_enabled": True,
        "video_out_destinations": ["screen"],
    }
    with OutputWorld(clock, ahead=False, **given) as world:
        world.run(100)
        world.handle(EndFrame())
        written = {frame.transport_destination for frame in world.output.writes}
        assert (written, len(world.written)) == ({None}, 2 * HZ)
    assert hum.calls == 0


def test_each_destination_has_the_mixer_of_its_name(clock: ManualClock) -> None:
    mixers = {None: Hum(5), "stage": Hum(9)}
    names = ["stage", "bare"]
    with OutputWorld(
        clock, ahead=False, audio_out_mixer=mixers, audio_out_destinations=names
    ) as world:
        world.run(200)
        heard = {frame.transport_destination: frame.audio[:2] for frame in world.output.writes}
        assert heard == {None: b"\5\0", "stage": b"\x09\0"}


def test_a_single_mixer_is_that_of_the_default_destination(clock: ManualClock) -> None:
    with OutputWorld(
        clock, ahead=False, audio_out_mixer=Hum(5), audio_out_destinations=["stage"]
    ) as world:
        world.run(200)
        assert {frame.transport_destination for frame in world.output.writes} == {None}


def test_a_mixer_frame_is_told_at_once(clock: ManualClock) -> None:
    hum = Hum(5)
    with OutputWorld(clock, audio_out_mixer=hum) as world:
        world.handle(audio(1, 2000))
        world.handle(frame := MixerEnableFrame(False))
        assert hum.told[-1] is frame
        assert "MixerEnableFrame" not in world.output.names()


def test_a_mixer_that_somebody_else_plays_does_not_run_here(clock: ManualClock) -> None:
    taken: list[float] = []
    mixer = SoundfileMixer(sound_files={"a": "a.wav"}, default_sound="a")
    world = OutputWorld(clock, audio_out_mixer=mixer)

    async def take(mixer: SoundfileMixer, destination: str | None) -> bool:
        taken.append(mixer.background.volume)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "tests.unit.engine.transports.base.output_world.FakeOutput.take_mixer",
            lambda _self, mixer, destination: take(mixer, destination),
        )
        with world:
            world.run(500)
            assert world.output.writes == []
            world.handle(MixerUpdateSettingsFrame({"volume": 0.2}))
    assert taken == [0.4, 0.2]


def test_volume_and_gain_change_in_order_with_the_audio(clock: ManualClock) -> None:
    with OutputWorld(clock, audio_out_volume=0.5) as world:
        for frame in (
            audio(100, 40),
            VolumeFrame(2.0),
            audio(100, 40),
            VolumeGainFrame(0.25),
            audio(100, 40),
            VolumeFrame(400.0),
            audio(20_000, 40),
        ):
            world.handle(frame)
        assert world.written == pcm(50, 40) + pcm(200, 40) + pcm(50, 40) + pcm(32_767, 40)


def test_the_filter_comes_first_and_only_on_the_default_destination(clock: ManualClock) -> None:
    double = Double()
    with OutputWorld(
        clock,
        audio_out_filter=double,
        audio_out_volume=0.5,
        audio_out_destinations=["stage"],
    ) as world:
        other = audio(100, 40)
        other.transport_destination = "stage"
        for frame in (audio(200, 40), other, FilterEnableFrame(False), audio(100, 40)):
            world.handle(frame)
        default = [f.audio for f in world.output.writes if f.transport_destination is None]
        stage = [f.audio for f in world.output.writes if f.transport_destination == "stage"]
        assert default == [pcm(200, 40), pcm(50, 40)]
        assert stage == [pcm(50, 40)]
    assert double.told == [HZ, "stop"]


# -- the sound of a file ------------------------------------------------------------------------


def sound(path: Path, samples: list[int], hz: int = HZ) -> str:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, hz, 0, "NONE", ""))
        file.writeframes(np.array(samples, np.int16).tobytes())
    return str(path)


async def started(path: Path, **settings: Any) -> SoundfileMixer:
    files = {"ramp": sound(path / "ramp.wav", list(range(1000, 1100)))}
    files["flat"] = sound(path / "flat.wav", [500] * 50)
    mixer = SoundfileMixer(sound_files=files, default_sound="ramp", **settings)
    await mixer.start(HZ)
    return mixer


async def mixed(mixer: SoundfileMixer, count: int, value: int = 0) -> list[int]:
    audio = await mixer.mix(np.full(count, value, np.int16).tobytes())
    return np.frombuffer(audio, np.int16).tolist()  # type: ignore[no-any-return]


async def test_a_sound_loops_without_a_seam(tmp_path: Path) -> None:
    mixer = await started(tmp_path, volume=1.0)
    heard = await mixed(mixer, 70) + await mixed(mixer, 70) + await mixed(mixer, 160, 7)
    ramp = list(range(1000, 1100))
    assert heard == (ramp * 3)[:140] + [value + 7 for value in (ramp * 3)[140:]]


async def test_a_sound_that_does_not_loop_ends(tmp_path: Path) -> None:
    mixer = await started(tmp_path, volume=0.5, loop=False)
    assert await mixed(mixer, 120) == [round(v / 2) for v in range(1000, 1100)] + [0] * 20
    assert await mixed(mixer, 10) == [0] * 10
    await mixer.process_frame(MixerUpdateSettingsFrame({"loop": True}))
    assert (await mixed(mixer, 10))[0] == 500


async def test_settings_change_the_sound_and_a_bad_one_is_only_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mixer = await started(tmp_path)
    settings = {"sound": "flat", "volume": 1.0, "loop": True, "nonsense": 1}
    await mixer.process_frame(MixerUpdateSettingsFrame(settings))
    assert await mixed(mixer, 60) == [500] * 60
    await mixer.process_frame(MixerUpdateSettingsFrame({"sound": "none", "volume": math.nan}))
    assert await mixed(mixer, 5) == [500] * 5
    await mixer.process_frame(MixerEnableFrame(False))
    assert await mixed(mixer, 5, 3) == [3] * 5
    assert "nonsense" in caplog.text


async def test_a_file_of_another_rate_is_heard_at_its_pitch(tmp_path: Path) -> None:
    path = sound(tmp_path / "slow.wav", [300] * 8_000, hz=8_000)
    mixer = SoundfileMixer(sound_files={"slow": path}, default_sound="slow", volume=1.0, loop=False)
    await mixer.start(HZ)
    heard = await mixed(mixer, 2 * HZ)
    assert sum(value > 200 for value in heard) == pytest.approx(HZ, abs=100)


async def test_what_cannot_be_loaded_is_logged_and_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "noise.wav").write_bytes(b"this is no sound" * 20)
    files = {"gone": str(tmp_path / "gone.wav"), "noise": str(tmp_path / "noise.wav")}
    mixer = SoundfileMixer(sound_files=files, default_sound="gone")
    await mixer.start(HZ)
    assert await mixed(mixer, 5, 3) == [3] * 5
    assert "gone" in caplog.text
    assert "noise" in caplog.text


def test_what_a_worker_is_told() -> None:
    mixer = SoundfileMixer(sound_files={"a": "a.wav"}, default_sound="a", mixing=False)
    assert (mixer.background.file, mixer.background.mixing) == ("a.wav", False)
    with pytest.raises(ConfigError):
        SoundfileMixer(sound_files={"a": "a.wav"}, default_sound="b")
