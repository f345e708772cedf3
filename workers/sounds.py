"""The sound files of a worker's sessions: opened in a thread, decoded in a process beside the beat.

Sessions that play the same file at the same rate share its samples, which go with the last of
them. Thread and process are the worker's own and end with it. Without the process, the thread
decodes, too, at the expense of the beat.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ipc.errors import StateError
from workers.audio import sound
from workers.sound_loader import LoaderGone

if TYPE_CHECKING:
    from typing import BinaryIO

    from workers.audio.sound import Sound
    from workers.sound_loader import SoundLoader

# What a load is kept under: which file, as it was, and in what shape.
_Key = tuple[int, int, int, int, int, int, bool]


class Sounds:
    """Loads sounds. `close` ends a load that is under way."""

    def __init__(self, loader: SoundLoader | None = None) -> None:
        self._loader = loader
        self._executor: ThreadPoolExecutor | None = None
        self._shared: WeakValueDictionary[_Key, Sound] = WeakValueDictionary()
        self._closed = False

    async def load(self, path: str, hz: int, channels: int, *, loop: bool) -> Sound:
        """A file's samples for a speaker of that rate and 1 or 2 channels.

        Raises ConfigError: `sound_missing`, `sound_unreadable`, `sound_too_long`.
        """
        if self._closed:
            raise StateError("the worker ends", code="stopping")
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sounds")
        run = asyncio.get_running_loop().run_in_executor
        file, key = await run(self._executor, _open, path, hz, channels, loop)
        found = self._shared.get(key)
        if found is None and self._loader is not None:
            with contextlib.suppress(LoaderGone):
                found = await self._loader.load(file, path, hz, channels, loop=loop)
        if found is not None:
            file.close()
            return self._shared.setdefault(key, found)
        return await run(self._executor, self._load, file, key, path, hz, channels, loop)

    def _load(
        self, file: BinaryIO, key: _Key, path: str, hz: int, channels: int, loop: bool
    ) -> Sound:
        found = self._shared.get(key)
        if found is not None:  # somebody was quicker
            file.close()
            return found
        found = self._shared[key] = sound.load(
            path, hz, channels, loop=loop, file=file, stopped=lambda: self._closed
        )
        return found

    def close(self) -> None:
        """End thread and process; what they work on breaks off."""
        self._closed = True
        if self._loader is not None:
            self._loader.close()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)


def _open(path: str, hz: int, channels: int, loop: bool) -> tuple[BinaryIO, _Key]:
    """A file, and what its samples are kept under."""
    file = sound.open_file(path)
    info = os.fstat(file.fileno())
    return file, (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, hz, channels, loop)
