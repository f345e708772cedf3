"""Memory of a session: engine, workers and its segment, by the slope between few and many calls."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.benchmarks import processes, recording, windows
from scripts.benchmarks.job import Job
from scripts.benchmarks.processes import ENGINE, PIPECAT, STOCK
from scripts.benchmarks.report import Report
from scripts.benchmarks.windows import MIB, say

if TYPE_CHECKING:
    import psutil

    from scripts.benchmarks.processes import Server

MUST_MIB = {48_000: 1.0, 16_000: 0.7}
SPOKEN_S = 0.5
SETTLE_S = 1.0
SEGMENT = re.compile(r"^[0-9a-f]+-[0-9a-f]+ .*/dev/shm/(bb[0-9a-f]+)")
SIZE = re.compile(r"^Size: +(\d+) kB")


def measure(few: int, many: int) -> Report:
    """The slope between `few` and `many` sessions, at 48 and at 16 kHz."""
    report = Report(f"Memory per session (slope from {few} to {many} sessions)")
    if not Path("/proc/self/smaps").exists():
        report.notes.append("Memory is measured on Linux only: other systems have no smaps.")
        return report
    for hz in MUST_MIB:
        say(f"{ENGINE}, {hz // 1000} kHz")
        with processes.start(ENGINE, Job(mode="both", hz=hz)) as server:
            slopes, why = _slopes(server, few, many)
        name = f"worker + engine + segment, {hz // 1000} kHz"
        if why:
            report.put(name, "MiB", {}, 0, must=MUST_MIB[hz], void=f"not held: {why[:60]}")
            report.notes.append(why)
            continue
        private, segment = slopes["engine"] + slopes["workers"], slopes["segments"]
        report.put(name, "MiB", private + segment, many, must=MUST_MIB[hz])
        report.put(f"of that: the segment, {hz // 1000} kHz", "MiB", segment, many)
        report.put(f"besides: the bot's process, {hz // 1000} kHz", "MiB", slopes["bots"], many)
    for kind in (STOCK, PIPECAT):
        if kind == PIPECAT and not processes.has_pipecat():
            report.notes.append(processes.NO_PIPECAT)
            continue
        say(kind)
        with processes.start(kind, Job(mode="both")) as server:
            slopes, why = _slopes(server, few, many)
        if why:
            report.put(f"peer: {kind}", "MiB", {}, 0, void=f"not held: {why[:60]}")
        else:
            report.put(f"peer: {kind}, bot and media", "MiB", slopes["bot"], many)
    report.notes.append(
        "Private memory (USS) of the processes, and the whole size of the shared segments, each "
        f"counted once. Every caller has spoken for {SPOKEN_S:g} s."
    )
    return report


def _slopes(server: Server, few: int, many: int) -> tuple[dict[str, float], str]:
    with recording.callers() as callers:
        sizes: list[dict[str, float]] = []
        live = 0
        callers.speak(False)
        for count in (few, many):
            why = windows.place(server, callers, count - live)
            if why:
                return {}, why
            live = count
            callers.speak(True)  # so that every buffer of the receiving side is there
            time.sleep(SPOKEN_S)
            callers.speak(False)
            time.sleep(SETTLE_S)
            sizes.append(_sizes(server))
    return {name: (sizes[1][name] - sizes[0][name]) / (many - few) for name in sizes[0]}, ""


def _sizes(server: Server) -> dict[str, float]:
    """Private MiB by part, and the MiB of shared segments."""
    parts = server.parts()
    found = {name: sum(map(_private_mib, members)) for name, members in parts.items()}
    if "workers" in parts:
        segments: dict[str, int] = {}
        for process in parts["workers"]:
            segments |= segments_of(Path(f"/proc/{process.pid}/smaps"))
        found["segments"] = sum(segments.values()) / MIB
    return found


def _private_mib(process: psutil.Process) -> float:
    return float(process.memory_full_info().uss) / MIB


def segments_of(smaps: Path) -> dict[str, int]:
    """Bytes of each shared segment of ours that a process maps (Linux)."""
    found: dict[str, int] = {}
    name = ""
    for line in smaps.read_text().splitlines():
        if mapped := SEGMENT.match(line):
            name = mapped[1]
        elif name and (size := SIZE.match(line)):
            found[name] = int(size[1]) * 1024
            name = ""
    return found
