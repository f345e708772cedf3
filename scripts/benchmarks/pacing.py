"""How even the packets leave while the bots burn their GIL, and while other calls arrive."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scripts.benchmarks import processes, recording, windows
from scripts.benchmarks.freezes import watch
from scripts.benchmarks.job import OUR_CODEC_NAME, STOCK_CODEC_NAME, Job
from scripts.benchmarks.processes import ENGINE, PIPECAT, STOCK
from scripts.benchmarks.report import Report
from scripts.benchmarks.windows import Window, say

if TYPE_CHECKING:
    from pathlib import Path

MUST = {"p50": 0.2, "p99": 2.0}
ARRIVALS = 20
ARRIVALS_S = 2.0
ARRIVALS_MUST = {"p99": 3.0}
LATE_MUST_PERCENT = 0.1


@dataclass
class Outcome:
    """A window, or why there is none."""

    window: Window | None
    why: str = ""
    priority: str = ""


def measure(
    sessions: int, peer_sessions: int, burn: float, seconds: float, cores: int, plots: Path | None
) -> Report:
    """`sessions` on Backbeat and `peer_sessions` in process, bots burning `burn` of a core each."""
    report = Report(f"Pacing: |interval - 20 ms| on the wire, bots burn {burn:.0%} of a core each")
    say("calibrating the callers against the empty responder")
    floor = calibrate(sessions, seconds / 2)
    add(report, f"floor: {sessions} streams of the empty responder", floor, {})

    say(f"Backbeat, {sessions} sessions, one bot process")
    ours = run(ENGINE, Job(mode="talk", burn=burn), sessions, seconds)
    say("Backbeat, a bot process per core")
    crowded = run(ENGINE, Job(mode="talk", burn=burn, bots=cores), sessions, seconds)
    say(f"Backbeat, {ARRIVALS} calls arrive in {ARRIVALS_S:g} s")
    arriving = run_arrivals(max(4, sessions - ARRIVALS))
    peers = {}
    for kind in (STOCK, PIPECAT):
        if kind == PIPECAT and not processes.has_pipecat():
            report.notes.append(processes.NO_PIPECAT)
            continue
        say(f"{kind}, {peer_sessions} sessions")
        peers[kind] = run(kind, Job(mode="talk", burn=burn), peer_sessions, seconds)

    stock = peers[STOCK].window
    add(report, f"{sessions} sessions, 1 bot process", ours, MUST, stock)
    add_late(report, f"{sessions} sessions: packets > 5 ms late", ours)
    add(report, f"{sessions} sessions, {cores} bot processes on {cores} cores", crowded, {}, stock)
    live = max(4, sessions - ARRIVALS)
    name = f"{live} live sessions while {ARRIVALS} calls arrive in {ARRIVALS_S:g} s"
    add(report, name, arriving, ARRIVALS_MUST)
    for kind, outcome in peers.items():
        add(report, f"peer: {kind}, {peer_sessions} sessions", outcome, {})
        add_late(report, f"peer: {kind}: packets > 5 ms late", outcome, judged=False)
    report.notes.append(
        f"Kernel receive timestamps. Priority of the worker: {ours.priority}. "
        f"Ours sends {OUR_CODEC_NAME}, stock {STOCK_CODEC_NAME}."
    )
    _note_callers(report, ours, crowded, arriving)
    if plots is not None:
        from scripts.benchmarks import charts  # matplotlib is for who wants charts

        named = {"Backbeat": ours.window, "floor": floor.window} | {
            kind: outcome.window for kind, outcome in peers.items()
        }
        report.plots += charts.pacing(named, plots / "pacing.png")
    return report


def calibrate(sessions: int, seconds: float) -> Outcome:
    """What the callers see of a server that only sends."""
    with processes.responder() as server, recording.callers() as callers:
        return _measure(server, callers, sessions, seconds)


def run(kind: str, job: Job, sessions: int, seconds: float) -> Outcome:
    """One kind of server; the callers send nothing but reports."""
    with processes.start(kind, job) as server, recording.callers() as callers:
        callers.speak(False)
        return _measure(server, callers, sessions, seconds)


def _measure(
    server: processes.Server, callers: recording.CallerProcess, sessions: int, seconds: float
) -> Outcome:
    why = windows.place(server, callers, sessions)
    if why:
        return Outcome(None, why)
    priority = server.priority()
    return Outcome(windows.take(server, callers, sessions, seconds), "", priority)


def run_arrivals(live: int) -> Outcome:
    """Live calls in one process of callers, while another one places calls."""
    with (
        processes.start(ENGINE, Job(mode="talk")) as server,
        recording.callers() as callers,
        recording.callers(priority=False) as newcomers,
    ):
        callers.speak(False)
        newcomers.speak(False)
        why = windows.place(server, callers, live)
        if why:
            return Outcome(None, why)
        priority = server.priority()
        for attempt in range(1, windows.RETRIES + 2):
            with watch() as freezes:
                callers.begin()
                newcomers.post_call(server.url, ARRIVALS, gap_ms=ARRIVALS_S * 1000 / ARRIVALS)
                placed = newcomers.wait_call()
                time.sleep(0.5)
                seen = callers.end()
            window = Window(seen, live, {}, attempt, freezes)
            if placed["failed"]:
                return Outcome(
                    None, f"{placed['failed']} arriving calls failed: {placed['errors']}"
                )
            if not window.void:
                break
            newcomers.hang_up()
            time.sleep(1.0)
        return Outcome(window, "", priority)


def add(
    report: Report,
    name: str,
    outcome: Outcome,
    must: dict[str, float],
    peer: Window | None = None,
) -> None:
    """Add the interval errors of a window, or why there is none."""
    window = outcome.window
    if window is None:
        report.put(name, "ms", {}, 0, must=must, void=f"not held: {outcome.why[:60]}")
        if outcome.why:
            report.notes.append(f"{name}: {outcome.why}")
        return
    pace = window.pace
    values = {"p50": pace.p50_ms, "p99": pace.p99_ms, "max": pace.max_ms}
    ratio = peer.pace.p99_ms / pace.p99_ms if peer and pace.p99_ms else None
    report.put(name, "ms", values, pace.packets, must=must, ratio=ratio, void=window.void)
    report.notes.append(f"{name}: {window.about_freezes}.")
    if not window.held or pace.skipped_ms:
        report.notes.append(
            f"{name}: the worst caller got {window.shares[0]:.1%} of its packets; "
            f"{pace.lost} packets lost, {pace.skipped_ms:.0f} ms of audio skipped in all."
        )


def add_late(report: Report, name: str, outcome: Outcome, *, judged: bool = True) -> None:
    """Add the share of packets that came more than 5 ms behind their schedule."""
    window = outcome.window
    if window is not None:
        must = LATE_MUST_PERCENT if judged else None
        percent = 100 * window.pace.late_share
        report.put(name, "%", percent, window.pace.packets, must=must, void=window.void)


def _note_callers(report: Report, *outcomes: Outcome) -> None:
    for outcome in outcomes:
        if outcome.window is not None:
            p50, p99, worst = outcome.window.own_lateness_ms
            facts = outcome.window.recording.facts
            report.notes.append(
                f"Callers: {facts['priority']}, {facts['timer']}; their own lateness "
                f"{p50:.2f} / {p99:.2f} / {worst:.1f} ms (p50 / p99 / max)."
            )
            return
