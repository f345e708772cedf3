"""Watches one core for moments in which the machine itself stood still.

On a shared machine the hypervisor takes cores away for milliseconds. This process asks for a
real-time priority above everything that is measured, wakes every 2 ms on its own core, and notes
when it could not: nothing that runs here can hold it up. What is late on the wire in such a
moment is no fault of what is measured. Prints one JSON list of [from, to] (CLOCK_MONOTONIC, ns)
when standard input ends; prints null when it may not have its priority.
"""

from __future__ import annotations

import json
import os
import selectors
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from scripts.benchmarks.priority import raise_priority  # noqa: E402
from scripts.benchmarks.timer import open_timerfd  # noqa: E402

PERIOD_NS = 2_000_000
FROZEN_NS = 1_000_000
FIFO = 50
MAX_SPANS = 100_000


def main(core: int) -> None:
    """Watch until standard input ends."""
    os.sched_setaffinity(0, {core})
    due_ns = time.monotonic_ns() + PERIOD_NS
    timer = open_timerfd(due_ns, PERIOD_NS)
    watches = timer is not None and raise_priority(FIFO).startswith("fifo")
    print("ready", flush=True)  # what its own start costs falls into no window
    if timer is None or not watches:
        sys.stdin.read()
        print("null")
        return
    spans: list[tuple[int, int]] = []
    with selectors.DefaultSelector() as selector:
        selector.register(timer, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        running = True
        while running:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    running = False
                    continue
                now_ns = time.monotonic_ns()
                missed = int.from_bytes(os.read(timer, 8), sys.byteorder)
                if now_ns - due_ns > FROZEN_NS and len(spans) < MAX_SPANS:
                    spans.append((due_ns - PERIOD_NS, now_ns))
                due_ns += missed * PERIOD_NS
    print(json.dumps(spans))


if __name__ == "__main__":
    main(int(sys.argv[1]))
