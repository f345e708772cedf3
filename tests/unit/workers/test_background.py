"""A session's background: asked for at any time, refused in time, carried from ring to ring."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from ipc.codec import Codec
from ipc.errors import ConfigError, StateError
from ipc.messages import Configure
from ipc.sound_file import SoundFile
from ipc.wire import Unreadable, decode, encode
from tests.fakes.audio import tone
from tests.fakes.rings import rings
from tests.fakes.sounds import write_sound
from tests.support import until
from workers.background import Background
from workers.sounds import Sounds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.audio.mixer import Mixer


@pytest.fixture
def sounds() -> Iterator[Sounds]:
    sounds = Sounds()
    yield sounds
    sounds.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return write_sound(tmp_path / "a.wav", tone(600, 44_100, hz=44_100), hz=44_100)


def mixed(background: Background, hz: int = 48_000) -> bool:
    """Whether a frame of that rate has something of it."""
    mixer = cast("Mixer", background.mixer)
    work = np.zeros(hz // 50, np.int16)
    if mixer.sounds(hz):
        mixer.mix(work, 1, speaking=False)
    return bool(work.any())


async def test_sessions_share_the_samples_of_a_file_as_long_as_one_plays_it(
    sounds: Sounds, path: str
) -> None:
    first = await sounds.load(path, 16_000, 1, loop=True)
    second = await sounds.load(path, 16_000, 1, loop=True)
    other = await sounds.load(path, 48_000, 1, loop=True)
    assert first is second
    assert other is not first
    gone = [weakref.ref(first), weakref.ref(other)]
    del first, second, other
    gc.collect()
    await until(lambda: not any(found() for found in gone), what="the end of the samples")


async def test_a_worker_that_ends_loads_nothing_more(sounds: Sounds, path: str) -> None:
    sounds.close()
    with pytest.raises(StateError):
        await sounds.load(path, 16_000, 1, loop=True)


async def test_what_is_asked_for_before_there_are_rings_plays_at_their_rate(
    sounds: Sounds, path: str
) -> None:
    background = Background(sounds)
    assert background.mixer is None, "a session without one has nothing of it"
    await background.play(SoundFile(path=path))
    ring, _ = rings(16_000)
    await background.fit(ring)
    assert mixed(background, 16_000)
    assert not mixed(background, 48_000)


async def test_a_refused_file_changes_nothing(sounds: Sounds, path: str) -> None:
    background = Background(sounds)
    with pytest.raises(ConfigError):
        await background.play(SoundFile(path=path + ".not"))
    assert background.mixer is None
    await background.play(SoundFile(path=path))
    with pytest.raises(ConfigError):
        await background.play(SoundFile(path=path + ".not"))
    assert mixed(background)


async def test_the_next_bots_rings_go_on_where_it_stands(sounds: Sounds, path: str) -> None:
    background = Background(sounds)
    await background.play(SoundFile(path=path, volume=1.0))
    for _ in range(10):
        mixed(background)
    mixer = background.mixer
    ring, _ = rings(24_000)
    await background.fit(ring)
    assert background.mixer is mixer
    assert mixer is not None
    assert mixer.position == 10 * 480
    assert mixed(background, 24_000)


async def test_a_file_that_has_gone_when_rings_change_ends_the_background_alone(
    sounds: Sounds, tmp_path: Path, path: str
) -> None:
    background = Background(sounds)
    await background.play(SoundFile(path=path))
    mixed(background)
    (tmp_path / "a.wav").unlink()
    ring, _ = rings(16_000)
    await background.fit(ring)
    assert not mixed(background, 16_000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": ""},
        {"path": "a\0b"},
        {"path": "x" * 5_000},
        {"volume": -0.1},
        {"volume": 4.1},
        {"volume": float("nan")},
        {"volume": True},
        {"volume": "loud"},
        {"loop": 1},
        {"mixing": None},
    ],
)
def test_settings_that_cannot_be_are_refused_with_a_code(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        SoundFile(**{"path": "a.wav", **wrong})  # type: ignore[arg-type]  # on purpose
    assert caught.value.code == "mixer"


@pytest.mark.parametrize(
    "message",
    [
        Configure(session="s_1"),
        Configure(session="s_1", mixer=None),
        Configure(session="s_1", codec=Codec(silence=False)),
        Configure(session="s_1", mixer=SoundFile(path="/a.wav", volume=1.5, loop=False)),
    ],
)
def test_nothing_none_and_a_sound_are_three_things_on_the_wire(message: Configure) -> None:
    found = decode(encode(message)).message
    assert found == message
    assert isinstance(found, Configure)
    assert found.mixer is message.mixer or isinstance(found.mixer, SoundFile)


def test_a_message_with_settings_that_cannot_be_answers_with_the_code() -> None:
    data = encode(Configure(session="s_1", mixer=SoundFile(path="/a.wav", volume=1)), request=7)
    wrong = data.replace(b"\xa6volume\x01", b"\xa6volume\xff")
    assert wrong != data
    with pytest.raises(Unreadable) as caught:
        decode(wrong)
    assert (caught.value.error.code, caught.value.request) == ("mixer", 7)
