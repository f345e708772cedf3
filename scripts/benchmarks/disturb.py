"""Bad neighbours for the media path: a thread that holds the GIL, a loop that stands still."""

from __future__ import annotations

import asyncio
import threading
import time

PERIOD_S = 0.01


def start_burning(duty: float) -> None:
    """Hold the GIL for a share of the time (0 to 1) in a thread, as a busy bot does."""
    if duty > 0:
        threading.Thread(target=_burn, args=(duty,), name="burn", daemon=True).start()


def _burn(duty: float) -> None:
    count = 0
    while True:
        until = time.monotonic() + PERIOD_S * duty
        while time.monotonic() < until:
            count += 1
        if duty < 1:
            time.sleep(PERIOD_S * (1 - duty))


async def block_each_second(block_ms: float) -> None:
    """Let this loop stand still for so long once each second."""
    while block_ms > 0:
        await asyncio.sleep(1.0 - block_ms / 1000)
        time.sleep(block_ms / 1000)
