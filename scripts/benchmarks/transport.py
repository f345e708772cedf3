"""The documented transport in a pipeline, beside Pipecat's own: the beat, barge-in, lost callers.

Both are one process with a FastAPI application, a pipeline for each caller (`pipeline_bot`). The
engine of ours is the one that the transport starts for itself. A flush counts from the moment at
which an InterruptionFrame enters the output transport.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np

from scripts.benchmarks import departures, flush, pacing, processes, recording, stall, windows
from scripts.benchmarks.job import Job
from scripts.benchmarks.processes import PIPECAT, TRANSPORT
from scripts.benchmarks.report import Report
from scripts.benchmarks.windows import say

if TYPE_CHECKING:
    from collections.abc import Collection

PARTS = ("pacing", "stall", "flush", "vanish")
PROBES = 8
BLOCK_MS = 200.0
STALL_SESSIONS = 8
FLUSH_SESSIONS = 8
GONE_MUST_MS = 5000.0
GONE_DEADLINE_S = 45.0
POLL_S = 0.02
TALKED_S = 2.0
NS_PER_MS = 1_000_000


def measure(
    sessions: int,
    peer_sessions: int,
    burn: float,
    seconds: float,
    flushes: int,
    parts: Collection[str] = PARTS,
) -> Report:
    """Those of `PARTS` that are asked for; `sessions`, `peer_sessions` and `burn` are pacing's.

    Ours is measured with as many sessions as the peer, too. The burning begins when all are live,
    for it is the bot that answers offers here. One that burns may be too slow to speak: its
    silent packets are counted, the beat goes on through them.
    """
    report = Report("The documented transport in a pipeline, its engine started by itself")
    kinds = [TRANSPORT]
    if processes.has_pipecat():
        kinds.append(PIPECAT)
    else:
        report.notes.append(processes.NO_PIPECAT)
    for kind in kinds:
        ours = kind == TRANSPORT
        prefix = "" if ours else f"peer: {kind}: "
        if "pacing" in parts:
            for count in (sessions, peer_sessions) if ours else (peer_sessions,):
                _pacing(report, kind, prefix, count, burn, seconds)
        if "stall" in parts:
            _stall(report, kind, prefix, seconds)
        if "flush" in parts:
            say(f"{kind}, flushes, {FLUSH_SESSIONS} sessions")
            cuts, void = flush.run(kind, FLUSH_SESSIONS, flushes)
            flush.add(report, prefix, "InterruptionFrame", cuts, void, judged=ours)
            if cuts:
                report.notes.append(f"{kind}: {flush.about(cuts)}.")
        if "vanish" in parts:
            _vanish(report, kind, prefix, 8 if ours else 4, (True, False) if ours else (True,))
    return report


def _pacing(
    report: Report, kind: str, prefix: str, sessions: int, burn: float, seconds: float
) -> None:
    say(f"{kind}, pacing, {sessions} sessions")
    ours = kind == TRANSPORT
    job = Job(mode="talk", burn=burn, burn_when_told=True)
    with processes.start(kind, job) as server, recording.callers() as callers:
        callers.speak(False)
        window = None
        why = windows.place(server, callers, sessions, probes=min(PROBES, sessions))
        if not why:
            httpx.post(f"{server.url}/api/burn", timeout=20)
            time.sleep(windows.SETTLE_S)
            window = windows.take(server, callers, sessions, seconds)
        outcome = pacing.Outcome(window, why, "" if why else server.priority())
    name = f"{prefix}{sessions} sessions, the bot burns {burn:.0%} of its GIL"
    pacing.add(report, f"{name}: |interval - 20 ms|", outcome, pacing.MUST if ours else {})
    pacing.add_late(report, f"{name}: packets > 5 ms late", outcome, judged=ours)
    if window is None:
        return
    probes = window.recording.probes
    report.put(
        f"{name}: silent packets within speech",
        "",
        sum(map(stall.silent_packets, probes)),
        sum(len(probe.pcm) for probe in probes),
        void=window.void,
    )
    p50, p99, worst = window.own_lateness_ms
    report.notes.append(
        f"{kind}, {sessions} sessions: priority of the worker: {outcome.priority}; "
        f"the callers' own lateness {p50:.2f} / {p99:.2f} / {worst:.1f} ms (p50 / p99 / max)."
    )


def _stall(report: Report, kind: str, prefix: str, seconds: float) -> None:
    say(f"{kind}, stall, {STALL_SESSIONS} sessions")
    window = stall.run(kind, BLOCK_MS, STALL_SESSIONS, seconds, report)
    if window is None:
        return
    name = f"{prefix}the loop stands still {BLOCK_MS:g} ms each second: "
    stall.add(report, name, window, judged=kind == TRANSPORT)
    report.notes.append(f"{kind}: stall: {window.about_freezes}.")


def _vanish(report: Report, kind: str, prefix: str, count: int, speaking: tuple[bool, ...]) -> None:
    """Kill the process of `count` callers, once for each of `speaking`: while they speak or not."""
    with tempfile.TemporaryDirectory(prefix="bbgone-") as directory:
        job = Job(mode="both", log=directory)
        with processes.start(kind, job) as server:
            for speaks in speaking:
                how = "speaks" if speaks else "is silent"
                say(f"{kind}, {count} callers vanish while each {how}")
                took_ms, why = _kill(server, count, Path(directory), speaks=speaks)
                _add_gone(report, f"{prefix}a caller who {how} is killed", took_ms, count, why)


def _kill(
    server: processes.Server, count: int, log: Path, *, speaks: bool
) -> tuple[list[float], str]:
    """ms from SIGKILL to `on_client_disconnected`, for those of whom the bot heard."""
    with recording.callers() as callers:
        callers.speak(speaks)
        why = windows.place(server, callers, count)
        if why:
            return [], f"not held: {why[:60]}"
        time.sleep(TALKED_S)
        killed_ns = time.monotonic_ns()
        os.kill(callers.pid, signal.SIGKILL)
        deadline = time.monotonic() + GONE_DEADLINE_S
        found = departures.read(log, killed_ns)
        while len(found) < count and time.monotonic() < deadline:
            time.sleep(POLL_S)
            found = departures.read(log, killed_ns)
    return [(told_ns - killed_ns) / NS_PER_MS for told_ns in found.values()], ""


def _add_gone(report: Report, name: str, took_ms: list[float], count: int, why: str) -> None:
    row = f"{name}: on_client_disconnected after"
    must = {} if name.startswith("peer") else {"max": GONE_MUST_MS}
    if not took_ms:
        report.put(row, "ms", {}, 0, must=must, void=why or "not told in time")
        return
    p50, worst = (float(value) for value in np.percentile(took_ms, (50, 100)))
    if len(took_ms) < count:
        report.notes.append(f"{name}: {count - len(took_ms)} of {count} were never told of.")
        worst = max(worst, GONE_DEADLINE_S * 1000)
    report.put(row, "ms", {"p50": p50, "max": worst}, len(took_ms), must=must)
