"""Sound files decoded in a process: as in this one, and whatever happens there stays there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from ipc.errors import ConfigError, StateError
from tests.fakes.audio import tone
from tests.fakes.sounds import write_sound
from tests.support import until
from workers.audio import sound
from workers.sound_loader import LoaderGone, SoundLoader
from workers.sounds import Sounds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path
    from typing import BinaryIO

DEADLINE_S = 30


@pytest.fixture
async def loader() -> AsyncIterator[SoundLoader]:
    loader = SoundLoader()
    yield loader
    loader.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    both = np.stack([tone(600, 22_050, hz=44_100), tone(900, 22_050, hz=44_100)], axis=1)
    return write_sound(tmp_path / "a.wav", both, hz=44_100, channels=2)


@contextlib.contextmanager
def endless() -> Iterator[BinaryIO]:
    """A file of which nothing comes: who decodes it does so until it is ended."""
    reading, writing = os.pipe()
    try:
        with os.fdopen(reading, "rb") as file:
            yield file
    finally:
        os.close(writing)


@pytest.mark.parametrize("channels", [1, 2])
async def test_it_gives_what_is_decoded_here(loader: SoundLoader, path: str, channels: int) -> None:
    for loop in (True, False):
        with sound.open_file(path) as file:
            found = await loader.load(file, path, 48_000, channels, loop=loop)
        here = sound.load(path, 48_000, channels, loop=loop)
        assert (found.hz, found.length) == (here.hz, here.length)
        assert np.array_equal(found.mono, here.mono)
        assert np.array_equal(found.samples(channels), here.samples(channels))
        assert (found.stereo is None) == (channels == 1)


async def test_what_cannot_be_played_is_refused_with_its_code_and_the_next_one_plays(
    loader: SoundLoader, path: str, tmp_path: Path
) -> None:
    broken = tmp_path / "words.wav"
    broken.write_text("these are no samples")
    with sound.open_file(str(broken)) as file, pytest.raises(ConfigError) as raised:
        await loader.load(file, str(broken), 48_000, 1, loop=True)
    assert raised.value.code == "sound_unreadable"
    assert "words.wav" in str(raised.value)
    with sound.open_file(path) as file:
        assert (await loader.load(file, path, 48_000, 1, loop=False)).length == 24_000


async def test_a_decoder_that_breaks_down_takes_nobody_with_it(
    loader: SoundLoader, path: str
) -> None:
    process = psutil.Process(loader._process.pid)
    with endless() as file:
        loading = asyncio.create_task(loader.load(file, path, 48_000, 1, loop=True))
        await until(process.children, DEADLINE_S, what="its child")
        for child in process.children():
            child.send_signal(signal.SIGSEGV)
        with pytest.raises(ConfigError) as raised:
            await loading
    assert raised.value.code == "sound_unreadable"
    with sound.open_file(path) as file:
        assert (await loader.load(file, path, 48_000, 1, loop=False)).length == 24_000


async def test_what_nobody_waits_for_any_more_breaks_off(loader: SoundLoader, path: str) -> None:
    process = psutil.Process(loader._process.pid)
    with endless() as never, sound.open_file(path) as file:
        loading = asyncio.create_task(loader.load(never, path, 48_000, 1, loop=True))
        await until(process.children, DEADLINE_S, what="its child")
        loading.cancel()
        found = await loader.load(file, path, 48_000, 1, loop=False)
    assert found.length == 24_000
    assert loading.cancelled()


async def test_its_end_ends_what_it_works_on(path: str) -> None:
    loader = SoundLoader()
    process = psutil.Process(loader._process.pid)
    with endless() as file:
        loading = asyncio.create_task(loader.load(file, path, 48_000, 1, loop=True))
        await until(process.children, DEADLINE_S, what="its child")
        loader.close()
        with pytest.raises(LoaderGone):
            await loading
    assert not process.is_running()


async def test_when_the_process_is_gone_sounds_are_decoded_all_the_same(
    loader: SoundLoader, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    sounds = Sounds(loader)
    os.kill(loader._process.pid, signal.SIGKILL)
    found = await sounds.load(path, 48_000, 1, loop=True)
    assert found.hz == 48_000
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert await sounds.load(path, 48_000, 1, loop=True) is found
    sounds.close()
    with pytest.raises(StateError):
        await sounds.load(path, 48_000, 1, loop=True)


async def test_sessions_share_what_was_decoded_there(loader: SoundLoader, path: str) -> None:
    sounds = Sounds(loader)
    first, second = await asyncio.gather(
        *(sounds.load(path, 48_000, 1, loop=True) for _ in range(2))
    )
    assert first is second
    sounds.close()
