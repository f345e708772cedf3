"""The servers that are measured: started, found ready, their CPU time and memory, ended."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any

import httpx
import psutil

from scripts.benchmarks.job import Job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "scripts" / "benchmarks"
END_S = 10
LOG_BYTES = 3000
ENGINE, STOCK, PIPECAT = "Backbeat", "stock aiortc", "Pipecat"
TRANSPORT = "Backbeat's transport"
ON_BACKBEAT = "Pipecat on Backbeat"
ALONE = "Pipecat without media"


@dataclass
class Server:
    """A running server and its whole process tree."""

    url: str
    process: psutil.Process
    is_engine: bool = False
    directory: str = ""
    """The runtime directory of an engine."""
    engine: Server | None = None
    """The engine that has the sockets of a bot that dials."""

    def cpu_s(self) -> float:
        """CPU seconds that the tree has used so far."""
        return sum(self.cpu_by_part().values())

    def parts(self) -> dict[str, list[psutil.Process]]:
        """The processes by what they are: engine, workers and bots, or the bot and its workers."""
        if self.engine is not None:
            return self.engine.parts() | {"bot": [self.process]}
        children = self.process.children(recursive=True)
        if not self.is_engine:
            found = {"bot": [self.process]}
            return found | {"workers": children} if children else found
        media = {worker["pid"] for worker in self.health()["workers"]}
        return {
            "engine": [self.process],
            "workers": [child for child in children if child.pid in media],
            "bots": [child for child in children if child.pid not in media],
        }

    def cpu_by_part(self) -> dict[str, float]:
        """CPU seconds used so far, by part."""
        return cpu_of(self.parts())

    def health(self) -> dict[str, Any]:
        """The engine's `/health/ready`."""
        answer: dict[str, Any] = httpx.get(f"{self.url}/health/ready", timeout=20).json()
        return answer

    def priority(self) -> str:
        """The priority that the workers' beat has, as far as the server says it."""
        if self.engine is not None:
            return self.engine.priority()
        if not self.is_engine:
            return self._children_priority()
        live = [worker for worker in self.health()["workers"] if worker["state"] == "live"]
        return str(live[0].get("priority", "not told")) if live else "no worker"

    def _children_priority(self) -> str:
        """What the system says of an engine's workers inside somebody's application."""
        if not hasattr(os, "sched_getscheduler"):
            return "none"
        for child in self.process.children(recursive=True):
            policy = os.sched_getscheduler(child.pid) & ~os.SCHED_RESET_ON_FORK
            if policy == os.SCHED_FIFO:
                return f"SCHED_FIFO {os.sched_getparam(child.pid).sched_priority}"
        return "none"


def cpu_of(parts: dict[str, list[psutil.Process]]) -> dict[str, float]:
    """CPU seconds that the processes have used so far, by part."""
    return {name: sum(map(_cpu_s, found)) for name, found in parts.items()}


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


PIPECAT_PYTHON = "BENCH_PIPECAT_PYTHON"
NO_PIPECAT = (
    "Pipecat was not measured: neither is pipecat-ai[webrtc] installed here nor does "
    f"{PIPECAT_PYTHON} name a Python that has it."
)


def has_pipecat() -> bool:
    """Whether Pipecat can be run: installed here, or in the Python that the environment names."""
    return PIPECAT_PYTHON in os.environ or importlib.util.find_spec("pipecat") is not None


@contextlib.contextmanager
def start_echo(kind: str, address: str, prefix: Sequence[str]) -> Iterator[Server]:
    """Our echo example or the stock bot's echo at an address, run by `prefix` (a namespace)."""
    if kind == ENGINE:
        with engine("--host", address, address=address, prefix=prefix) as server:
            yield server
    else:
        arguments = [str(HERE / "stock_bot.py"), address]
        with _running(arguments, "http", Job(mode="echo"), prefix=prefix) as server:
            yield server


@contextlib.contextmanager
def start(kind: str, job: Job) -> Iterator[Server]:
    """A server of that kind whose bot does `job`."""
    if kind == ENGINE:
        options = ("--bot", str(HERE / "bots.py"), "--bots", str(job.bots))
        with engine(*options, job=job) as server:
            yield server
    elif kind in (TRANSPORT, ON_BACKBEAT):
        with _transport(kind, job) as server:
            yield server
    else:
        file = {STOCK: "stock_bot.py", PIPECAT: "pipecat_bot.py"}[kind]
        python = os.environ.get(PIPECAT_PYTHON) if kind == PIPECAT else None
        with _running([str(HERE / file)], "http", job, python) as server:
            yield server


@contextlib.contextmanager
def engine(
    *options: str,
    job: Job | None = None,
    address: str = "127.0.0.1",
    prefix: Sequence[str] = (),
    python: str | None = None,
) -> Iterator[Server]:
    """`serve` with one worker and the echo demo, in a runtime directory of its own.

    BENCH_TREE in the environment names another checkout to run, such as an older one.
    """
    tree = Path(os.environ.get("BENCH_TREE", ROOT))
    with tempfile.TemporaryDirectory(prefix="bbench-") as directory:
        arguments = [
            str(tree / "engine" / "__main__.py"),
            *("serve", "--runtime-dir", directory, "--port", "0"),
            *("--ice-address", address, "--workers", "1", "--log-level", "warning"),
            *options,
        ]
        with _running(arguments, "ready: open ", job, python, prefix) as server:
            server.is_engine = True
            server.directory = directory
            yield server


@contextlib.contextmanager
def _transport(kind: str, job: Job) -> Iterator[Server]:
    """An application on our transport, where no `serve` is to be found."""
    file = "transport_bot.py" if kind == TRANSPORT else "pipecat_on_backbeat.py"
    python = os.environ.get(PIPECAT_PYTHON) if kind == ON_BACKBEAT else None
    with tempfile.TemporaryDirectory(prefix="bbench-") as directory:
        settings = {"RUNTIME_DIR": directory, "ICE_ADDRESS": "127.0.0.1", "WORKERS": "1"}
        added = {f"BACKBEAT_{name}": value for name, value in settings.items()}
        added |= {"BACKBEAT_ENDPOINT": ""}
        with _running([str(HERE / file)], "http", job, python, added=added) as server:
            yield server


@contextlib.contextmanager
def dialler(kind: str, job: Job) -> Iterator[Server]:
    """A bot that dials, with its engine, which serves no calls, or one of Pipecat's."""
    if kind in (PIPECAT, ALONE):
        file = "pipecat_dialler.py" if kind == PIPECAT else "pipecat_alone.py"
        arguments = [str(HERE / file)]
        with _running(arguments, "http", job, os.environ.get(PIPECAT_PYTHON)) as bot:
            yield bot
    else:
        with engine("--bots", "0") as found, dialling_bot(found, job) as bot:
            yield bot


@contextlib.contextmanager
def dialling_bot(found: Server, job: Job) -> Iterator[Server]:
    """A bot of the SDK that dials, on an engine that runs."""
    added = {"BACKBEAT_RUNTIME_DIR": found.directory}
    with _running([str(HERE / "dialling_bot.py")], "http", job, added=added) as bot:
        bot.engine = found
        yield bot


@contextlib.contextmanager
def empty_dialler(port: int, count: int) -> Iterator[Server]:
    """Connections with a far end that do nothing but send on time."""
    with _running([str(HERE / "empty_dialler.py"), str(port), str(count)], "http") as server:
        yield server


@contextlib.contextmanager
def stock_bot() -> Iterator[Server]:
    """The in-process aiortc bot that echoes."""
    with start(STOCK, Job(mode="echo")) as server:
        yield server


@contextlib.contextmanager
def responder() -> Iterator[Server]:
    """The server that does nothing but send on time."""
    with _running([str(HERE / "responder.py")], "http") as server:
        yield server


@contextlib.contextmanager
def _running(
    arguments: list[str],
    ready: str,
    job: Job | None = None,
    python: str | None = None,
    prefix: Sequence[str] = (),
    added: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*prefix, python or sys.executable, "-P", *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=(job or Job(mode="echo")).environment() | dict(added),
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(ready):
                    url = next(word for word in line.split() if word.startswith("http"))
                    break
            else:
                code = process.wait()
                raise RuntimeError(
                    f"{arguments[0]} ended with {code} before it was ready:\n{_tail(log)}"
                )
            try:
                yield Server(url.rstrip("/"), psutil.Process(process.pid))
            except Exception as error:
                error.add_note(f"the last lines of the server's log:\n{_tail(log)}")
                raise
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _tail(log: IO[bytes]) -> str:
    # pread: the file's offset is shared with the process that writes.
    size = os.fstat(log.fileno()).st_size
    return os.pread(log.fileno(), LOG_BYTES, max(0, size - LOG_BYTES)).decode(errors="replace")
