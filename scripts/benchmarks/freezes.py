"""The driver's side of the witnesses: one per core, and what they saw."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.benchmarks.wire import Ints

WITNESS = Path(__file__).with_name("witness.py")
MAX_CORES = 8
END_S = 5
SETTLE_S = 0.2


class Freezes:
    """Spans (n, 2), CLOCK_MONOTONIC ns, in which a core stood still; None: nobody may watch."""

    def __init__(self) -> None:
        self.spans: Ints | None = None
        self.steal_percent = 0.0


@contextlib.contextmanager
def watch() -> Iterator[Freezes]:
    """Watch every core; the answer is there afterwards."""
    found = Freezes()
    if not hasattr(os, "sched_getaffinity"):
        yield found
        return
    cores = sorted(os.sched_getaffinity(0))[:MAX_CORES]
    witnesses = [
        subprocess.Popen(
            [sys.executable, "-P", str(WITNESS), str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for core in cores
    ]
    try:
        for witness in witnesses:
            assert witness.stdout is not None
            witness.stdout.readline()  # `ready`
        time.sleep(SETTLE_S)
        before = _stolen()
        yield found
        after = _stolen()
        found.steal_percent = 100 * (after[0] - before[0]) / max(1, after[1] - before[1])
        seen = [json.loads(witness.communicate(timeout=END_S)[0]) for witness in witnesses]
        if all(spans is not None for spans in seen):
            joined = sorted(tuple(span) for spans in seen for span in spans)
            found.spans = np.array(joined, np.int64).reshape(-1, 2)
    finally:
        for witness in witnesses:
            witness.kill()
            witness.wait()
            for pipe in (witness.stdin, witness.stdout):
                if pipe is not None:
                    pipe.close()


def _stolen() -> tuple[int, int]:
    """Ticks that the hypervisor took, and all ticks, of all cores (Linux; else nothing)."""
    try:
        line = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return 0, 1
    ticks = [int(word) for word in line.split()[1:9]]
    return ticks[7], sum(ticks)
