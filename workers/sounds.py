"""The sound files of a worker's sessions: opened and decoded in one thread beside the beat.

Sessions that play the same file at the same rate share its samples, which go with the last of
them. The thread is the worker's own and ends with it.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ipc.errors import StateError
from workers.audio import sound

if TYPE_CHECKING:
    from workers.audio.sound import Sound

# What a load is kept under: which file, as it was, and in what shape.
_Key = tuple[int, int, int, int, int, int, bool]


class Sounds:
    """Loads sounds. `close` ends a load that is under way."""

    def __init__(self) -> None:
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
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, self._load, path, hz, channels, loop
        )

    def _load(self, path: str, hz: int, channels: int, loop: bool) -> Sound:
        file = sound.open_file(path)
        info = os.fstat(file.fileno())
        key = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, hz, channels, loop)
        found = self._shared.get(key)
        if found is not None:
            file.close()
            return found
        found = self._shared[key] = sound.load(
            path, hz, channels, loop=loop, file=file, stopped=lambda: self._closed
        )
        return found

    def close(self) -> None:
        """End the thread; what it works on breaks off."""
        self._closed = True
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
