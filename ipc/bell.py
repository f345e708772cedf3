"""The bell: one coalesced wake-up per bot process.

The bot binds a Unix datagram socket, every worker that serves it sends there; any number of
rings between two looks is one. A ring carries nothing: the bot looks at the cursors of all its
sessions. One that cannot be delivered is lost without harm, as the next one means the same.

No ZeroMQ socket, because a ring is only worth its wake-up: those go through an I/O thread on
either side, which costs several times as much CPU as the wake-up itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import socket
from typing import TYPE_CHECKING

from ipc.errors import ConfigError
from ipc.sockets import check_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME_PATTERN = re.compile(r"bell-[0-9a-f]{8,16}")
RING = b"\0"
# Rings that are taken in one look; a kernel keeps fewer than that for one socket by default.
MAX_PENDING = 64


def new_name() -> str:
    """A file name for a bell in the runtime directory."""
    return f"bell-{secrets.token_hex(6)}"


def path_of(directory: Path, name: str) -> Path:
    """Where the bell of this name lives. Refuses names that would leave the directory."""
    if not NAME_PATTERN.fullmatch(name):
        raise ConfigError(f"{name!r} is not the name of a bell", code="bell_name")
    return directory / name


def _open() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock


class Bell:
    """The bot's end: calls `on_ring` on the running loop."""

    def __init__(self, path: Path, on_ring: Callable[[], None]) -> None:
        """Raises ConfigError for a path that cannot be bound."""
        check_endpoint(f"ipc://{path}")
        self._path = path
        self._on_ring = on_ring
        self._loop = asyncio.get_running_loop()
        self._socket = _open()
        try:
            self._socket.bind(str(path))
        except OSError as error:
            self._socket.close()
            raise ConfigError(f"{path}: {error}", code="endpoint") from error
        self._loop.add_reader(self._socket.fileno(), self._heard)

    def close(self) -> None:
        """Stop listening and remove the socket's file. Idempotent."""
        if self._socket.fileno() < 0:
            return
        with contextlib.suppress(RuntimeError):  # the loop may be closed already
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def _heard(self) -> None:
        # Rings that piled up while the bot was busy are one: there is only one look for them.
        with contextlib.suppress(BlockingIOError):
            for _ in range(MAX_PENDING):
                self._socket.recv(len(RING))
        self._on_ring()


class BellRope:
    """The worker's end of one bell, shared by all sessions of that bot process."""

    def __init__(self, path: Path, on_unused: Callable[[], None]) -> None:
        self._path = str(path)
        self._socket = _open()
        self._on_unused = on_unused
        self._users = 0
        self.due = self.waiting = False
        self.missed = 0

    def pull(self) -> None:
        """Ring at the next `BellRopes.ring`, once, however often it is pulled until then."""
        self.due = True

    def pull_later(self) -> None:
        """Ring with the next bell, or at the latest at the next `ring` of all that wait."""
        self.waiting = True

    def hold(self) -> BellRope:
        """One more session uses it."""
        self._users += 1
        return self

    def let_go(self) -> None:
        """A session does not use it any more."""
        self._users -= 1
        if self._users == 0:
            self._on_unused()
            self._socket.close()

    def ring(self) -> None:
        """Ring now. Never blocks; a bot that is not there misses it."""
        self.due = self.waiting = False
        try:
            self._socket.send(RING)
        except BlockingIOError:
            pass  # rings are pending there: one more would say nothing new
        except OSError:  # not connected yet, or to a bot that has gone
            self._reach()

    def _reach(self) -> None:
        try:
            self._socket.connect(self._path)
            self._socket.send(RING)
        except OSError:
            self.missed += 1


class BellRopes:
    """The worker's ends of all bells in one runtime directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ropes: dict[str, BellRope] = {}

    def take(self, name: str) -> BellRope:
        """The rope of that bell, for one more session. Raises ConfigError for a bad name."""
        rope = self._ropes.get(name)
        if rope is None:
            path = path_of(self._directory, name)
            rope = self._ropes[name] = BellRope(path, lambda: self._forget(name))
        return rope.hold()

    def ring(self, *, waiting: bool = False) -> None:
        """Ring the bells whose rope was pulled, with `waiting` also those that could wait."""
        for rope in self._ropes.values():
            if rope.due or (waiting and rope.waiting):
                rope.ring()

    def _forget(self, name: str) -> None:
        del self._ropes[name]
