"""A bot whose loop stands still 200 ms each second: what is missing on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scripts.benchmarks import processes, recording, speech, windows
from scripts.benchmarks.job import Job
from scripts.benchmarks.processes import ENGINE, PIPECAT, STOCK
from scripts.benchmarks.report import Report
from scripts.benchmarks.windows import say

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.benchmarks.recording import Heard
    from scripts.benchmarks.windows import Window

SILENT_DB = -60.0
FRAME = 960


def measure(sessions: int, block_ms: float, seconds: float, plots: Path | None) -> Report:
    """`sessions` calls on each kind of server, all served by one blocked bot."""
    report = Report(f"Stall: the bot's loop stands still {block_ms:g} ms each second")
    found: dict[str, Window | None] = {}
    for kind in (ENGINE, STOCK, PIPECAT):
        if kind == PIPECAT and not processes.has_pipecat():
            report.notes.append(processes.NO_PIPECAT)
            continue
        say(f"{kind}, {sessions} sessions")
        found[kind] = run(kind, block_ms, sessions, seconds, report)
    for kind, window in found.items():
        if window is None:
            continue
        add(report, "" if kind == ENGINE else f"peer: {kind}: ", window, judged=kind == ENGINE)
        report.notes.append(f"{kind}: {window.about_freezes}.")
    if plots is not None:
        from scripts.benchmarks import charts  # matplotlib is for who wants charts

        title = f"Audio packets on the wire while the bot blocks {block_ms:g} ms each second"
        report.plots += charts.intervals(found, plots / "stall.png", title)
    report.notes.append(
        f"{seconds:g} s with {sessions} sessions; the bot speaks without a pause and queues ahead."
    )
    return report


def add(report: Report, prefix: str, window: Window, *, judged: bool) -> None:
    """Add what is missing on the wire; `judged` holds it to nothing at all."""
    must = 0.0 if judged else None
    pace = window.pace
    count, void = pace.packets, window.void
    report.put(f"{prefix}gaps on the wire > 25 ms", "", pace.gaps, count, must=must, void=void)
    report.put(
        f"{prefix}packets > 5 ms behind schedule", "", pace.late, count, must=must, void=void
    )
    probes = window.recording.probes
    report.put(
        f"{prefix}silent packets within speech",
        "",
        sum(map(silent_packets, probes)),
        sum(len(probe.pcm) for probe in probes),
        must=must,
        void=void,
    )
    report.put(
        f"{prefix}packets lost, audio skipped (in packets)",
        "",
        pace.lost + pace.skipped_ms / 20,
        count,
        must=must,
        void=void,
    )
    errors = {"p50": pace.p50_ms, "p99": pace.p99_ms, "max": pace.max_ms}
    report.put(f"{prefix}interval error", "ms", errors, count, void=void)


def run(kind: str, block_ms: float, sessions: int, seconds: float, report: Report) -> Window | None:
    """Calls on one kind of server, each caller a probe; None, with the reason, if not held."""
    job = Job(mode="talk", block_ms=block_ms)
    with processes.start(kind, job) as server, recording.callers() as callers:
        callers.speak(False)
        why = windows.place(server, callers, sessions, probes=sessions)
        if why:
            report.put(f"{kind}: {sessions} calls", "", {}, 0, void=f"not held: {why[:60]}")
            report.notes.append(f"{kind}: {why}")
            return None
        return windows.take(server, callers, sessions, seconds)


def silent_packets(heard: Heard) -> int:
    """Packets that decode to silence; the speech has no pause, so each is a hole."""
    if not len(heard.pcm):
        return 0
    levels = speech.frames_db(np.ascontiguousarray(heard.pcm).reshape(-1), FRAME)
    return int(np.count_nonzero(levels < SILENT_DB))
