"""The runtime directory: where the processes of one engine find each other.

    <runtime dir>/            0700, below XDG_RUNTIME_DIR or the temporary directory
        lock                  held by the engine that serves here, for its whole life
        current               link to the instance that takes hellos
        <8 hex digits>/       one engine instance: its sockets and bells

Each instance has a directory of its own because libzmq silently takes over a live socket
path. What an engine that no longer holds the lock has left (directory, segment names) is
swept by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from pathlib import Path

from ipc import segment
from ipc.errors import ConfigError

MAX_PATH_BYTES = 60
LOCK_TRIES = 10
LOCK_RETRY_S = 0.01
FRESH_PREFIX = "backbeat-"
FRESH_PATTERN = re.compile(FRESH_PREFIX + "[0-9a-f]{12}")
ABANDONED_S = 60.0
ENGINE_ID_PATTERN = re.compile(r"[0-9a-f]{8}")


def default_path() -> Path:
    """BACKBEAT_RUNTIME_DIR, else `backbeat-<uid>` in XDG_RUNTIME_DIR or the temporary directory."""
    if given := os.environ.get("BACKBEAT_RUNTIME_DIR"):
        return Path(given)
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"backbeat-{os.getuid()}"


def fresh_path() -> Path:
    """A new directory of its own, for an engine that nobody has to find. Its maker removes it.

    What makers that were killed have left is removed now.
    """
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    name = f"{FRESH_PREFIX}{secrets.token_hex(6)}"
    if len(os.fsencode(base / name)) > MAX_PATH_BYTES:  # macOS has long ones
        base = Path("/tmp")
    for old in base.glob(f"{FRESH_PREFIX}*"):
        with contextlib.suppress(OSError, ConfigError):
            if FRESH_PATTERN.fullmatch(old.name) and _is_abandoned(old):
                RuntimeDir(old).close()  # sweeps it
                shutil.rmtree(old)
    made = base / name
    made.mkdir(mode=0o700)
    return made


def _is_abandoned(path: Path) -> bool:
    status = path.lstat()
    if status.st_uid != os.getuid() or time.time() - status.st_mtime < ABANDONED_S:
        return False  # a stranger's, or one whose maker has not taken its lock yet
    lock = path / "lock"
    return not (lock.exists() and _is_locked(lock))


def current_endpoint(path: Path | None = None) -> str | None:
    """The `bots` endpoint of the engine that serves here now, or None."""
    current = (path or default_path()) / "current"
    try:
        instance = Path(os.readlink(current))
        if not _is_locked(current.parent / "lock"):
            return None  # an engine that was killed could not take its link away
    except OSError:
        return None
    socket = current.parent / instance.name / "bots"
    return f"ipc://{socket}" if socket.exists() else None


def _is_locked(lock: Path) -> bool:
    descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


class RuntimeDir:
    """The directory as the engine holds it. `close` gives it back."""

    def __init__(self, path: Path | None = None) -> None:
        """Take the directory. Raises ConfigError when it is unfit or another engine serves."""
        self.path = path or default_path()
        if len(os.fsencode(self.path)) > MAX_PATH_BYTES:
            raise ConfigError(
                f"the runtime directory {self.path} is longer than {MAX_PATH_BYTES} bytes; "
                "choose a shorter one with --runtime-dir",
                code="runtime_dir",
            )
        self._prepare()
        self.engine_id = secrets.token_hex(4)
        self.instance = self.path / self.engine_id
        self._lock = -1
        try:
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._take_lock()
            self._sweep()
            self.instance.mkdir(mode=0o700)
        except OSError as error:
            self.close()
            raise ConfigError(
                f"the runtime directory {self.path} cannot be used: {error.strerror}",
                code="runtime_dir",
            ) from error
        except ConfigError:
            os.close(self._lock)
            raise

    def _take_lock(self) -> None:
        # A bot that looks whether the lock is held holds it itself for an instant.
        for _ in range(LOCK_TRIES):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(LOCK_RETRY_S)
            else:
                return
        raise ConfigError(
            f"another engine serves in {self.path}; end it, or choose another directory "
            "with --runtime-dir",
            code="runtime_dir_taken",
        )

    def publish(self) -> None:
        """Point `current` to this instance: bots may say hello."""
        link = self.path / f"current.{self.engine_id}"
        link.symlink_to(self.engine_id)
        link.replace(self.path / "current")

    def endpoint(self, name: str) -> str:
        """The endpoint of a socket of this instance."""
        return f"ipc://{self.instance / name}"

    def close(self) -> None:
        """Remove the instance and let the next engine in. Safe to call twice."""
        if self._lock < 0:
            return
        self._remove(self.engine_id)
        current = self.path / "current"
        with contextlib.suppress(OSError):
            if current.readlink().name == self.engine_id:
                current.unlink()
        os.close(self._lock)
        self._lock = -1

    def _prepare(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.path.lstat()
        except OSError as error:
            raise ConfigError(
                f"the runtime directory {self.path} cannot be made: {error.strerror}",
                code="runtime_dir",
            ) from error
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise ConfigError(
                f"the runtime directory {self.path} is not a directory of this user",
                code="runtime_dir",
            )
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise ConfigError(
                f"the runtime directory {self.path} is open to others; chmod 700 it",
                code="runtime_dir",
            )

    def _sweep(self) -> None:
        # Only the holder of the lock comes here, so every instance there is a dead one.
        for entry in self.path.iterdir():
            if ENGINE_ID_PATTERN.fullmatch(entry.name):
                self._remove(entry.name)
            elif entry.name.startswith("current."):  # it died while it published
                entry.unlink(missing_ok=True)

    def _remove(self, engine_id: str) -> None:
        for name in segment.names_of(engine_id):
            segment.unlink_name(name)
        shutil.rmtree(self.path / engine_id, ignore_errors=True)
