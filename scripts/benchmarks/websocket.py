"""Dialled WebSockets beside Pipecat's WebsocketClientTransport: CPU, the beat, barge-in, TLS.

Protobuf, 24 kHz out and 16 kHz in, chunks of 40 ms, no compression and no WAV headers on either
side; speech reaches either framework in pieces of half a second. The far end is a process of the
bench: it reads, and says speech on a timer of its own. It is not counted.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np

from scripts.benchmarks import (
    far_ends,
    flush,
    flush_log,
    pacing,
    processes,
    recording,
    speech,
    windows,
    wire,
)
from scripts.benchmarks.far_ends import OUT_HZ, far_end
from scripts.benchmarks.job import Job
from scripts.benchmarks.processes import ENGINE, PIPECAT
from scripts.benchmarks.report import Report
from scripts.benchmarks.windows import say
from tests.fakes.authority import Authority

if TYPE_CHECKING:
    from collections.abc import Collection

    from scripts.benchmarks.far_ends import Seen, Window
    from scripts.benchmarks.flush_log import Timings

PARTS = ("cpu", "stall", "flush", "tls")
BLOCK_MS = 200.0
CHUNK_MS = 40.0
FLUSH_SESSIONS = 8
SPEAK_S = 0.5
MUST_CPU = 1 / 3
MUST_STALL_MS = 2.0
MUST_FLUSH_MS = CHUNK_MS + 5
MUST_TLS_MS = 2.0
# Of the live calls beside TLS: how many, and what the worker dials meanwhile.
TLS_CALLS, TLS_TALKS, TLS_REDIALS = 32, 8, 4
TLS_HZ, TLS_CHANNELS = 48_000, 2
NS_PER_MS = 1_000_000
WHOLE_WITHIN_NS = 480 * NS_PER_MS
"""The known signal has left by then, and the next speech has not begun."""


@dataclass
class Load:
    """A window of one kind of bot, or why there is none."""

    kind: str
    sessions: int
    window: Window | None
    why: str = ""
    tried: list[str] = field(default_factory=list)

    @property
    def void(self) -> str:
        """Why it does not count; empty when it does."""
        if self.window is None:
            return f"not held: {self.why[:60]}"
        return self.window.void


def measure(
    sessions: int,
    stall_sessions: int,
    flushes: int,
    seconds: float,
    parts: Collection[str] = PARTS,
) -> Report:
    """Those of `PARTS` that are asked for; the peer gets as many sessions as it holds."""
    report = Report("Dialled WebSockets, protobuf, 24 kHz out, 16 kHz in, chunks of 40 ms")
    peer = processes.has_pipecat()
    if not peer:
        report.notes.append(processes.NO_PIPECAT)
    holds = [sessions]
    if "cpu" in parts:
        report.attempt(
            "talk and listen", lambda: holds.append(_cpu(report, sessions, seconds, peer=peer))
        )
    if "stall" in parts:
        report.attempt(
            "the bot blocks",
            lambda: _stall(report, stall_sessions, holds[-1], seconds, peer=peer),
        )
    if "flush" in parts:
        for kind in (ENGINE, PIPECAT) if peer else (ENGINE,):
            report.attempt(f"{kind}: flush", partial(_flush, report, kind, flushes))
    if "tls" in parts:
        report.attempt("calls beside TLS", lambda: _tls(report, seconds))
    return report


def run(kind: str, job: Job, sessions: int, seconds: float) -> Load:
    """One kind of bot with so many sessions."""
    say(f"{kind}, {sessions} sessions, {job.mode}{', blocked' if job.block_ms else ''}")
    with far_end() as far, processes.dialler(kind, job) as server:
        far.speak(False)  # Pipecat goes deaf by audio that comes before its pipeline has started
        why = far_ends.dial(server, far, sessions)
        if why:
            return Load(kind, sessions, None, why)
        far.speak(job.mode == "both")
        time.sleep(SPEAK_S)
        return Load(kind, sessions, far_ends.take(server, far, sessions, seconds))


def calibrate(sessions: int, seconds: float) -> Window:
    """What the far end sees of connections that only send, on time."""
    say("calibrating the far end against the empty dialler")
    with far_end() as far:
        port = far.state()["port"]
        with processes.empty_dialler(port, sessions):
            return far_ends.take(None, far, sessions, seconds)


# -- CPU ------------------------------------------------------------------------------------


def _cpu(report: Report, sessions: int, seconds: float, *, peer: bool) -> int:
    """The rows of CPU; how many sessions the peer holds."""
    ours = run(ENGINE, Job(mode="both", hz=OUT_HZ), sessions, seconds)
    theirs = _as_many_as_it_holds(sessions, seconds) if peer else None
    name = f"talk and listen, {sessions} sessions"
    window, stock = ours.window, theirs.window if theirs is not None else None
    peer_us = stock.cpu_us() if stock is not None and not stock.void else None
    if window is not None and not window.held:
        ours.why, window = f"a session got {window.shares[0]:.1%} of its audio", None
    if window is None:
        report.put(f"{name}: engine, workers and bot", "µs", {}, 0, void=f"not held: {ours.why}")
    else:
        count, void = window.pace.messages, window.void
        all_us = window.cpu_us()
        report.put(
            f"{name}: engine, workers and bot, per session and 20 ms",
            "µs",
            all_us,
            count,
            must=peer_us * MUST_CPU if peer_us is not None else None,
            ratio=peer_us / all_us if peer_us is not None else None,
            void=void,
        )
        for part, names in (("engine and workers", ("engine", "workers")), ("bot", ("bot",))):
            used = window.cpu_us(*names)
            ratio = peer_us / used if peer_us is not None and used else None
            report.put(f"{name}: of it {part}", "µs", used, count, ratio=ratio, void=void)
        _add_rate(report, f"{name}: ", window)
        report.notes.append(f"{ENGINE}, both ways: {window.about}.")
        report.notes.append(f"Times of arrival: {window.seen.stamps}.")
    if theirs is None:
        return sessions
    _add_peer(report, theirs)
    return theirs.sessions


def _as_many_as_it_holds(sessions: int, seconds: float) -> Load:
    """The peer with `sessions`, or with half of them, and so on."""
    tried: list[str] = []
    while True:
        load = run(PIPECAT, Job(mode="both", hz=OUT_HZ), sessions, seconds)
        load.tried = tried
        if sessions <= 1 or (load.window is not None and load.window.held):
            return load
        least = "" if load.window is None else f"{load.window.shares[0]:.1%} came"
        tried.append(f"{sessions} sessions were not held ({load.why[:80] or least})")
        sessions //= 2


def _add_peer(report: Report, load: Load) -> None:
    name = f"peer: {load.kind}: talk and listen, {load.sessions} sessions"
    window = load.window
    if window is None:
        report.put(f"{name}: the process", "µs", {}, 0, void=load.void)
        return
    count = window.pace.messages
    report.put(
        f"{name}: the process, per session and 20 ms",
        "µs",
        window.cpu_us(),
        count,
        void=window.void,
    )
    _add_rate(report, f"{name}: ", window)
    for text in load.tried:
        report.notes.append(f"{load.kind}: {text}.")
    report.notes.append(f"{load.kind}, both ways: {window.about}.")


def _add_rate(report: Report, prefix: str, window: Window) -> None:
    pace = window.pace
    report.put(f"{prefix}the streams run slow by", "%", 100 * pace.slow, pace.messages)


# -- the beat -------------------------------------------------------------------------------


def _stall(report: Report, sessions: int, holds: int, seconds: float, *, peer: bool) -> None:
    floor = calibrate(sessions, seconds / 2)
    _add_pace(report, f"floor: {sessions} streams of the empty dialler", floor, judged=False)
    job = Job(mode="talk", block_ms=BLOCK_MS, hz=OUT_HZ)
    what = f"the bot blocks {BLOCK_MS:g} ms a second"
    for kind in (ENGINE, PIPECAT) if peer else (ENGINE,):
        ours = kind == ENGINE
        load = run(kind, job, sessions if ours else holds, seconds)
        name = f"{'' if ours else f'peer: {kind}: '}{load.sessions} sessions, {what}"
        if load.window is None:
            must = {"p99": MUST_STALL_MS} if ours else {}
            report.put(f"{name}: |interval - 40 ms|", "ms", {}, 0, must=must, void=load.void)
            continue
        _add_pace(report, name, load.window, judged=ours)
        _add_rate(report, f"{name}: ", load.window)
        if ours:
            drift = np.abs(load.window.pace.drift_ppm)
            values = {"p50": float(np.median(drift)), "max": float(drift.max(initial=0))}
            report.put(f"{name}: drift", "ppm", values, len(drift), void=load.window.void)


def _add_pace(report: Report, name: str, window: Window, *, judged: bool) -> None:
    pace = window.pace
    values = {"p50": pace.p50_ms, "p99": pace.p99_ms, "max": pace.max_ms}
    must = {"p99": MUST_STALL_MS} if judged else {}
    report.put(
        f"{name}: |interval - 40 ms|", "ms", values, pace.messages, must=must, void=window.void
    )
    report.put(f"{name}: gaps > 45 ms", "", pace.gaps, pace.messages, void=window.void)
    report.notes.append(f"{name}: {window.about}.")


# -- barge-in -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cut:
    """One flush as the far end saw it."""

    latency_ms: float
    queued_ms: float
    whole: bool


def _flush(report: Report, kind: str, flushes: int) -> None:
    """`flush()` of a session, or an InterruptionFrame at the output of a pipeline."""
    say(f"{kind}, flushes, {FLUSH_SESSIONS} sessions")
    ours = kind == ENGINE
    window, found = _flushes(kind, flushes)
    what = "flush()" if ours else "InterruptionFrame at the output"
    name = f"{'' if ours else f'peer: {kind}: '}{what} to the last audio message"
    must = {"p99": MUST_FLUSH_MS} if ours else {}
    if not found:
        void = window if isinstance(window, str) else window.void
        report.put(name, "ms", {}, 0, must=must, void=void or "no flush seen")
        return
    assert not isinstance(window, str)
    p50, p99, worst = np.percentile([cut.latency_ms for cut in found], (50, 99, 100))
    values = {"p50": float(p50), "p99": float(p99), "max": float(worst)}
    report.put(name, "ms", values, len(found), must=must, void=window.void)
    torn = sum(not cut.whole for cut in found)
    prefix = name.removesuffix(f"{what} to the last audio message")
    none = 0.0 if ours else None
    report.put(f"{prefix}speech after it not whole", "flushes", torn, len(found), must=none)
    queued = np.median([cut.queued_ms for cut in found])
    report.notes.append(
        f"{kind}: {len(found)} flushes with {queued:.0f} ms queued (median); "
        f"{window.seen.interruptions} interruption messages came."
    )


def _flushes(kind: str, flushes: int) -> tuple[Window | str, list[Cut]]:
    seconds = flush.seconds_for(FLUSH_SESSIONS, flushes)
    with tempfile.TemporaryDirectory(prefix="bbflush-") as directory:
        job = Job(mode="flush", log=directory, hz=OUT_HZ)
        with far_end() as far, processes.dialler(kind, job) as server:
            far.speak(False)
            why = far_ends.dial(server, far, FLUSH_SESSIONS)
            if why:
                return f"not held: {why[:60]}", []
            window = far_ends.take(server, far, FLUSH_SESSIONS, seconds)
            timings = flush_log.read(Path(directory))
    return window, cuts(window.seen, timings)


def cuts(seen: Seen, timings: list[Timings]) -> list[Cut]:
    """What each flush in the window looks like to the far end."""
    streams = {stream.link: stream for stream in seen.streams}
    arrivals = {
        link: wire.to_monotonic(stream.arrival_ns, seen.begin, seen.end)
        for link, stream in streams.items()
    }
    due = len(speech.known_signal(OUT_HZ))
    found = []
    for flushed in timings:
        inside = (
            flushed.before_ns - flush.BEFORE_NS > seen.begin.monotonic_ns
            and flushed.resumed_ns + WHOLE_WITHIN_NS < seen.end.monotonic_ns
        )
        if not inside or flushed.caller not in streams:
            continue
        at_ns = arrivals[flushed.caller]
        near = at_ns[(at_ns > flushed.before_ns - flush.BEFORE_NS) & (at_ns < flushed.resumed_ns)]
        last_ns = int(near[-1]) if len(near) else flushed.before_ns
        after = (at_ns >= flushed.resumed_ns) & (at_ns < flushed.resumed_ns + WHOLE_WITHIN_NS)
        heard = int(streams[flushed.caller].samples[after].sum())
        latency_ms = max(0.0, (last_ns - flushed.before_ns) / NS_PER_MS)
        found.append(Cut(latency_ms, flushed.queued_ms, heard >= due))
    return found


# -- TLS ------------------------------------------------------------------------------------


def _tls(report: Report, seconds: float) -> None:
    """Live calls on a worker that talks to a TLS far end and dials it again and again."""
    say(f"{TLS_CALLS} calls on a worker that dials a TLS far end")
    names = [
        f"{TLS_CALLS} calls, no WebSocket: |interval - 20 ms|",
        f"{TLS_CALLS} calls beside {TLS_TALKS} TLS sessions and {TLS_REDIALS} that are redialled: "
        "|interval - 20 ms|",
    ]
    musts: list[dict[str, float]] = [{}, {"p99": MUST_TLS_MS}]
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="bbtls-") as directory:
        authority = Authority(Path(directory))
        authority.server()  # writes its chain
        options = ["--bot", str(processes.HERE / "bots.py"), "--tls-ca-file", str(authority.file)]
        with (
            far_end(
                tls=Path(directory) / "localhost.pem",
                hz=TLS_HZ,
                channels=TLS_CHANNELS,
                priority=False,
            ) as far,
            processes.engine(*options, job=Job(mode="talk")) as server,
            processes.dialling_bot(server, Job(mode="both", hz=OUT_HZ)) as bot,
            recording.callers() as callers,
        ):
            callers.speak(False)
            why = windows.place(server, callers, TLS_CALLS)
            if not why:
                alone = windows.take(server, callers, TLS_CALLS, seconds / 2)
                outcomes.append(pacing.Outcome(alone))
                why = far_ends.dial(bot, far, TLS_TALKS)
            if not why:
                why = far_ends.dial(bot, far, TLS_REDIALS, again=True, first=TLS_TALKS)
            if not why:
                before, began = far.state()["ended"], time.monotonic()
                window = windows.take(server, callers, TLS_CALLS, seconds)
                outcomes.append(pacing.Outcome(window))
                dials = (far.state()["ended"] - before) / (time.monotonic() - began)
                errors = httpx.get(f"{bot.url}/api/dialled", timeout=20).json()["errors"]
                report.notes.append(
                    f"TLS: {dials:.1f} dials a second, "
                    f"audio of {TLS_HZ} Hz with {TLS_CHANNELS} channels from the far end on all "
                    f"its connections, speech to it; {len(errors)} dials failed."
                )
    outcomes += [pacing.Outcome(None, why)] * (len(names) - len(outcomes))
    for name, outcome, must in zip(names, outcomes, musts, strict=True):
        pacing.add(report, name, outcome, must)
