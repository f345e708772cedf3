"""Echo through losses: how many frames the bot returns, and how much the caller makes up.

The light callers lose packets themselves, each way, by the seeded network of the tests, from the
moment at which the call is set up. First they offer no RED; then they do, and send two earlier
packets in each. What was lost counts as recovered when it came in a later packet.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from scripts.benchmarks import processes, recording, speech, windows, wire
from scripts.benchmarks.job import Job
from scripts.benchmarks.processes import ENGINE, STOCK
from scripts.benchmarks.report import Report
from scripts.benchmarks.windows import say
from tests.fakes.network import Faults

if TYPE_CHECKING:
    from scripts.benchmarks.processes import Server
    from scripts.benchmarks.recording import Heard, Recording

SILENT_DB = -60.0
PACKET = 960
FRAMES_PER_S = 50
SETTLE_S = 3.0
MUST_NOT_RETURNED = {0.05: 3.0}
MUST_CONCEALED = {0.05: 8.0}
"""Percent, of the frames due."""
MUST_NOT_RECOVERED = {0.2: 1.0}
"""Percent, of the lost frames that RED of two has carried. 5 % of all lost ones are allowed, and
at a loss of 20 % two more follow on 4 % of them: those nobody can bring back."""
RED_LEVEL = 2
RED_WINDOWS = 3
"""With RED few are lost for good, and they come in clusters: a window is so much longer."""
SEED = 11
VOID_MS = 15.0


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the frames due to one caller, 0 to 1."""

    sent: float
    """That left the server, by their sequence numbers."""
    silent: float
    """Of those that came: without sound. The speech has no pause."""
    received: float
    """That reached the caller, in a later packet (RED) too."""
    recovered: float
    """Of those that were lost on the way to it."""
    lost: int
    """How many those were."""


def measure(sessions: int, seconds: float, losses: list[float]) -> Report:
    """`sessions` callers on each kind of server, at each share of loss, each way."""
    report = Report("Echo through losses, each way, at the caller's socket")
    for loss in losses:
        for kind, red_level in ((ENGINE, 0), (ENGINE, RED_LEVEL), (STOCK, 0)):
            with_red = f", RED level {red_level}" if red_level else ""
            say(f"{kind}, {sessions} sessions, {loss:.0%} loss each way{with_red}")
            name = f"{'' if kind == ENGINE else f'peer: {kind}: '}{loss:.0%} loss{with_red}: "
            length = seconds * (RED_WINDOWS if red_level else 1)
            _run(report, name, kind, loss, sessions, length, red_level)
    report.notes.append(
        "Not returned: frames due that did not leave the server, or left it silent. Made up by "
        "the caller: frames due that did not reach it, in a later packet (RED) neither. RED: the "
        f"caller sends {RED_LEVEL} earlier packets in each, the server what its reports ask for; "
        "stock aiortc has none. The same seeds for all. Under p50 stands the mean of the "
        "callers, under max the worst."
    )
    return report


def _run(
    report: Report,
    name: str,
    kind: str,
    loss: float,
    sessions: int,
    seconds: float,
    red_level: int,
) -> None:
    ours = kind == ENGINE
    with processes.start(kind, Job(mode="echo")) as server, recording.callers() as callers:
        why = windows.place(server, callers, sessions, probes=sessions, red_level=red_level)
        if why:
            report.put(f"{name}calls", "", {}, 0, void=f"not held: {why[:60]}")
            return
        callers.impair(Faults(loss=loss), SEED)
        callers.window(SETTLE_S)
        began, before = time.monotonic(), heard_by(server)
        seen = callers.window(seconds)
        after, ended = heard_by(server), time.monotonic()
    due = seen.seconds * FRAMES_PER_S
    found = [shares(probe, due) for probe in seen.probes]
    # Shares, not times: a core that stood still delays frames and takes none away.
    void = "the callers were late" if wire.is_void(seen.lateness_ns, VOID_MS) else ""
    if not found:
        report.put(f"{name}echo", "", {}, 0, void="nothing came back")
        return
    count = round(due * sessions)
    not_returned = [100 * max(0.0, 1 - s.sent * (1 - s.silent)) for s in found]
    concealed = [100 * max(0.0, 1 - s.received) for s in found]
    for what, values, must in (
        ("frames due not returned", not_returned, MUST_NOT_RETURNED),
        ("made up by the caller", concealed, MUST_CONCEALED),
    ):
        mean, worst = float(np.mean(values)), float(max(values))
        report.put(
            name + what,
            "%",
            {"p50": mean, "max": worst},
            count,
            must=must.get(loss) if ours else None,
            void=void,
        )
    if ours:
        given = (ended - began) * FRAMES_PER_S * PACKET * sessions
        grown = {what: after[what] - before[what] for what in after}
        share = 100 * grown["concealedSamples"] / given
        report.put(f"{name}made up in the mic ring", "%", share, count, void=void)
        if red_level:
            not_recovered(report, name, loss, grown, seen, found, void)


def not_recovered(
    report: Report,
    name: str,
    loss: float,
    grown: dict[str, float],
    seen: Recording,
    found: list[Shares],
    void: str,
) -> None:
    """The rows of what RED should have brought back, at the server and at the callers."""
    must = MUST_NOT_RECOVERED.get(loss)
    totals = np.array(seen.facts["lost"], float).sum(axis=0)
    gone = (
        grown["packetsLost"] - grown["packetsRecovered"],
        round(sum(share.lost * (1 - share.recovered) for share in found)),
    )
    for where, (lost, hopeless), missing in zip(
        ("here", "at the caller"), totals, gone, strict=True
    ):
        name_here = f"{name}lost, not recovered {where}"
        percent = 100 * missing / max(1.0, lost)
        report.put(f"{name_here}: of all", "%", percent, round(lost), void=void)
        carried = lost - hopeless
        percent = 100 * max(0.0, missing - hopeless) / max(1.0, carried)
        what = f"{name_here}: of those RED carried"
        report.put(what, "%", percent, round(carried), must=must, void=void)


def shares(probe: Heard, due: float) -> Shares:
    """What of the frames due became of one caller's."""
    if not len(probe.sequence):
        return Shares(0.0, 0.0, 0.0, 0.0, 0)
    numbers = np.unique((probe.sequence - probe.sequence[0] + 0x8000) & 0xFFFF)
    levels = speech.frames_db(np.ascontiguousarray(probe.pcm).reshape(-1), PACKET)
    span = float(numbers[-1] - numbers[0] + 1)
    recovered = int(np.count_nonzero(probe.recovered))
    lost = round(span) - len(numbers) + recovered
    return Shares(
        sent=min(1.0, span / due),
        silent=float(np.mean(levels < SILENT_DB)),
        received=min(1.0, len(numbers) / due),
        recovered=recovered / max(1, lost),
        lost=lost,
    )


def heard_by(server: Server) -> dict[str, float]:
    """What our server's statistics say of what callers said, summed over all calls."""
    sums = dict.fromkeys(("concealedSamples", "packetsLost", "packetsRecovered"), 0.0)
    if not server.is_engine:
        return sums
    with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as http:
        for session in http.get("/api/sessions").json():
            records: dict[str, dict[str, Any]] = http.get(
                f"/api/sessions/{session['id']}/stats"
            ).json()
            for record in records.values():
                if record.get("type") not in ("inbound-rtp", "backbeat-media"):
                    continue
                for name in sums:
                    sums[name] += record.get(name, 0)
    return sums
