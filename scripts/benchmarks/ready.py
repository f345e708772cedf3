"""From a client's `connect` to `bot-ready`: over our `serve`, and over a stock application."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from scripts.benchmarks import processes
from scripts.benchmarks.job import Job
from scripts.benchmarks.processes import ON_BACKBEAT
from scripts.benchmarks.windows import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.benchmarks.processes import Server
    from scripts.benchmarks.report import Report

CALLER = processes.HERE / "ready_caller.py"
BOT = processes.HERE / "bot_files" / "ready.py"
DEADLINE_S = 200.0
MUST_MS = 300.0


def add(report: Report, kind: str, prefix: str, calls: int, *, judged: bool) -> None:
    """Add the row of so many calls, one after the other; the first one warms up and is told."""
    say(f"{kind}, {calls} calls until bot-ready")
    with _server(kind) as server:
        outcome = _run(server, calls + 1)
    took_ms: list[float] = outcome["took_ms"]
    name = f"{prefix}/start to bot-ready on loopback, one call after the other"
    must = {"p99": MUST_MS} if judged else {}
    if len(took_ms) < 2 or outcome["errors"]:
        why = outcome["errors"][-1][:60] if outcome["errors"] else "nothing was measured"
        report.put(name, "ms", {}, len(took_ms), must=must, void=f"not held: {why}")
        return
    first, *rest = took_ms
    report.add(name, "ms", rest)
    report.rows[-1].must = must
    report.notes.append(f"{kind}: the first call of all took {first:.0f} ms to bot-ready.")


@contextlib.contextmanager
def _server(kind: str) -> Iterator[Server]:
    if kind == ON_BACKBEAT:
        python = os.environ.get(processes.PIPECAT_PYTHON)
        with processes.engine("--bot", str(BOT), python=python) as server:
            yield server
    else:
        with processes.start(kind, Job(mode="hear")) as server:
            yield server


def _run(server: Server, calls: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-P", str(CALLER), server.url, str(calls)],
        stdout=subprocess.PIPE,
        timeout=DEADLINE_S,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
