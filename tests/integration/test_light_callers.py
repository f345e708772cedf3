"""The benchmarks' light callers against a real engine: they connect, and speech flows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import psutil

from scripts.benchmarks import loss, wire
from scripts.benchmarks.processes import Server
from scripts.benchmarks.recording import callers
from tests.fakes.bot import echo_bot, serving
from tests.fakes.network import Faults
from tests.support import wait_until

if TYPE_CHECKING:
    from scripts.benchmarks.recording import Recording
    from tests.fakes.serve import ServeProcess

SECONDS = 2.0
WINDOWS = 5


async def test_two_light_callers_get_back_what_they_say(serve: ServeProcess) -> None:
    async with serving(echo_bot(), serve.endpoint):
        seen = await asyncio.to_thread(_call, serve.url)
    assert len(seen.streams) == 2
    for stream in seen.streams:
        # What was sent, by its sequence numbers: a loaded machine may send less than is due.
        sent = int(stream.sequence[-1] - stream.sequence[0]) + 1
        assert len(stream) >= 0.95 * sent
        assert sent >= 10
    assert wire.pace(seen.streams).packets == len(seen.streams[0]) + len(seen.streams[1])
    assert seen.facts["sent"] >= 20
    assert _is_loud(seen)
    assert len(seen.lateness_ns) > 0


async def test_redundancy_brings_back_what_light_callers_lose_both_ways(
    serve: ServeProcess,
) -> None:
    async with serving(echo_bot(), serve.endpoint):
        seen, server = await asyncio.to_thread(_lossy_call, serve.url)
    found = _shares(seen)
    assert found.lost >= 10
    assert found.recovered >= 0.85
    assert server["packetsLost"] >= 10
    # What lay in the socket while the worker stood still is lost for good.
    lost = server["packetsLost"] - server["backlog"]
    assert server["packetsRecovered"] >= 0.85 * lost


def _lossy_call(url: str) -> tuple[Recording, dict[str, float]]:
    with callers(priority=False) as process:
        process.call(url, 1, probes=1, red_level=2)
        before = _stats(url)["backbeat-worker"]["datagramsDropped"].get("backlog", 0)
        process.impair(Faults(loss=0.2), 3)
        wait_until(lambda: _redundancy(url) == 2, what="reports that raise the redundancy")
        seen = process.window(4.0)
        # Where the server stood still, its packets lie too far apart to bring each other back.
        for _ in range(WINDOWS):
            if _shares(seen).sent > 0.9:
                break
            seen = process.window(4.0)
        backlog = _stats(url)["backbeat-worker"]["datagramsDropped"].get("backlog", 0)
        server = loss.heard_by(Server(url, psutil.Process(), is_engine=True))
        return seen, server | {"backlog": backlog - before}


def _shares(seen: Recording) -> loss.Shares:
    (probe,) = seen.probes
    return loss.shares(probe, seen.seconds * 50)


def _redundancy(url: str) -> int:
    """How many earlier packets the server sends with each to the only caller."""
    return int(_stats(url)["backbeat-media"]["redundancyLevel"])


def _stats(url: str) -> dict[str, Any]:
    """Of the only call."""
    with httpx.Client(base_url=url, timeout=20, trust_env=False) as http:
        (session,) = http.get("/api/sessions").json()
        stats: dict[str, Any] = http.get(f"/api/sessions/{session['id']}/stats").json()
    return stats


def _call(url: str) -> Recording:
    with callers(priority=False) as process:
        process.call(url, 2, probes=1)
        process.window(0.5)  # until the echo is there
        seen = process.window(SECONDS)
        # One in which a core was taken away has little speech in it.
        for _ in range(WINDOWS):
            if _is_loud(seen):
                break
            seen = process.window(SECONDS)
        return seen


def _is_loud(seen: Recording) -> bool:
    """Whether the echo of speech is there: for most of the time it is loud."""
    (probe,) = seen.probes
    loud = np.abs(probe.pcm.astype(np.int32)).max(axis=1) > 1000
    return len(loud) >= 10 and bool(np.mean(loud) > 0.5)
