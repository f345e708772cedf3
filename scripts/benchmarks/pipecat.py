"""The same Pipecat bot on our transport and on Pipecat's own.

CPU, stalls, a thread that spins, barge-in, and how long a client waits for its bot. Both are one
process with a FastAPI application and a Pipecat pipeline for each caller; of ours the engine is
the one that the transport starts for itself, in a process of the same tree.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import httpx
import numpy as np

from scripts.benchmarks import flush, processes, ready, recording, stall, windows, wire
from scripts.benchmarks.job import Job
from scripts.benchmarks.processes import ALONE, ON_BACKBEAT, PIPECAT, cpu_of
from scripts.benchmarks.report import Report
from scripts.benchmarks.windows import FRAMES_PER_S, say

if TYPE_CHECKING:
    from collections.abc import Collection

    from scripts.benchmarks.windows import Window

PARTS = ("cpu", "stall", "spin", "flush", "ready")
BLOCK_MS = 200.0
LATE_MS = 60.0
SPIN_TRIES = 3
SPIN_S = 5.0
READY_CALLS = 20
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
        report.attempt("both ways", lambda: _cpu(report, sessions, seconds))
    for kind in (ON_BACKBEAT, PIPECAT):
        prefix = "" if kind == ON_BACKBEAT else f"peer: {kind}: "
        tell = partial(_measure, report, kind, prefix, sessions, seconds, flushes)
        for part in PARTS[1:]:
            if part in parts:
                report.attempt(f"{prefix}{part}", partial(tell, part))
    return report


def _measure(
    report: Report,
    kind: str,
    prefix: str,
    sessions: int,
    seconds: float,
    flushes: int,
    part: str,
) -> None:
    judged = kind == ON_BACKBEAT
    if part == "stall":
        _stall(report, kind, prefix, sessions, seconds, judged=judged)
    elif part == "spin":
        _spin(report, kind, prefix, min(seconds, SPIN_S), judged=judged)
    elif part == "flush":
        _flush(report, kind, prefix, sessions, flushes, judged=judged)
    else:
        ready.add(report, kind, prefix, READY_CALLS, judged=judged)


def _take(kind: str, job: Job, sessions: int, seconds: float) -> Window | str:
    """A window with calls on one kind of server, each a probe; or why there is none, twice."""
    found = _take_once(kind, job, sessions, seconds)
    if isinstance(found, str):
        say(f"not held: {found}")
        found = _take_once(kind, job, sessions, seconds)
    return found


def _take_once(kind: str, job: Job, sessions: int, seconds: float) -> Window | str:
    with processes.start(kind, job) as server, recording.callers() as callers:
        callers.speak(job.mode != "talk")
        why = windows.place(server, callers, sessions, probes=sessions)
        if not why and job.burn_when_told:
            httpx.post(f"{server.url}/api/burn", timeout=20)
            time.sleep(windows.SETTLE_S)
        return why or windows.take(server, callers, sessions, seconds)


# -- CPU ------------------------------------------------------------------------------------


def _cpu(report: Report, sessions: int, seconds: float) -> None:
    """Media by media: ours are engine and workers, stock's what the pipeline alone does not use.

    With as many sessions as stock holds, and with all of `sessions`.
    """
    counts = sorted({max(1, sessions * part // 4) for part in (1, 2, 3, 4)})
    stock = _held(PIPECAT, counts, seconds)
    holds = max(stock, default=0)
    alone_us = _alone_us(holds, seconds) if holds else 0.0
    stock_us = stock[holds].cpu_us() if holds else None
    media_us = stock_us - alone_us if stock_us is not None else None
    ours = _held(ON_BACKBEAT, sorted({holds or sessions, sessions}), seconds)
    for count in sorted({holds or sessions, sessions}):
        window = ours.get(count)
        name = f"{count} sessions both ways: "
        must = media_us * MUST_CPU if media_us is not None else None
        what = f"{name}media (engine and workers), per session and 20 ms"
        if window is None:
            report.put(what, "µs", {}, 0, must=must, void="not held")
            continue
        media, bot = window.cpu_us("workers"), window.cpu_us("bot")
        packets, void = window.pace.packets, window.void
        ratio = media_us / media if media_us is not None and media else None
        report.put(what, "µs", media, packets, must=must, ratio=ratio, void=void)
        report.put(f"{name}the bot's process", "µs", bot, packets, void=void)
        ratio = stock_us / (media + bot) if stock_us is not None else None
        report.put(f"{name}all of it", "µs", media + bot, packets, ratio=ratio, void=void)
    if stock_us is None or media_us is None:
        report.put(f"peer: {PIPECAT}: {counts[0]} sessions", "µs", {}, 0, void="not held")
        return
    packets, void = stock[holds].pace.packets, stock[holds].void
    name = f"peer: {PIPECAT}: {holds} sessions both ways: "
    report.put(f"{name}media, per session and 20 ms", "µs", media_us, packets, void=void)
    report.put(f"{name}the whole process", "µs", stock_us, packets, void=void)
    report.put(f"peer: {ALONE}: {holds} pipelines", "µs", alone_us, packets)
    report.notes.append(
        f"{PIPECAT} held {holds} sessions both ways (every caller got 99.5 % of its packets; tried "
        f"were {', '.join(map(str, counts))}). Its media is its process less the same pipeline "
        "on a transport that brings and takes speech in real time and does nothing else, measured "
        "in the same run."
    )


def _held(kind: str, counts: list[int], seconds: float) -> dict[int, Window]:
    """The windows that were held, by sessions: one server, more and more calls."""
    found: dict[int, Window] = {}
    live = 0
    with processes.start(kind, Job(mode="both")) as server, recording.callers() as callers:
        for count in counts:
            say(f"{kind}, both ways, {count} sessions")
            why = windows.place(server, callers, count - live)
            live = count
            if why:
                say(f"not held: {why}")
                break
            window = windows.take(server, callers, count, seconds)
            if not window.held:
                say(f"not held: {window.shares[0]:.1%} came")
                break
            found[count] = window
    return found


def _alone_us(pipelines: int, seconds: float) -> float:
    """CPU per pipeline and 20 ms in µs, without any media."""
    say(f"{ALONE}, {pipelines} pipelines")
    with processes.dialler(ALONE, Job(mode="both")) as server:
        order = {"uri": "none:", "count": pipelines}
        httpx.post(f"{server.url}/api/dial", json=order, timeout=60).raise_for_status()
        time.sleep(windows.SETTLE_S)
        parts = server.parts()
        began, before = time.monotonic(), sum(cpu_of(parts).values())
        time.sleep(seconds)
        took, used = time.monotonic() - began, sum(cpu_of(parts).values()) - before
    return used * 1e6 / (took * FRAMES_PER_S * pipelines)


# -- the beat -------------------------------------------------------------------------------


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
    late = sum(_late(stream, window.frozen) for stream in window.recording.streams)
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


def _late(stream: wire.Stream, frozen: wire.Ints) -> int:
    """Packets that came too late, unless the machine stood still so long."""
    behind = wire.behind_ms(stream)[1:]
    excused = wire.explained(stream.arrival_ns[:-1], stream.arrival_ns[1:], behind, frozen)
    return int(np.count_nonzero((behind > LATE_MS) & ~excused))


def _spin(report: Report, kind: str, prefix: str, seconds: float, *, judged: bool) -> None:
    """One call while a thread of the bot never gives its GIL up by itself."""
    missing: list[float] = []
    void = failed = ""
    for number in range(1, SPIN_TRIES + 1):
        say(f"{kind}, a thread spins, run {number}")
        window = _take(kind, Job(mode="talk", burn=1.0, burn_when_told=True), 1, seconds)
        if isinstance(window, str):
            report.notes.append(f"{kind}, a thread spins, run {number}: not held: {window}")
            failed = f"not held: {window[:60]}"
            continue
        due = window.recording.seconds * FRAMES_PER_S - 1
        heard = sum(len(probe.pcm) for probe in window.recording.probes)
        silent = sum(map(stall.silent_packets, window.recording.probes))
        missing.append(100 * max(0.0, 1 - (heard - silent) / due))
        void = void or window.void
    name = f"{prefix}one call, a thread of the bot spins: audio missing"
    must = {"max": MUST_MISSING_PERCENT} if judged else {}
    if not missing:
        report.put(name, "%", {}, 0, must=must, void=failed)
        return
    values = {"p50": float(np.median(missing)), "max": max(missing)}
    report.put(name, "%", values, len(missing), must=must, void=void)


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
