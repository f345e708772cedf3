"""The receive path alone: CPU per session and 20 ms frame, receive only and both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.benchmarks import sessions, yardstick
from scripts.benchmarks.job import Job
from scripts.benchmarks.processes import ENGINE, STOCK
from scripts.benchmarks.report import Report

if TYPE_CHECKING:
    from scripts.benchmarks.sessions import Point

MUST_SHARE = 1 / 8
"""Of the stock in-process bot's CPU, both ways; ours with the bots."""


def measure(counts: list[int], peer_counts: list[int], seconds: float) -> Report:
    """Ours and the stock bot, first hearing only, then both ways."""
    report = Report("Receive: CPU per session and 20 ms frame, everyone talks, 48 kHz mono")
    speed = yardstick.encode_us()
    points: list[Point] = []
    for mode in ("hear", "both"):
        points += sessions.run(ENGINE, Job(mode=mode), counts, seconds)
        points += sessions.run(STOCK, Job(mode=mode), peer_counts, seconds)
    speed += yardstick.encode_us()
    for point in points:
        sessions.add(report, point, points)
    for point in points:
        if point.kind != ENGINE or point.mode != "both":
            continue
        name = f"both ways, {point.sessions} sessions: ours by the stock bot's"
        ratio = sessions.ratio(point, points)
        if ratio is None:
            report.put(name, "", {}, 0, must=MUST_SHARE, void="not held: no ratio")
        else:
            report.put(name, "", 1 / ratio, 1, must=MUST_SHARE)
    report.add(yardstick.NAME, "µs", speed)
    report.notes += [
        "Receive only: the bot is silent, and its silence is sent. Rows of ours: engine and "
        "workers, the bots apart; the ratio is the stock process by all of ours with the bots."
    ]
    return report
