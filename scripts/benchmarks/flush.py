"""Barge-in: from the call of `flush()` to the last audible packet on the wire.

Each caller is a probe: it decodes what it heard. A packet is audible when it decodes to more
than -50 dB of full scale; its first 5 ms do not count, they are the codec's overlap with the
packet before. Bot and bench read one clock; the kernel's times of arrival are converted to it.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scripts.benchmarks import flush_log, processes, recording, speech, windows, wire
from scripts.benchmarks.job import Job
from scripts.benchmarks.processes import ENGINE, STOCK
from scripts.benchmarks.report import Report
from scripts.benchmarks.windows import say

if TYPE_CHECKING:
    from scripts.benchmarks.flush_log import Timings
    from scripts.benchmarks.recording import Heard, Recording

AUDIBLE_DB = -50.0
OVERLAP_SAMPLES = 240
PACKET_SAMPLES = 960
MUST_MS = 5.0
BEFORE_NS = 500_000_000
HEARD_AFTER_NS = 650_000_000
MUCH_QUEUED_MS = 700.0
BLOCK_SAMPLES = 960
FIRST = 480
LIKE = 0.5
"""Least correlation of decoded speech with what was given to the codec; the codecs reach 0.9."""
HOLE_DB = 12.0
"""A piece of decoded speech that is so much quieter than what was given is a hole."""
NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Cut:
    """One flush as the wire shows it."""

    latency_ms: float
    call_us: float
    queued_ms: float
    later_packets: int
    whole: bool
    exact: bool


def measure(sessions: int, flushes: int) -> Report:
    """At least `flushes` flushes over `sessions` calls on each kind of server."""
    report = Report("Flush: from the call to the last audible packet, about 1 s queued")
    for kind in (ENGINE, STOCK):
        say(f"{kind}, {sessions} sessions")
        cuts, void = run(kind, sessions, flushes)
        _add(report, kind, cuts, void)
    report.notes.append(
        "Audible: decoded, above -50 dB of full scale; a flush whose last audible packet left "
        "before the call counts 0. The stock bot's flush clears the queue of its own track. "
        "Pipecat's interruption is a frame in a pipeline: `transport` measures it."
    )
    return report


def run(kind: str, sessions: int, flushes: int) -> tuple[list[Cut], str]:
    """The flushes of one kind of server, and why they do not count."""
    seconds = seconds_for(sessions, flushes)
    with tempfile.TemporaryDirectory(prefix="bbflush-") as directory:
        job = Job(mode="flush", log=directory)
        with processes.start(kind, job) as server, recording.callers() as callers:
            callers.speak(False)
            why = windows.place(server, callers, sessions, probes=sessions)
            if why:
                return [], f"not held: {why[:60]}"
            window = windows.take(server, callers, sessions, seconds)
            timings = flush_log.read(Path(directory))
    return cuts(window.recording, timings), window.void


def seconds_for(sessions: int, flushes: int) -> float:
    """How long so many flushes take at least."""
    return max(6.0, 1.9 * (flushes / sessions + 1.5))


def _add(report: Report, kind: str, cuts: list[Cut], void: str) -> None:
    prefix = "" if kind == ENGINE else f"peer: {kind}: "
    add(report, prefix, "flush()", cuts, void, judged=kind == ENGINE)
    if not cuts:
        return
    took = np.percentile([cut.call_us for cut in cuts], (50, 99))
    inexact = sum(not cut.exact for cut in cuts)
    report.notes.append(
        f"{kind}: {about(cuts)}; the call itself took "
        f"{took[0]:.0f} µs (p50), {took[1]:.0f} µs (p99); {inexact} answers were not exact."
    )


def add(
    report: Report, prefix: str, what: str, cuts: list[Cut], void: str, *, judged: bool
) -> None:
    """Add how long after `what` something was heard, and whether what came then was whole."""
    if not cuts:
        must: dict[str, float] = {"p99": MUST_MS} if judged else {}
        report.put(
            f"{prefix}last audible packet", "ms", {}, 0, must=must, void=void or "no flush seen"
        )
        return
    count = len(cuts)
    latency = np.array([cut.latency_ms for cut in cuts])
    p50, p90, p99, worst = (float(v) for v in np.percentile(latency, (50, 90, 99, 100)))
    report.put(
        f"{prefix}{what} to the last audible packet",
        "ms",
        {"p50": p50, "p90": p90, "p99": p99, "max": worst},
        count,
        must={"p99": MUST_MS} if judged else None,
        void=void,
    )
    later = sum(cut.later_packets for cut in cuts)
    none = 0.0 if judged else None
    report.put(f"{prefix}audible packets > 5 ms after it", "", later, count, must=none)
    torn = sum(not cut.whole for cut in cuts)
    report.put(f"{prefix}speech after it not whole", "flushes", torn, count, must=none)


def about(cuts: list[Cut]) -> str:
    """How many flushes there were, and how much they found."""
    queued = np.median([cut.queued_ms for cut in cuts])
    return f"{len(cuts)} flushes with {queued:.0f} ms queued (median)"


def cuts(seen: Recording, timings: list[Timings]) -> list[Cut]:
    """What each flush in the window looks like on the wire of its caller."""
    probes = {probe.caller: probe for probe in seen.probes}
    arrivals = {
        caller: wire.to_monotonic(probe.arrival_ns, seen.begin, seen.end)
        for caller, probe in probes.items()
    }
    end_ns = seen.end.monotonic_ns
    return [
        _cut(probes[t.caller], arrivals[t.caller], t)
        for t in timings
        if t.caller in probes
        and t.before_ns - BEFORE_NS > seen.begin.monotonic_ns
        and t.resumed_ns + HEARD_AFTER_NS < end_ns
    ]


def _cut(probe: Heard, arrival_ns: wire.Ints, timings: Timings) -> Cut:
    near = np.flatnonzero(
        (arrival_ns > timings.before_ns - BEFORE_NS) & (arrival_ns < timings.resumed_ns)
    )
    loud = near[[audible(probe.pcm[index]) for index in near]]
    last_ns = int(arrival_ns[loud[-1]]) if len(loud) else timings.before_ns
    latency_ms = max(0.0, (last_ns - timings.before_ns) / NS_PER_MS)
    later = int(np.count_nonzero(arrival_ns[loud] > timings.after_ns + MUST_MS * NS_PER_MS))
    after = (arrival_ns >= timings.resumed_ns) & (arrival_ns < timings.resumed_ns + HEARD_AFTER_NS)
    return Cut(
        latency_ms=latency_ms,
        call_us=(timings.after_ns - timings.before_ns) / 1000,
        queued_ms=timings.queued_ms,
        later_packets=later,
        whole=is_whole(speech.known_signal(), probe.pcm[after].reshape(-1)),
        exact=timings.exact,
    )


def audible(packet: speech.Samples) -> bool:
    """Whether a decoded packet (960 samples) can be heard, its overlap left out."""
    tail = packet[OVERLAP_SAMPLES:]
    return bool(speech.frames_db(tail, len(tail))[0] > AUDIBLE_DB)


def is_whole(signal: speech.Samples, heard: speech.Samples) -> bool:
    """Whether decoded speech contains all of `signal`: its first 10 ms, no hole, the whole."""
    if len(heard) < len(signal):
        return False
    at = _align(signal, heard)
    piece = heard[at : at + len(signal)]
    if len(piece) < len(signal) - PACKET_SAMPLES // 2:
        return False
    given = signal[: len(piece)]
    if min(likeness(given[:FIRST], piece[:FIRST]), likeness(given, piece)) < LIKE:
        return False
    quieter = speech.frames_db(given, BLOCK_SAMPLES) - speech.frames_db(piece, BLOCK_SAMPLES)
    return bool(quieter.max() < HOLE_DB)


def likeness(one: speech.Samples, other: speech.Samples) -> float:
    """Correlation of two pieces of the same length, -1 to 1; 0 when one is silent."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    energy = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / energy if energy > 0 else 0.0


def _align(signal: speech.Samples, heard: speech.Samples) -> int:
    """Where in `heard` the signal begins."""
    size = 1 << (len(signal) + len(heard)).bit_length()
    spectrum = np.fft.rfft(heard.astype(np.float64), size)
    spectrum *= np.conj(np.fft.rfft(signal.astype(np.float64), size))
    return int(np.argmax(np.fft.irfft(spectrum, size)[: len(heard)]))
