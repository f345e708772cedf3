"""The same Pipecat bot on our transport and on Pipecat's own: CPU, stalls, a spin, barge-in.

Both are one process with a FastAPI application and a Pipecat pipeline for each caller; of ours
the engine is the one that the transport starts for itself, in a process of the same tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scripts.benchmarks import flush, processes, recording, stall, windows, wire
from scripts.benchmarks.job import Job
from scripts.benchmarks.processes import ON_BACKBEAT, PIPECAT
from scripts.benchmarks.report import Report
from scripts.benchmarks.windows import say

if TYPE_CHECKING:
    from collections.abc import Collection

    from scripts.benchmarks.windows import Window

PARTS = ("cpu", "stall", "spin", "flush")
BLOCK_MS = 200.0
LATE_MS = 60.0
SPIN_TRIES = 3
MUST_CPU = 1 / 6
MUST_MISSING_PERCENT = 1.0
MUST_FLUSH_MS = 25.0


def measure(sessions: int, seconds: float, flushes: int, parts: Collection[str] = PARTS) -> Report:
    """Those of `PARTS` that are asked for, on both transports."""
    report = Report("A Pipecat bot on our transport and on its own")
    if not processes.has_pipecat():
        report.notes.append(processes.NO_PIPECAT)
        return report
    if "cpu" in parts:
        _cpu(report, sessions, seconds)
    for kind in (ON_BACKBEAT, PIPECAT):
        prefix = "" if kind == ON_BACKBEAT else f"peer: {kind}: "
        ours = kind == ON_BACKBEAT
        if "stall" in parts:
            _stall(report, kind, prefix, sessions, seconds, judged=ours)
        if "spin" in parts:
            _spin(report, kind, prefix, seconds, judged=ours)
        if "flush" in parts:
            _flush(report, kind, prefix, sessions, flushes, judged=ours)
    return report


def _take(
    kind: str, job: Job, sessions: int, seconds: float, *, probes: bool = True
) -> Window | str:
    """A window with calls on one kind of server; or why there is none. A probe decodes."""
    with processes.start(kind, job) as server, recording.callers() as callers:
        callers.speak(job.mode != "talk")
        why = windows.place(server, callers, sessions, probes=sessions if probes else 0)
        return why or windows.take(server, callers, sessions, seconds)


def _cpu(report: Report, sessions: int, seconds: float) -> None:
    """The stock process is bot and media; of ours the workers are the media."""
    found: dict[str, Window] = {}
    for kind in (ON_BACKBEAT, PIPECAT):
        say(f"{kind}, both ways, {sessions} sessions")
        window = _take(kind, Job(mode="both"), sessions, seconds, probes=False)
        if isinstance(window, str) or not window.held:
            why = window[:60] if isinstance(window, str) else f"{window.shares[0]:.1%} came"
            report.put(
                f"{kind}: {sessions} sessions both ways", "µs", {}, 0, void=f"not held: {why}"
            )
            continue
        found[kind] = window
    if (ours := found.get(ON_BACKBEAT)) is None:
        return
    media, bot = ours.cpu_us("workers"), ours.cpu_us("bot")
    peer = found.get(PIPECAT)
    # What the pipeline itself costs is the same on both, so the rest of stock's is media.
    stock_media = peer.cpu_us() - bot if peer is not None and not peer.void else None
    count, void = ours.pace.packets, ours.void
    report.put(
        f"{sessions} sessions both ways: media outside the bot, per session and 20 ms",
        "µs",
        media,
        count,
        must=stock_media * MUST_CPU if stock_media is not None else None,
        ratio=stock_media / media if stock_media is not None else None,
        void=void,
    )
    report.put(f"{sessions} sessions both ways: the bot's process", "µs", bot, count, void=void)
    if peer is not None:
        name = f"peer: {PIPECAT}: {sessions} sessions both ways: the whole process"
        report.put(name, "µs", peer.cpu_us(), peer.pace.packets, void=peer.void)
    report.notes.append(
        "Media of the stock process: what it uses beyond the bot's process on our transport, "
        "where the same pipeline runs."
    )


def _stall(
    report: Report, kind: str, prefix: str, sessions: int, seconds: float, *, judged: bool
) -> None:
    say(f"{kind}, the loop stands still {BLOCK_MS:g} ms each second")
    window = _take(kind, Job(mode="talk", block_ms=BLOCK_MS), sessions, seconds)
    name = f"{prefix}the bot blocks {BLOCK_MS:g} ms a second: packets > {LATE_MS:g} ms late"
    must = 0.0 if judged else None
    if isinstance(window, str):
        report.put(name, "", {}, 0, must=must, void=f"not held: {window[:60]}")
        return
    late = sum(map(_late, window.recording.streams))
    count = window.pace.packets
    report.put(name, "", late, count, must=must, void=window.void)
    silent = sum(map(stall.silent_packets, window.recording.probes))
    report.put(
        f"{prefix}the bot blocks {BLOCK_MS:g} ms a second: silent packets within speech",
        "",
        silent,
        sum(len(probe.pcm) for probe in window.recording.probes),
        must=must,
        void=window.void,
    )
    report.notes.append(f"{kind}: {late / max(1, count):.1%} of the packets > {LATE_MS:g} ms late.")


def _late(stream: wire.Stream) -> int:
    return int(np.count_nonzero(wire.behind_ms(stream) > LATE_MS))


def _spin(report: Report, kind: str, prefix: str, seconds: float, *, judged: bool) -> None:
    """One call while a thread of the bot never gives its GIL up by itself."""
    missing: list[float] = []
    why = ""
    for number in range(1, SPIN_TRIES + 1):
        say(f"{kind}, a thread spins, run {number}")
        window = _take(kind, Job(mode="talk", burn=1.0), 1, seconds)
        if isinstance(window, str):
            why = f"not held: {window[:60]}"
            continue
        due = window.recording.seconds * windows.FRAMES_PER_S
        heard = sum(len(probe.pcm) for probe in window.recording.probes)
        silent = sum(map(stall.silent_packets, window.recording.probes))
        missing.append(100 * max(0.0, 1 - (heard - silent) / due))
        why = why or window.void
    name = f"{prefix}one call, a thread of the bot spins: audio missing"
    must = {"max": MUST_MISSING_PERCENT} if judged else {}
    if not missing:
        report.put(name, "%", {}, 0, must=must, void=why)
        return
    values = {"p50": float(np.median(missing)), "max": max(missing)}
    report.put(name, "%", values, len(missing), must=must, void=why)


def _flush(
    report: Report, kind: str, prefix: str, sessions: int, flushes: int, *, judged: bool
) -> None:
    say(f"{kind}, interruptions, {sessions} sessions")
    cuts, void = flush.run(kind, sessions, flushes)
    name = f"{prefix}InterruptionFrame at the output to the last audible packet"
    must = {"p99": MUST_FLUSH_MS} if judged else {}
    if not cuts:
        report.put(name, "ms", {}, 0, must=must, void=void or "no interruption seen")
        return
    p50, p99, worst = np.percentile([cut.latency_ms for cut in cuts], (50, 99, 100))
    values = {"p50": float(p50), "p99": float(p99), "max": float(worst)}
    report.put(name, "ms", values, len(cuts), must=must, void=void)
    torn = sum(not cut.whole for cut in cuts)
    report.put(
        f"{prefix}speech after it not whole", "times", torn, len(cuts), must=0.0 if judged else None
    )
