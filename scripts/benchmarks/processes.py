"""The servers that are measured: started, found ready, their CPU time, ended."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
END_S = 10


@dataclass
class Server:
    """A running server and its whole process tree."""

    url: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """CPU seconds that the tree has used so far."""
        total = 0.0
        for process in [self.process, *self.process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total


@contextlib.contextmanager
def engine(*options: str) -> Iterator[Server]:
    """`serve` with one worker and the echo demo, in a runtime directory of its own."""
    with tempfile.TemporaryDirectory(prefix="bbench-") as directory:
        arguments = [
            str(ROOT / "engine" / "__main__.py"),
            *("serve", "--runtime-dir", directory, "--port", "0"),
            *("--ice-address", "127.0.0.1", "--workers", "1", "--log-level", "warning"),
            *options,
        ]
        with _running(arguments, "ready: open ") as server:
            yield server


@contextlib.contextmanager
def stock_bot() -> Iterator[Server]:
    """The in-process aiortc bot."""
    with _running([str(ROOT / "scripts" / "benchmarks" / "stock_bot.py")], "http") as server:
        yield server


@contextlib.contextmanager
def _running(arguments: list[str], ready: str) -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, "-P", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(ready):
                url = next(word for word in line.split() if word.startswith("http"))
                yield Server(url.rstrip("/"), psutil.Process(process.pid))
                return
        raise RuntimeError(f"{arguments[0]} ended with {process.wait()} before it was ready")
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
