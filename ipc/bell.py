"""The bell: one coalesced wake-up per bot process.

The bot binds a PULL socket, every worker that serves it connects a PUSH; both ends conflate,
so any number of rings between two looks is one message. It carries nothing: the bot looks at
the cursors of all its sessions. A bell that cannot be delivered is lost without harm, as the
next one means the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from typing import TYPE_CHECKING

import zmq

from ipc.errors import ConfigError
from ipc.sockets import Context, SocketReader, open_socket

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME_PATTERN = re.compile(r"bell-[0-9a-f]{8,16}")


def new_name() -> str:
    """A file name for a bell in the runtime directory."""
    return f"bell-{secrets.token_hex(6)}"


def path_of(directory: Path, name: str) -> Path:
    """Where the bell of this name lives. Refuses names that would leave the directory."""
    if not NAME_PATTERN.fullmatch(name):
        raise ConfigError(f"{name!r} is not the name of a bell", code="bell_name")
    return directory / name


class Bell:
    """The bot's end: calls `on_ring` on the running loop."""

    def __init__(self, context: Context, path: Path, on_ring: Callable[[], None]) -> None:
        self._path = path
        self._on_ring = on_ring
        self._socket = open_socket(context, zmq.PULL, bind=f"ipc://{path}", conflate=True)
        self._reader = SocketReader(self._socket, self._heard)

    def close(self) -> None:
        """Stop listening and remove the socket's file."""
        self._reader.close()
        self._socket.close(0)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def _heard(self, _frames: list[bytes]) -> None:
        self._on_ring()


class BellRope:
    """The worker's end of one bell, shared by all sessions of that bot process."""

    def __init__(self, context: Context, path: Path, on_unused: Callable[[], None]) -> None:
        self._socket = open_socket(context, zmq.PUSH, connect=f"ipc://{path}", conflate=True)
        self._on_unused = on_unused
        self._users = 0
        self._due = False
        self.waiting = False
        self.missed = 0

    def pull_later(self) -> None:
        """Ring with the next bell, or at the latest when `BellRopes.ring_waiting` is called."""
        self.waiting = True

    def pull(self) -> None:
        """Ring once this turn of the loop is over, however often it is pulled until then."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._ring)

    def hold(self) -> BellRope:
        """One more session uses it."""
        self._users += 1
        return self

    def let_go(self) -> None:
        """A session does not use it any more."""
        self._users -= 1
        if self._users == 0:
            self._on_unused()
            self._socket.close(0)

    def _ring(self) -> None:
        self._due = self.waiting = False
        if self._users == 0:
            return
        try:
            self._socket.send(b"", zmq.NOBLOCK)
        except zmq.Again:
            self.missed += 1


class BellRopes:
    """The worker's ends of all bells in one runtime directory."""

    def __init__(self, context: Context, directory: Path) -> None:
        self._context = context
        self._directory = directory
        self._ropes: dict[str, BellRope] = {}

    def take(self, name: str) -> BellRope:
        """The rope of that bell, for one more session. Raises ConfigError for a bad name."""
        rope = self._ropes.get(name)
        if rope is None:
            path = path_of(self._directory, name)
            rope = BellRope(self._context, path, lambda: self._forget(name))
            self._ropes[name] = rope
        return rope.hold()

    def ring_waiting(self) -> None:
        """Ring those bells that could wait until now."""
        for rope in self._ropes.values():
            if rope.waiting:
                rope.pull()

    def _forget(self, name: str) -> None:
        del self._ropes[name]
