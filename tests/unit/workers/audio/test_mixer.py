"""The background under speech: levels, loops, ramps, and frames that are taken back."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.fakes.audio import FRAME, level_db, pitch_hz, tone
from tests.fakes.sounds import clicks_db
from workers.audio.mixer import Mixer
from workers.audio.sound import Sound

if TYPE_CHECKING:
    from tests.fakes.audio import Samples

HZ = 48_000


def sound(hertz: float = 900, count: int = HZ, db: float = -20) -> Sound:
    return Sound(HZ, tone(hertz, count, db=db))


def playing(volume: float = 1.0, *, loop: bool = True, of: Sound | None = None) -> Mixer:
    mixer = Mixer()
    mixer.play(of or sound(), volume=volume, loop=loop)
    assert mixer.sounds(HZ)
    return mixer


def run(mixer: Mixer, frames: int, speech: Samples | None = None) -> Samples:
    """So many frames as they would be encoded, over speech or over nothing."""
    heard = []
    for number in range(frames):
        work = np.full(FRAME, 12_345, np.int16)
        if speech is not None:
            work[:] = speech[number * FRAME : (number + 1) * FRAME]
        mixer.sounds(HZ)
        mixer.mix(work, 1, speaking=speech is not None)
        heard.append(work)
    return np.concatenate(heard)


def test_the_background_alone_has_its_level_and_begins_with_a_ramp() -> None:
    heard = run(playing(0.5), 50)
    assert abs(level_db(heard[FRAME:]) + 26) < 0.1
    assert abs(pitch_hz(heard[FRAME:]) - 900) < 1
    assert level_db(heard[:48]) < -50
    assert clicks_db(heard) < -80


def test_speech_and_background_are_summed_and_the_sum_saturates() -> None:
    loud = tone(900, HZ, db=0)
    mixer = playing(of=Sound(HZ, loud))
    run(mixer, 1)
    heard = run(mixer, 5, loud[FRAME : 6 * FRAME])
    assert (heard.max(), heard.min()) == (32_767, -32_768)
    # In phase: where the sum fits it is the double, and nowhere does it wrap around.
    wanted = np.clip(2 * loud[FRAME : 6 * FRAME].astype(np.int32), -32_768, 32_767)
    assert np.abs(heard - wanted).max() <= 1


def test_a_loop_goes_round_without_a_seam() -> None:
    mixer = playing(of=sound(count=HZ // 4))
    run(mixer, 1)
    heard = run(mixer, 60)
    # 1000 samples to a side of the seam: whole periods of 900 Hz, so nothing tells it.
    assert np.abs(heard - tone(900, 60 * FRAME, start=FRAME, db=-20)).max() <= 1


def test_a_sound_shorter_than_a_frame_loops_within_it() -> None:
    mixer = playing(of=sound(1_000, count=480))
    run(mixer, 1)
    assert np.abs(run(mixer, 3) - tone(1_000, 3 * FRAME, db=-20)).max() <= 1


def test_a_sound_that_plays_once_ends_and_then_nothing_sounds() -> None:
    short = sound(count=2 * FRAME + 100)
    mixer = playing(of=short, loop=False)
    heard = run(mixer, 3)
    assert level_db(heard[2 * FRAME + 100 :]) == -200
    assert not mixer.sounds(HZ)
    mixer.go_on(short, volume=1, loop=False)
    assert mixer.sounds(HZ), "asked for again it begins again"
    assert mixer.position == 0


def test_changes_of_volume_are_ramped() -> None:
    mixer = playing(0.1)
    run(mixer, 5)
    same = sound()
    mixer.go_on(same, volume=1.0, loop=True)
    heard = run(mixer, 25)
    assert abs(level_db(heard[FRAME:]) + 20) < 0.1
    assert clicks_db(heard) < -75
    mixer.go_on(same, volume=0.0, loop=True)
    before = mixer.position
    heard = run(mixer, 1)
    assert level_db(heard[-48:]) < -45
    assert not mixer.sounds(HZ), "what is silent costs nothing"
    assert mixer.position == before + FRAME


def test_without_mixing_it_stands_still_and_goes_on_from_there() -> None:
    mixer = playing()
    run(mixer, 10)
    same = sound()
    mixer.go_on(same, volume=0.0, loop=True)
    run(mixer, 1)
    assert not mixer.sounds(HZ)
    stands = mixer.position
    mixer.go_on(same, volume=1.0, loop=True)
    assert mixer.sounds(HZ)
    assert mixer.position == stands == 11 * FRAME


def test_another_sound_takes_over_behind_a_fade() -> None:
    mixer = playing()
    run(mixer, 10)
    mixer.play(sound(1_500), volume=1.0, loop=True)
    heard = run(mixer, 27)
    assert clicks_db(heard) < -75
    assert level_db(heard[FRAME - 24 : FRAME + 24]) < -45
    assert abs(pitch_hz(heard[2 * FRAME :]) - 1_500) < 2
    assert mixer.position == 26 * FRAME


def test_no_sound_any_more_fades_and_ends() -> None:
    mixer = playing()
    run(mixer, 10)
    mixer.play(None)
    assert mixer.sounds(HZ)
    assert level_db(run(mixer, 1)[-48:]) < -45
    assert not mixer.sounds(HZ)


def test_a_frame_that_does_not_leave_is_taken_back() -> None:
    mixer = playing()
    run(mixer, 5)
    speech = tone(440, 5 * FRAME, db=-12)
    run(mixer, 4, speech)
    run(mixer, 1, tone(440, FRAME, start=4 * FRAME, db=-12))
    mixer.undo()
    mixer.undo()  # only the newest one
    assert mixer.position == 9 * FRAME
    heard = run(mixer, 5)
    under = tone(900, 5 * FRAME, start=9 * FRAME, db=-20)
    assert np.abs(heard[FRAME:] - under[FRAME:]).max() <= 1
    # What the speech left behind is its last 2.5 ms once more, backwards and fading.
    rest = heard[:120].astype(np.int32) - under[:120]
    tail = speech[4 * FRAME - 120 : 4 * FRAME][::-1] * np.linspace(1, 0, 120, endpoint=False)
    assert np.abs(rest - tail).max() <= 2
    assert np.abs(heard[120:FRAME] - under[120:FRAME]).max() <= 1


def test_volume_that_changes_under_a_frame_that_is_taken_back_still_holds() -> None:
    mixer = playing(0.5)
    run(mixer, 5)
    mixer.go_on(sound(), volume=1.0, loop=True)
    mixer.undo()
    assert abs(level_db(run(mixer, 10)[FRAME:]) + 20) < 0.1


@pytest.mark.parametrize("channels", [1, 2])
def test_stereo_keeps_its_sides_and_is_mono_for_those_who_play_mono(channels: int) -> None:
    left, right = tone(900, HZ, db=-20), tone(1_500, HZ, db=-26)
    stereo = np.stack([left, right], axis=1).reshape(-1)
    mixer = playing(of=Sound(HZ, left, stereo))
    frames = []
    for _ in range(20):
        work = np.zeros(FRAME * channels, np.int16)
        mixer.mix(work, channels, speaking=False)
        frames.append(work)
    heard = np.concatenate(frames)[FRAME * channels :].reshape(-1, channels)
    assert abs(pitch_hz(heard[:, 0]) - 900) < 2
    if channels == 2:
        assert abs(pitch_hz(heard[:, 1]) - 1_500) < 2
        assert abs(level_db(heard[:, 1]) + 26) < 0.1


def test_a_sound_of_another_rate_is_left_alone_until_one_fits() -> None:
    mixer = playing()
    run(mixer, 5)
    assert not mixer.sounds(16_000)
    mixer.go_on(Sound(16_000, tone(900, 16_000, hz=16_000)), volume=1.0, loop=True)
    assert mixer.sounds(16_000)
    assert mixer.position == 5 * 320


def test_frames_cost_no_memory() -> None:
    mixer = playing(0.5)
    work = np.zeros(FRAME, np.int16)
    speech = np.zeros(FRAME, np.int16)
    mixer.mix(work, 1, speaking=True)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for number in range(200):
            work[:] = speech
            mixer.mix(work, 1, speaking=number % 2 == 0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Views and numbers, and what numpy needs of its own for a slice.
    assert peak - before < FRAME * work.itemsize, "not even one frame at a time"
