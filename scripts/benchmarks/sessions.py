"""CPU per session and 20 ms frame, all of the server's processes, at several numbers of calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scripts.benchmarks import processes, recording, speech, windows, yardstick
from scripts.benchmarks.job import OUR_CODEC, OUR_CODEC_NAME, STOCK_CODEC_NAME, Job, Mode
from scripts.benchmarks.processes import ENGINE, PIPECAT, STOCK
from scripts.benchmarks.report import Report
from scripts.benchmarks.windows import Window, say

if TYPE_CHECKING:
    from pathlib import Path

# µs of engine and workers per session and frame; both ways: 120 sessions on a core.
MUST_US = {"talk": 90.0, "both": 20_000 / 120}
MUST_ENGINE_PERCENT = 3.0
JUDGED_FROM = 50
"""Budgets hold for 50 to 100 sessions: caches are cold with few."""
WAYS: dict[Mode, str] = {"talk": "send only", "hear": "receive only", "both": "both ways"}
FRAME_US = 20_000
LATE_SHARE = 0.001


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement; `why` when the load was not held."""

    kind: str
    mode: Mode
    codec: str
    sessions: int
    window: Window | None
    why: str = ""

    @property
    def label(self) -> str:
        """What it is called in a chart."""
        codec = ", our codec" if self.codec else ""
        return f"{self.kind}, {WAYS[self.mode]}, {self.sessions} sessions{codec}"

    @property
    def total_us(self) -> float | None:
        """CPU of all processes, bots included; None when it does not count."""
        if self.window is None or self.window.void or not self.window.held:
            return None
        return self.window.cpu_us()


def measure(
    counts: list[int], peer_counts: list[int], seconds: float, plots: Path | None
) -> Report:
    """Ours at `counts` and the in-process bots at `peer_counts`, one way, the other, and both."""
    report = Report("Sessions: CPU per session and 20 ms frame, everyone talks, 48 kHz mono")
    speed = yardstick.encode_us()
    points: list[Point] = []
    for mode in WAYS:
        points += run(ENGINE, Job(mode=mode), counts, seconds)
    points += run(STOCK, Job(mode="talk"), peer_counts, seconds)
    points += run(STOCK, Job(mode="both"), peer_counts, seconds)
    points += run(STOCK, Job(mode="talk", codec=OUR_CODEC), peer_counts[:1], seconds, "ours")
    points += run(STOCK, Job(mode="both", codec=OUR_CODEC), peer_counts[:1], seconds, "ours")
    if processes.has_pipecat():
        points += run(PIPECAT, Job(mode="both"), peer_counts[:1], seconds)
    else:
        report.notes.append(processes.NO_PIPECAT)
    speed += yardstick.encode_us()
    for point in points:
        add(report, point, points)
    report.add(yardstick.NAME, "µs", speed)
    report.notes += [
        "The yardstick tells how fast the cores were before and after: "
        f"{yardstick.QUIET_US} µs on the quiet machine of the design's figures.",
        "Rows of ours: engine and workers, the bots apart. The ratio is the stock process, bot and "
        "media, by all of ours with the bots, at default codec settings "
        f"(ours {OUR_CODEC_NAME}, stock {STOCK_CODEC_NAME}).",
        f"Callers send {speech.CALLER_CODEC}. Send only: they send reports; receive only: the bot "
        "is silent, and its silence is sent. Not held: a caller got < 99.5 % of its packets.",
        *_equal(points),
    ]
    if plots is not None:
        from scripts.benchmarks import charts  # matplotlib is for who wants charts

        values = {p.label: p.total_us for p in points if p.total_us is not None}
        title = "CPU of all processes per session and 20 ms frame"
        report.plots += charts.bars(values, plots / "sessions.png", title, "µs")
    return report


def run(kind: str, job: Job, counts: list[int], seconds: float, codec: str = "") -> list[Point]:
    """One server, more and more calls."""
    points = []
    with processes.start(kind, job) as server, recording.callers() as callers:
        callers.speak(job.mode != "talk")
        live = 0
        for count in sorted(counts):
            say(f"{kind}, {WAYS[job.mode]}, {count} sessions {codec and 'at our codec settings'}")
            why = windows.place(server, callers, count - live)
            live = count
            if why:
                points.append(Point(kind, job.mode, codec, count, None, why))
                break
            window = windows.take(server, callers, count, seconds)
            points.append(Point(kind, job.mode, codec, count, window))
            if window.shares[1] < 0.9:
                break  # more calls would only suffer more
    return points


def add(report: Report, point: Point, points: list[Point]) -> None:
    """The rows of one point."""
    ours = point.kind == ENGINE
    prefix = "" if ours else f"peer: {point.kind}: "
    name = f"{prefix}{WAYS[point.mode]}, {point.sessions} sessions"
    if point.codec:
        name += ", our codec settings"
    judged = ours and point.sessions >= JUDGED_FROM
    must = MUST_US.get(point.mode) if judged else None
    window = point.window
    if window is None:
        report.put(name, "µs", {}, 0, must=must, void=f"not held: {point.why[:50]}")
        report.notes.append(f"{name}: {point.why}")
        return
    packets = window.pace.packets
    void = window.void
    if not window.held:
        void = f"not held: worst caller {window.shares[0]:.1%}"
    if not window.held:  # CPU per session says nothing when sessions starve
        report.put(name, "µs", {}, packets, must=must, void=void)
        return
    used = window.cpu_us("engine", "workers") if ours else window.cpu_us()
    report.put(name, "µs", used, packets, must=must, ratio=ratio(point, points), void=void)
    if not ours:
        return
    report.put(f"{name}: bots", "µs", window.cpu_us("bots"), packets, void=void)
    if judged:
        percent = window.core_percent("engine")
        limit = MUST_ENGINE_PERCENT
        report.put(
            f"{name}: engine process", "% of a core", percent, packets, must=limit, void=void
        )
        late = window.pace.late_share
        if late > LATE_SHARE:
            report.notes.append(f"{name}: {late:.2%} of the packets were > 5 ms late.")


def ratio(point: Point, points: list[Point]) -> float | None:
    """Stock's CPU at default settings by ours, at the same number or at its largest that held."""
    total = point.total_us
    if point.kind != ENGINE or total is None:
        return None
    peer = _stock(points, point, "")
    return peer / total if peer is not None else None


def _stock(points: list[Point], like: Point, codec: str) -> float | None:
    found = {
        peer.sessions: peer.total_us
        for peer in points
        if (peer.kind, peer.mode, peer.codec) == (STOCK, like.mode, codec)
        and peer.total_us is not None
    }
    return found.get(like.sessions, found[max(found)]) if found else None


def _equal(points: list[Point]) -> list[str]:
    """Ratios at equal codec settings: stock was patched to encode as ours does."""
    notes = []
    for point in points:
        total = point.total_us
        peer = _stock(points, point, "ours")
        if point.kind == ENGINE and total is not None and peer is not None:
            notes.append(
                f"At equal codec settings (stock patched to ours): {WAYS[point.mode]}, "
                f"{point.sessions} sessions: {peer / total:.1f}x."
            )
    return notes
