"""Helpers of every kind of test: waiting without sleeping, a sample for every cursor, leaks.

`pattern` gives each cursor its own sample, so that a reader can tell from the bytes alone
which samples it holds. `Leaks` is what `conftest` asks after each test.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import stat
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from ipc import segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
LEAK_VARIABLE = "LEAK_CHECK_TEST"
LEAK_DEADLINE_S = 20.0
# Long, as only a test that waits in vain is slowed by it, and a machine may stand still.
DEADLINE_S = 30.0
# Of what we notice in 5 s, and a library that we build on only in 30.
SOON_S = 20.0
POLL_S = 0.001
LONGEST_POLL_S = 0.01
POLL_GROWTH = 1.1
# pytest-timeout, xdist (execnet) and the loop's own executor keep threads of their own.
HARNESS_THREADS = ("MainThread", "pytest_timeout", "execnet", "Dummy-", "asyncio_")

_test_numbers = itertools.count(1)
# Of engines that outlive a test on purpose (`tests.fakes.shared_serve`).
shared_processes: set[int] = set()


async def until(
    condition: Callable[[], object], timeout_s: float = DEADLINE_S, *, what: str = "the condition"
) -> None:
    """Let the loop turn until `condition()` is true; AssertionError after `timeout_s`.

    It is looked at ever more rarely, so that a long wait does not take the time of what it is for.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    pause_s = POLL_S
    while not condition():
        if loop.time() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_s:g} s")
        turned = asyncio.Event()
        timer = loop.call_later(pause_s, turned.set)
        pause_s = min(pause_s * POLL_GROWTH, LONGEST_POLL_S)
        try:
            await turned.wait()
        finally:
            timer.cancel()


async def turn() -> None:
    """Let the loop turn once: whatever is ready runs."""
    turned: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    await turned


def reaches(read: Callable[[], int], wanted: int) -> Callable[[], bool]:
    """The condition that `read()` is `wanted` or more."""
    return lambda: read() >= wanted


def wait_until(
    condition: Callable[[], object], timeout_s: float = DEADLINE_S, *, what: str = "the condition"
) -> None:
    """`until` for code without a loop."""
    deadline = time.monotonic() + timeout_s
    pause, pause_s = threading.Event(), POLL_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_s:g} s")
        pause.wait(pause_s)
        pause_s = min(pause_s * POLL_GROWTH, LONGEST_POLL_S)


@contextlib.contextmanager
def standing_still() -> Iterator[list[float]]:
    """Each time of 0.1 s or more in which nothing ran here, in s: what real time owes nobody."""
    still: list[float] = []
    done = threading.Event()

    def watch() -> None:
        last_s = time.monotonic()
        while not done.wait(LONGEST_POLL_S):
            now_s = time.monotonic()
            if now_s - last_s >= 0.1:
                still.append(now_s - last_s)
            last_s = now_s

    watching = threading.Thread(target=watch, name="standing still", daemon=True)
    watching.start()
    try:
        yield still
    finally:
        done.set()
        watching.join()


def pattern(cursor: int, count: int, channels: int = 1) -> bytes:
    """`count` samples from `cursor` on: each is a hash of its whole 64-bit cursor and channel."""
    places = np.arange(count, dtype=np.uint64) + np.uint64(cursor)
    mixed = places * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    left = (mixed >> np.uint64(48)).astype(np.uint16)
    if channels == 1:
        return left.tobytes()
    right = (mixed >> np.uint64(32)).astype(np.uint16)
    return np.stack((left, right), axis=1).tobytes()


def pcm(cursor: int, count: int, channels: int = 1) -> memoryview:
    """`pattern` as the rings take it."""
    return memoryview(pattern(cursor, count, channels))


class LoopErrors:
    """What reached the loop's exception handler: exceptions that escaped a callback."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        asyncio.get_running_loop().set_exception_handler(self._handle)

    def _handle(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.seen.append(f"{context.get('message')}: {context.get('exception')!r}")


class Leaks:
    """What a test may leave behind, and whether it did.

    Processes are found as children of this one and by a variable in the environment, which
    also an orphan has inherited. Shared memory and files are looked for only under the
    engine ids and directories that the test has registered, as other tests run beside it.
    """

    def __init__(self) -> None:
        self._mark = f"{os.getpid()}-{next(_test_numbers)}"
        self._engine_ids: set[str] = set()
        self._runtime_dirs: set[Path] = set()
        self._owned: list[Path] = []
        self._pids = set(psutil.pids())
        self._threads = set(threading.enumerate())
        self._before = os.environ.get(LEAK_VARIABLE)
        os.environ[LEAK_VARIABLE] = self._mark

    def watch_engine(self, engine_id: str) -> None:
        """No segment of this engine may be left."""
        self._engine_ids.add(engine_id)

    def watch_runtime_dir(self, path: Path) -> None:
        """No file but `lock` may be left below this directory."""
        self._runtime_dirs.add(path)

    def forget_runtime_dir(self, path: Path) -> None:
        """For a test that kills an engine and starts none after it, which would sweep."""
        self._runtime_dirs.discard(path)

    def make_runtime_dir(self) -> Path:
        """A watched directory with a path of at most 60 bytes, removed after the check."""
        path = Path(tempfile.mkdtemp(prefix="bb", dir=short_temporary()))
        self._owned.append(path)
        self.watch_runtime_dir(path)
        return path

    def left(self) -> list[str]:
        """A line for everything that is there now and was not before."""
        lines = [
            f"process {process.pid}: {_command(process)}" for process in self._processes().values()
        ]
        lines += [
            f"thread {thread.name!r}"
            for thread in threading.enumerate()
            if thread not in self._threads
            and thread.is_alive()
            and not thread.name.startswith(HARNESS_THREADS)
        ]
        for engine_id in sorted(self._engine_ids):
            lines += [f"shared memory {name}" for name in segment.names_of(engine_id)]
        for directory in sorted(self._runtime_dirs):
            lines += [_describe(path) for path in directory.rglob("*") if path.name != "lock"]
        return lines

    def finish(self) -> list[str]:
        """Wait until nothing is left, or for too long; clean up and return what was."""
        deadline = time.monotonic() + LEAK_DEADLINE_S
        pause = threading.Event()
        while (left := self.left()) and time.monotonic() < deadline:
            pause.wait(0.01)
        for process in self._processes().values() if left else ():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for engine_id in self._engine_ids:
            for name in segment.names_of(engine_id):
                segment.unlink_name(name)
        for path in self._owned:
            shutil.rmtree(path, ignore_errors=True)
        if self._before is None:
            os.environ.pop(LEAK_VARIABLE, None)
        else:
            os.environ[LEAK_VARIABLE] = self._before
        return left

    def _processes(self) -> dict[int, psutil.Process]:
        # Only what has started since is looked at: a look at every process of the machine, after
        # each of thousands of tests, would cost more than most of them do.
        started: dict[int, tuple[psutil.Process, int]] = {}
        for pid in set(psutil.pids()) - self._pids - shared_processes:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                started[pid] = process, process.ppid()
        ours, below = {os.getpid()}, {os.getpid()}
        while below:
            below = {pid for pid, (_, parent) in started.items() if parent in below} - ours
            ours |= below
        mark = f"{LEAK_VARIABLE}={self._mark}".encode()
        return {
            pid: process
            for pid, (process, _) in started.items()
            if (pid in ours or _is_marked(pid, mark)) and _alive(process)
        }


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:200]
    except psutil.Error:
        return "gone meanwhile"


def _is_marked(pid: int, mark: bytes) -> bool:
    """Whether a process was started with this setting in its environment (Linux; else False)."""
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _describe(path: Path) -> str:
    with contextlib.suppress(OSError):
        mode = path.lstat().st_mode
        if stat.S_ISSOCK(mode):
            return f"socket {path}"
        if stat.S_ISDIR(mode):
            return f"directory {path}"
    return f"file {path}"


def short_temporary() -> str:
    """A directory in which sockets may lie deep enough: their paths are short."""
    # macOS gives each user a temporary directory of almost 50 bytes; `bb` and 8 more must fit.
    directory = tempfile.gettempdir()
    return directory if len(os.fsencode(directory)) <= 40 else "/tmp"
