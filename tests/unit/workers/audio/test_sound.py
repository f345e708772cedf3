"""Sound files become samples at the speaker's rate, or a refusal with a code."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest

from ipc.errors import ConfigError
from tests.fakes.audio import HZ, Samples, level_db, pitch_hz, tone
from tests.fakes.sounds import clicks_db, write_sound
from workers.audio import sound


@pytest.mark.parametrize("file_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("hz", [8_000, 16_000, 48_000])
def test_any_rate_becomes_the_speakers_and_a_loop_has_no_seam(
    tmp_path: Path, file_hz: int, hz: int
) -> None:
    path = write_sound(tmp_path / "a.wav", tone(600, file_hz, hz=file_hz, db=-20), hz=file_hz)
    found = sound.load(path, hz, 1, loop=True)
    assert (found.hz, found.length, found.stereo) == (hz, hz, None)
    assert abs(pitch_hz(found.mono, hz) - 600) < 1
    assert abs(level_db(found.mono) + 20) < 0.1
    around = np.concatenate([found.mono[-hz // 2 :], found.mono[: hz // 2]])
    assert clicks_db(around, above_hz=2_000, hz=hz) < -75


def test_a_loop_that_was_cut_anywhere_does_not_click(tmp_path: Path) -> None:
    cut = tone(600, HZ // 2 + 37, db=-20)
    found = sound.load(write_sound(tmp_path / "a.wav", cut), HZ, 1, loop=True)
    harsh = clicks_db(np.concatenate([cut, cut]))
    assert clicks_db(np.concatenate([found.mono, found.mono])) < harsh - 15


def test_a_sound_that_plays_once_ends_softly(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", tone(600, HZ // 2 + 37, db=-20))
    found = sound.load(path, HZ, 1, loop=False)
    assert clicks_db(np.concatenate([found.mono, np.zeros(HZ // 4, np.int16)])) < -70
    assert abs(level_db(found.mono[: HZ // 4]) + 20) < 0.1


def test_channels_fit_the_speaker(tmp_path: Path) -> None:
    left, right = tone(600, HZ, db=-20), tone(1_200, HZ, db=-26)
    both = np.stack([left, right], axis=1)
    stereo_file = write_sound(tmp_path / "s.wav", both, channels=2)
    mono_file = write_sound(tmp_path / "m.wav", left)

    found = sound.load(stereo_file, HZ, 2, loop=False)
    assert found.stereo is not None
    assert np.abs(found.stereo.reshape(-1, 2)[:-480] - both[:-480]).max() <= 1
    mean = (left.astype(np.int32) + right) / 2
    assert np.abs(found.mono[:-480] - mean[:-480]).max() <= 1
    assert sound.load(stereo_file, HZ, 1, loop=True).stereo is None
    found = sound.load(mono_file, HZ, 2, loop=False)
    assert found.stereo is not None
    assert np.abs(found.stereo.reshape(-1, 2)[:-480, 1] - left[:-480]).max() <= 1


def encode(path: Path, codec: str, samples: Samples) -> str:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=HZ, layout="mono")
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = HZ
        for piece in av.AudioResampler(stream.format.name, "mono", HZ, 960).resample(frame):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return str(path)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.flac", "flac"), ("a.ogg", "libopus"), ("a.mp4", "aac")]
)
def test_compressed_files_play(tmp_path: Path, name: str, codec: str) -> None:
    path = encode(tmp_path / name, codec, tone(600, HZ, db=-20))
    found = sound.load(path, 24_000, 1, loop=True)
    assert abs(found.length - 24_000) < 2_400
    assert abs(pitch_hz(found.mono, 24_000) - 600) < 3
    assert abs(level_db(found.mono) + 20) < 1


def refusal(path: Path | str) -> str:
    with pytest.raises(ConfigError) as caught:
        sound.load(str(path), HZ, 1, loop=True)
    assert str(Path(path).name)[:20] in caught.value.message
    return caught.value.code


def test_files_that_cannot_be_played_are_refused_with_a_code(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.wav") == "sound_missing"
    assert refusal(tmp_path) == "sound_unreadable"
    (tmp_path / "text.wav").write_text("no sound at all, only words. " * 50)
    assert refusal(tmp_path / "text.wav") == "sound_unreadable"
    (tmp_path / "empty.wav").write_bytes(b"")
    assert refusal(tmp_path / "empty.wav") == "sound_unreadable"
    write_sound(tmp_path / "nothing.wav", np.zeros(0, np.int16))
    assert refusal(tmp_path / "nothing.wav") == "sound_unreadable"
    whole = Path(write_sound(tmp_path / "cut.wav", tone(600, HZ))).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[:30])
    assert refusal(tmp_path / "cut.wav") == "sound_unreadable"


def test_a_pipe_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    assert refusal(tmp_path / "pipe.wav") == "sound_unreadable"
    assert refusal("/dev/zero") == "sound_unreadable"


def test_a_playlist_reaches_nothing_else(tmp_path: Path) -> None:
    write_sound(tmp_path / "secret.wav", tone(600, HZ))
    (tmp_path / "list.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nsecret.wav\n#EXT-X-ENDLIST\n"
    )
    assert refusal(tmp_path / "list.m3u8") == "sound_unreadable"
    (tmp_path / "list.txt").write_text("ffconcat version 1.0\nfile secret.wav\n")
    assert refusal(tmp_path / "list.txt") == "sound_unreadable"


def test_what_is_too_long_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound, "MAX_SOUND_S", 1)
    path = write_sound(tmp_path / "long.wav", tone(600, HZ + 2_000))
    assert refusal(path) == "sound_too_long"
    monkeypatch.setattr(sound, "MAX_FILE_BYTES", 1_000)
    assert refusal(path) == "sound_too_long"


def test_a_worker_that_ends_does_not_decode_on(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", tone(600, HZ))
    with pytest.raises(ConfigError, match="the worker ends"):
        sound.load(path, HZ, 1, loop=True, stopped=lambda: True)
