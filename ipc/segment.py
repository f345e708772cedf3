"""One shared-memory segment: created by a worker, attached by a bot, then nameless.

Wraps `multiprocessing.shared_memory` so that no resource tracker ever sees a segment (it
would unlink a live one when an unrelated process that merely attached exits) and so that a
full /dev/shm is an error at creation, never a SIGBUS later. The creator unlinks the name as
soon as the other side has attached: whatever crashes then, nothing is left behind.
"""

from __future__ import annotations

import _posixshmem  # type: ignore[import-not-found]  # the standard library's, has no stubs
import contextlib
import errno
import mmap
import os
import re
import secrets
import sys
from multiprocessing import shared_memory
from pathlib import Path
from typing import TYPE_CHECKING

from ipc.errors import ConfigError, Overloaded, RingClosed, RingError

if TYPE_CHECKING:
    from collections.abc import Callable

SHM_DIR = Path("/dev/shm")
NAME_PATTERN = re.compile(r"bb[0-9a-f]{8}[0-9a-f]{10}")
PAGE_BYTES = mmap.PAGESIZE

if sys.version_info >= (3, 13):

    class _Untracked(shared_memory.SharedMemory):
        def __init__(self, name: str, create: bool, size: int) -> None:
            super().__init__(name, create=create, size=size, track=False)

else:

    class _Untracked(shared_memory.SharedMemory):
        """`SharedMemory` without its tracker, which only Python 3.13 can leave out."""

        def __init__(self, name: str, create: bool, size: int) -> None:
            flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0)
            self._name = "/" + name
            self._fd = _posixshmem.shm_open(self._name, flags, mode=0o600)
            try:
                if create:
                    os.ftruncate(self._fd, size)
                self._size = os.fstat(self._fd).st_size
                self._mmap = mmap.mmap(self._fd, self._size)
            except BaseException:
                os.close(self._fd)
                self._fd = -1
                if create:
                    _posixshmem.shm_unlink(self._name)
                raise
            self._buf = memoryview(self._mmap)

        def unlink(self) -> None:
            _posixshmem.shm_unlink(self._name)


def new_name(engine_id: str) -> str:
    """A fresh segment name for an engine: `bb`, its 8 hex digits, 10 random ones.

    21 characters with the slash fit the 31 bytes that macOS allows.
    """
    return f"bb{engine_id}{secrets.token_hex(5)}"


class Segment:
    """A mapped segment. Its owner calls `close`; the creator also calls `unlink`."""

    def __init__(self, memory: shared_memory.SharedMemory, name: str) -> None:
        self.name = name
        self._memory: shared_memory.SharedMemory | None = memory
        self._remove_name: Callable[[], None] | None = None

    @classmethod
    def create(cls, name: str, size_bytes: int) -> Segment:
        """Make a zeroed segment of at least `size_bytes`, mode 0600, all of it backed by memory.

        Raises Overloaded(`shm_full`) when /dev/shm has no room.
        """
        _check_name(name)
        try:
            memory = _Untracked(name, True, size_bytes)
        except FileExistsError:
            raise RingError(f"segment {name} exists already", code="segment_exists") from None
        except OSError as error:
            raise _creation_error(error, size_bytes) from error
        segment = cls(memory, name)
        segment._remove_name = memory.unlink
        try:
            _reserve(memory, size_bytes)
        except OSError as error:
            segment.unlink()
            segment.close()
            raise _creation_error(error, size_bytes) from error
        return segment

    @classmethod
    def attach(cls, name: str) -> Segment:
        """Map an existing segment. Raises RingError: `segment_missing` or `segment_unavailable`."""
        _check_name(name)
        try:
            return cls(_Untracked(name, False, 0), name)
        except (FileNotFoundError, ValueError) as error:
            raise RingError(
                f"segment {name} does not exist any more", code="segment_missing"
            ) from error
        except OSError as error:
            raise RingError(
                f"segment {name} cannot be mapped: {error}", code="segment_unavailable"
            ) from error

    @property
    def buffer(self) -> memoryview:
        """The mapped bytes. Views of it must be released before `close`."""
        if self._memory is None:
            raise RingClosed(f"segment {self.name} is closed")
        return _bytes_of(self._memory)

    def unlink(self) -> None:
        """Remove the name; mappings stay valid. Safe to call twice, and after `close`."""
        remove_name, self._remove_name = self._remove_name, None
        if remove_name is not None:
            with contextlib.suppress(FileNotFoundError):
                remove_name()

    def close(self) -> None:
        """Unmap. With views still held outside, the mapping lasts until they are gone."""
        memory, self._memory = self._memory, None
        if memory is None:
            return
        try:
            memory.close()
        except BufferError:
            # A bot keeps a zero-copy view. SharedMemory's destructor would print the same
            # error again at exit; the views keep the pages mapped, which is what is wanted.
            memory.close = lambda: None  # type: ignore[method-assign]
            os.close(memory._fd)  # type: ignore[attr-defined]  # it gave up before its own


def _bytes_of(memory: shared_memory.SharedMemory) -> memoryview:
    if memory.buf is None:  # only after close
        raise RingClosed("the segment is closed")
    return memory.buf


def _check_name(name: str) -> None:
    if not NAME_PATTERN.fullmatch(name):
        raise ConfigError(f"{name!r} is not a segment name", code="segment_name")


def _reserve(memory: shared_memory.SharedMemory, size_bytes: int) -> None:
    fd: int = memory._fd  # type: ignore[attr-defined]  # the only way to its descriptor
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size_bytes)
        return
    # macOS has no posix_fallocate; touching each page commits it there.
    for offset in range(0, size_bytes, PAGE_BYTES):
        _bytes_of(memory)[offset] = 0


def _creation_error(error: OSError, size_bytes: int) -> Overloaded:
    if error.errno in (errno.ENOSPC, errno.ENOMEM):
        return Overloaded(
            f"shared memory is full: {size_bytes} bytes do not fit in {SHM_DIR}; "
            "enlarge it (docker: --shm-size) or run fewer sessions",
            code="shm_full",
        )
    return Overloaded(f"shared memory segment cannot be made: {error}", code="shm_unavailable")


def names_of(engine_id: str) -> list[str]:
    """The segment names that an engine has in the file system now (Linux; else none)."""
    if not SHM_DIR.is_dir():
        return []
    prefix = f"bb{engine_id}"
    return sorted(path.name for path in SHM_DIR.iterdir() if path.name.startswith(prefix))


def unlink_name(name: str) -> None:
    """Remove a name that a dead process left. Safe when it is gone."""
    if NAME_PATTERN.fullmatch(name):
        with contextlib.suppress(FileNotFoundError):
            _posixshmem.shm_unlink("/" + name)
