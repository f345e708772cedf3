"""Echo: from a packet of speech that a caller sends to the packet that brings it back.

Each packet that came is decoded and found again in what was sent, by correlation: the newest
sample in it tells which packet it waited for. On loopback what lies between the two is the
server, from socket to socket: decoding, the ring, the bot's process and back, the beat.

A bot that plays all that it hears keeps whatever it was ever late with queued in front of it, for
good: that is the bot's own share. The engine's share is measured with a bot that drops a frame
while more than one waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scripts.benchmarks import processes, recording, speech, windows, wire
from scripts.benchmarks.job import Job
from scripts.benchmarks.processes import ENGINE, PIPECAT, STOCK
from scripts.benchmarks.report import Report
from scripts.benchmarks.windows import say

if TYPE_CHECKING:
    from scripts.benchmarks.recording import Heard, Recording

MUST_MS = {"p50": 25.0, "p99": 40.0}
KEEP_MS = 20.0
PACKET = 960
BLOCK_PACKETS = 2
LOOK_BACK_NS = 700_000_000
LIKE = 0.6
"""Least correlation of what came with what was sent; codecs reach 0.9."""
NS_PER_MS = 1_000_000


def measure(sessions: int, seconds: float) -> Report:
    """`sessions` callers on each kind of server, whose bot plays back what it hears."""
    report = Report("Echo: a caller's packet to the packet that brings it back")
    ours: list[float] = []
    for kind, keep_ms in ((ENGINE, KEEP_MS), (ENGINE, 0.0), (STOCK, 0.0), (PIPECAT, 0.0)):
        if kind == PIPECAT and not processes.has_pipecat():
            report.notes.append(processes.NO_PIPECAT)
            continue
        say(f"{kind}, {sessions} sessions")
        job = Job(mode="echo", keep_ms=keep_ms)
        with processes.start(kind, job) as server, recording.callers() as callers:
            why = windows.place(server, callers, sessions, probes=sessions)
            if why:
                report.put(f"{kind}: {sessions} calls", "", {}, 0, void=f"not held: {why[:60]}")
                continue
            window = windows.take(server, callers, sessions, seconds)
        took, packets = delays_ms(window.recording)
        _add(report, kind, took, window.void, ours if not keep_ms else None)
        ours = ours or took
        report.notes.append(
            f"{kind}: of {packets} packets {len(took)} were found again in what was sent; "
            f"{window.about_freezes}."
        )
    report.notes.append(
        "Socket to socket on loopback: all of it is the server's share, the bot's process and its "
        "frames of 20 ms included. A packet is due every 20 ms, which costs 10 ms on average "
        "alone. The caller's codec delay is on both sides of the comparison."
    )
    return report


def _add(report: Report, kind: str, took: list[float], void: str, ours: list[float] | None) -> None:
    """`ours` is the engine's share; None: this is it."""
    if not took:
        report.put(f"{kind}: echo, wire to wire", "ms", {}, 0, void=void or "nothing came back")
        return
    p50, p90, p99, worst = (float(value) for value in np.percentile(took, (50, 90, 99, 100)))
    values = {"p50": p50, "p90": p90, "p99": p99, "max": worst}
    if ours is None:
        name = "echo, wire to wire, the engine's share"
        report.put(name, "ms", values, len(took), must=MUST_MS, void=void)
        return
    if kind == ENGINE:
        name = "echo, wire to wire, with what the bot has queued"
        report.put(name, "ms", values, len(took), void=void)
        return
    ratio = p50 / float(np.median(ours)) if ours else None
    name = f"peer: {kind}: echo, wire to wire"
    report.put(name, "ms", values, len(took), ratio=ratio, void=void)


def delays_ms(seen: Recording) -> tuple[list[float], int]:
    """The delay of every packet that could be found again, and how many there were."""
    took: list[float] = []
    packets = 0
    for probe in seen.probes:
        arrival_ns = wire.to_monotonic(probe.arrival_ns, seen.begin, seen.end)
        took += of_probe(probe, arrival_ns)
        packets += len(probe.pcm)
    return took, packets


def of_probe(probe: Heard, arrival_ns: wire.Ints) -> list[float]:
    """The delays of one caller's packets."""
    indices, left_ns = probe.sent
    said = decoded(indices)
    heard = probe.pcm.reshape(-1).astype(np.float64)
    took: list[float] = []
    for packet in range(BLOCK_PACKETS, len(probe.pcm) + 1):
        came_ns = int(arrival_ns[packet - 1])
        first = int(np.searchsorted(left_ns, came_ns - LOOK_BACK_NS))
        last = int(np.searchsorted(left_ns, came_ns))
        if first == 0 or last - first <= BLOCK_PACKETS:
            continue  # what it brings back may have been sent before the window
        block = heard[(packet - BLOCK_PACKETS) * PACKET : packet * PACKET]
        at = find(block, said[first * PACKET : last * PACKET])
        if at is None:
            continue
        newest = first + (at + len(block) - 1) // PACKET
        took.append((came_ns - int(left_ns[newest])) / NS_PER_MS)
    return took


def decoded(indices: wire.Ints) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """What the packets of the speech sound like, in the order in which they were sent."""
    decoder, packets = speech.Decoder(), speech.packets()
    frames = [decoder.decode(packets[index]) for index in indices]
    return np.concatenate(frames).astype(np.float64) if frames else np.zeros(0)


def find(block: wire.Floats, within: wire.Floats) -> int | None:
    """Where the block is in the samples; None when nothing there is like it."""
    energy = float(np.dot(block, block))
    if energy == 0:
        return None
    size = 1 << (len(within) + len(block)).bit_length()
    product = np.fft.rfft(within, size) * np.conj(np.fft.rfft(block, size))
    places = len(within) - len(block) + 1
    likeness = np.fft.irfft(product, size)[:places]
    squares = np.concatenate(([0.0], np.cumsum(within**2)))
    there = squares[len(block) :][:places] - squares[:places]
    scores = likeness / np.sqrt(np.maximum(there, 1.0) * energy)
    best = int(np.argmax(scores))
    return best if scores[best] >= LIKE else None
