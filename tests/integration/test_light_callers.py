"""The benchmarks' light callers against a real engine: they connect, and speech flows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from scripts.benchmarks import wire
from scripts.benchmarks.recording import callers
from tests.fakes.serve import ServeProcess

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.benchmarks.recording import Recording

SECONDS = 2.0


async def test_two_light_callers_get_back_what_they_say(runtime_dir: Path) -> None:
    async with ServeProcess(runtime_dir) as serve:
        await serve.settled()
        seen = await asyncio.to_thread(_call, serve.url)
    assert len(seen.streams) == 2
    for stream in seen.streams:
        # What was sent, by its sequence numbers: a loaded machine may send less than is due.
        sent = int(stream.sequence[-1] - stream.sequence[0]) + 1
        assert len(stream) >= 0.95 * sent
        assert sent >= 0.5 * SECONDS * 50
    assert wire.pace(seen.streams).packets == len(seen.streams[0]) + len(seen.streams[1])
    assert seen.facts["sent"] >= 0.5 * 2 * SECONDS * 50
    (probe,) = seen.probes
    # The echo of speech: loud for most of the time.
    loud = np.abs(probe.pcm.astype(np.int32)).max(axis=1) > 1000
    assert np.mean(loud) > 0.5
    assert len(seen.lateness_ns) > 0


def _call(url: str) -> Recording:
    with callers(priority=False) as process:
        process.call(url, 2, probes=1)
        process.window(0.5)  # until the echo is there
        return process.window(SECONDS)
