"""A child process that ends with us, and whose end we notice at once.

Started with `subprocess` (multiprocessing's start methods would import the user's program
again). One socket pair is the sign of life both ways: the kernel closes each end with its
process, so no child watcher and no polling is needed on any platform.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

log = structlog.get_logger(__name__)

REAP_INTERVAL_S = 0.005
REAP_DEADLINE_S = 1.0
KILL_DEADLINE_S = 2.0


class Child:
    """A running child process. Its owner awaits `end`."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        on_exit: Callable[[Child], None],
        secret: str = "",
        cwd: Path | None = None,
        inherit: Sequence[int] = (),
    ) -> None:
        """Start `arguments` with `--life FD` added and `secret` as its first line of input.

        It inherits the descriptors `inherit`, under the same numbers.
        """
        self.name = name
        self.returncode: int | None = None
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._exited = asyncio.Event()
        self._reaping_since = 0.0
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            self._process = subprocess.Popen(
                [*arguments, "--life", str(theirs.fileno())],
                stdin=subprocess.PIPE,
                pass_fds=[theirs.fileno(), *inherit],
                start_new_session=True,
                cwd=cwd,
            )
            undo.pop_all()
        ours.setblocking(False)
        self._life = ours
        self._loop.add_reader(ours, self._life_changed)
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - asked for above
        with contextlib.suppress(BrokenPipeError), stdin:
            stdin.write(secret.encode() + b"\n")

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def kill(self) -> None:
        """End it now; `on_exit` follows."""
        with contextlib.suppress(ProcessLookupError):
            if self.returncode is None:
                os.kill(self.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Ask it to end, wait, and insist after a deadline."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            try:
                async with asyncio.timeout(KILL_DEADLINE_S):
                    await self._exited.wait()
            except TimeoutError:
                log.warning("child_killed", name=self.name, pid=self.pid)
                self.kill()
                await self._exited.wait()

    def _life_changed(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            if self._life.recv(64):
                return  # nobody writes there; only its end means something
        self._loop.remove_reader(self._life)
        self._life.close()
        self._reaping_since = self._loop.time()
        self._reap()

    def _reap(self) -> None:
        # The descriptor closes a moment before the process can be waited for.
        self.returncode = self._process.poll()
        if self.returncode is None:
            if self._loop.time() - self._reaping_since > REAP_DEADLINE_S:
                self._process.kill()
            self._loop.call_later(REAP_INTERVAL_S, self._reap)
            return
        self._exited.set()
        self._on_exit(self)
