"""One `serve` that many tests borrow in turn: a start costs more than most calls do.

It has one worker, no bot of its own and the settings of `ServeProcess`. Whoever kills, fills or
configures an engine starts a `ServeProcess` of its own instead.
"""

from __future__ import annotations

import http.client
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests import support
from tests.fakes.serve import ServeFailed, ServeProcess, environment
from tests.support import DEADLINE_S, wait_until


class SharedServe:
    """Started when it is first lent; looked over, and replaced if need be, after each test."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="bb", dir=support.short_temporary()))
        self._serve: ServeProcess | None = None
        self._workers: list[int] = []

    def lend(self) -> ServeProcess:
        """The engine, with a live worker, and neither bots nor sessions."""
        if self._serve is None:
            # Without the mark by which a test's own processes are found.
            env = environment()
            env.pop(support.LEAK_VARIABLE, None)
            self._serve = ServeProcess(self._directory / "run", "--bots", "0", env=env).start()
            support.shared_processes.add(self._serve.pid)
            self._workers = self._worker_pids()
        return self._serve

    def take_back(self) -> list[str]:
        """What the borrower left in it, after a while: nothing, or it is ended and replaced."""
        left: list[str] = ["it was not asked"]

        def clean() -> bool:
            left[:] = self._left()
            return not left

        try:
            wait_until(clean, DEADLINE_S)
        except AssertionError:
            left += self.close()
        return left

    def close(self) -> list[str]:
        """End it; what is wrong with its end."""
        serve, self._serve = self._serve, None
        left = []
        if serve is not None:
            support.shared_processes.discard(serve.pid)
            try:
                serve.close()
            except ServeFailed as error:
                left.append(str(error))
            left += [f"shared memory {name} after its end" for name in serve.segments()]
        shutil.rmtree(self._directory / "run", ignore_errors=True)
        return left

    def remove(self) -> None:
        """End it for good."""
        left = self.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        assert not left, f"the shared serve left behind: {left}"

    def _left(self) -> list[str]:
        serve = self._serve
        if serve is None or not serve.alive:
            return ["it has ended"]
        health = self._health()
        left = [f"bot {bot['name']}" for bot in health["bots"]]
        if health["sessions"]:
            left.append(f"{health['sessions']} sessions")
        if self._worker_pids(health) != self._workers:
            left.append("another worker than before")
        left += [f"shared memory {name}" for name in serve.segments()]
        return left

    def _worker_pids(self, health: dict[str, Any] | None = None) -> list[int]:
        return [worker["pid"] for worker in (health or self._health())["workers"]]

    def _health(self) -> dict[str, Any]:
        assert self._serve is not None
        connection = http.client.HTTPConnection(
            urlsplit(self._serve.url).netloc, timeout=DEADLINE_S
        )
        try:
            connection.request("GET", "/health/ready")
            health: dict[str, Any] = json.loads(connection.getresponse().read())
            return health
        finally:
            connection.close()
