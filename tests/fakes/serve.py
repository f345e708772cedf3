"""A real `serve` in a process of its own, with everything that a test wants to know of it.

Plain blocking calls, so that a fixture of any scope may own one; the coroutines do the same
without holding up the test's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import selectors
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import httpx
import psutil

from tests.fakes.wait import eventually
from tests.support import short_temporary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent.parent
ENGINE_FILE = ROOT / "engine" / "__main__.py"
START_DEADLINE_S = 90.0
STOP_DEADLINE_S = 30.0
# Everything is plain HTTP: loading the authorities of the world takes 20 ms a client.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
READY = re.compile(r"ready: open (http://\S+)/ ")
NOT_READY = re.compile(r"not ready at (http://\S+)/: ")
ENDPOINT = re.compile(r"bots connect to (ipc://\S+)")


class ServeFailed(AssertionError):
    """The process did not do what a test needs; the text holds its whole log."""


def environment(**extra: str) -> dict[str, str]:
    """The environment without settings of ours, plus `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BACKBEAT_")}
    return kept | {"PYTHONUNBUFFERED": "1"} | extra


class ServeProcess:
    """`serve` on the loopback, in `runtime_dir`. Use as an (async) context manager."""

    def __init__(
        self,
        runtime_dir: Path,
        *options: str,
        workers: int = 1,
        spares: int = 0,
        port: int = 0,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        prefix: Sequence[str] = (),
        until: re.Pattern[str] = READY,
    ) -> None:
        """It counts as started when it has printed the line `until`, whose group is its URL."""
        self.runtime_dir = runtime_dir
        self._until = until
        self._spares = spares
        self.url = ""
        self.endpoint = ""
        self.arguments = [
            *prefix,
            *(sys.executable, "-P", str(ENGINE_FILE), "serve"),
            *("--runtime-dir", str(runtime_dir), "--ice-address", "127.0.0.1"),
            *("--port", str(port), "--workers", str(workers), "--priority", "none"),
            *("--spare-workers", str(spares)),  # each costs a second of CPU
            # A core may be taken away for seconds: whoever was on it neither hangs nor is gone.
            *("--worker-stall-ms", "10000", "--bot-accept-s", "20"),
            *options,
        ]
        self._env = dict(env) if env is not None else None
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._out = b""
        self._log = b""
        self._log_file: IO[bytes] | None = None

    # -- life ---------------------------------------------------------------------------

    def start(self) -> Self:
        """Start and wait for the line that says so."""
        self._out = self._log = b""
        self._log_file = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._process = subprocess.Popen(
            self.arguments,
            stdout=subprocess.PIPE,
            stderr=self._log_file,
            env=self._env if self._env is not None else environment(),
            cwd=self._cwd,
        )
        try:
            self.url = self.wait_for(self._until)
            self.endpoint = self.wait_for(ENDPOINT)
        except BaseException:
            self.close()
            raise
        return self

    def wait_for(self, pattern: re.Pattern[str], timeout_s: float = START_DEADLINE_S) -> str:
        """The first group of the line of standard output that matches, as soon as it is there."""
        stdout = self._running.stdout
        assert stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while (found := pattern.search(self._out.decode())) is None:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                piece = os.read(stdout.fileno(), 65536) if ready else b""
                if not piece:
                    why = "ended" if ready else f"was silent for {timeout_s:g} s"
                    raise ServeFailed(f"serve {why} before {pattern.pattern!r}\n{self.log()}")
                self._out += piece
        return found.group(1)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it as a user would; the exit code."""
        process = self._running
        process.send_signal(number)
        try:
            return process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServeFailed(f"serve did not end in {STOP_DEADLINE_S:g} s\n{self.log()}") from None

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end; `ended` tells when it has."""
        self._running.send_signal(number)

    async def ended(self) -> int:
        """The exit code, as soon as the process is gone."""
        return await asyncio.to_thread(self._running.wait, STOP_DEADLINE_S)

    def kill(self) -> None:
        """End it without a chance to clean up."""
        self._running.kill()
        self._running.wait()

    def close(self) -> None:
        """End what still runs, and wait for its workers and bots too."""
        process = self._process
        if process is None:
            return
        children = self.children() if process.poll() is None else []
        if process.poll() is None:
            self.stop()
        _, alive = psutil.wait_procs(children, STOP_DEADLINE_S)
        for child in alive:
            child.kill()
        self._drain()
        if process.stdout is not None:
            process.stdout.close()
        if self._log_file is not None:
            self._log_file.close()
        self._process = None
        if alive:
            raise ServeFailed(f"{len(alive)} children outlived serve\n{self.log()}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    # -- what is known of it --------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The engine's process."""
        return self._running.pid

    @property
    def engine_id(self) -> str:
        """The id of this engine instance."""
        return Path(self.endpoint.removeprefix("ipc://")).parent.name

    @property
    def alive(self) -> bool:
        """Whether the engine's process runs."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """All that it has printed, standard output first."""
        self._drain()
        return f"{self._out.decode()}--- stderr\n{self._log.decode(errors='replace')}"

    def output(self) -> str:
        """What it printed on standard output."""
        self._drain()
        return self._out.decode()

    def children(self) -> list[psutil.Process]:
        """Its workers and bots."""
        return psutil.Process(self.pid).children()

    def bot_pids(self) -> list[int]:
        """The bot processes that it started."""
        return [child.pid for child in self.children() if "bot" in _arguments(child)]

    def segments(self) -> list[str]:
        """The names in shared memory that belong to this instance."""
        return [path.name for path in Path("/dev/shm").glob(f"bb{self.engine_id}*")]

    async def health(self) -> tuple[int, dict[str, Any]]:
        """The status and the body of `/health/ready`."""
        async with self.client() as client:
            response = await client.get("/health/ready")
            return response.status_code, response.json()

    def client(self) -> httpx.AsyncClient:
        """An HTTP client of this engine; the test closes it."""
        return httpx.AsyncClient(base_url=self.url, trust_env=False, verify=NO_TLS, timeout=20)

    async def workers(self, state: str = "live") -> dict[str, int]:
        """The process ids of the workers in that state, by name."""
        _, body = await self.health()
        return {w["name"]: w["pid"] for w in body["workers"] if w["state"] == state}

    async def settled(self, *, workers: int = 1, calls: bool = True) -> Self:
        """Wait until calls are taken, and `workers` and a spare are there."""

        async def good() -> bool:
            status, body = await self.health()
            states = [worker["state"] for worker in body["workers"]]
            enough = states.count("live") >= workers and states.count("spare") >= self._spares
            return enough and (status == 200 or not calls)

        await eventually(good, "workers and bots are ready", START_DEADLINE_S)
        return self

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServeFailed("serve is not started")
        return self._process

    def _drain(self) -> None:
        if self._log_file is not None and not self._log_file.closed:
            # The file's offset is shared with the processes that write it: do not move it.
            size = os.fstat(self._log_file.fileno()).st_size
            self._log = os.pread(self._log_file.fileno(), size, 0)
        stdout = self._process.stdout if self._process is not None else None
        if stdout is None or stdout.closed:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while selector.select(0):
                piece = os.read(stdout.fileno(), 65536)
                if not piece:
                    return
                self._out += piece


@contextlib.contextmanager
def serve_of_a_module(
    *options: str, env: Mapping[str, str] | None = None
) -> Iterator[ServeProcess]:
    """For a module's own fixture `serve`, where its tests want settings or leave sessions."""
    with (
        tempfile.TemporaryDirectory(prefix="bb-", dir=short_temporary()) as base,
        ServeProcess(Path(base) / "run", *options, env=env) as process,
    ):
        yield process


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


async def run_serve(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    command: str = "serve",
) -> tuple[int, str, str]:
    """Run a command line that is expected to end by itself: code, standard output and error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", str(ENGINE_FILE), command, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env) if env is not None else environment(),
        cwd=cwd,
    )
    try:
        async with asyncio.timeout(START_DEADLINE_S):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
        raise ServeFailed(f"it did not end\n{out.decode()}{err.decode()}") from None
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
