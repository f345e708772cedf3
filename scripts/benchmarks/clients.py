"""Real clients through a link that loses packets each way: Chromium and werift, ours beside stock.

Two network namespaces joined by a TUN link (root and iproute2; no packet leaves the machine). The
call is set up on the good link, which then loses packets, and in the end is good again. Echo
bots: ours is `serve`'s own example.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.benchmarks import processes
from scripts.benchmarks.processes import ENGINE, STOCK
from scripts.benchmarks.report import Report
from scripts.benchmarks.windows import say
from tests.fakes import far_werift, lossy_call, tun_network
from tests.fakes.network import Faults
from tests.fakes.tun_network import ADDRESSES, TunNetwork

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from tests.fakes.lossy_call import Client, Seen

CHROMIUM, WERIFT = "Chromium", "werift"
MUST_NOT_RETURNED = {0.05: 3.0}
MUST_MADE_UP = {0.05: 8.0}
"""Percent, of ours."""
SEED = 5
SETTLE_S = 10.0
"""Chromium reports losses each 5 s or so, and reports get lost too."""
MAX_ERROR = 60


def measure(seconds: float, losses: list[float]) -> Report:
    """Each client against each server at each share of loss, one call after the other."""
    report = Report("Real clients through a link that loses packets each way, echo")
    if why := tun_network.obstacle():
        report.notes.append(f"Not measured: {why}.")
        return report
    for client in (CHROMIUM, WERIFT):
        if why := obstacle(client):
            report.notes.append(f"{client} was not measured: {why}.")
            continue
        for loss in losses:
            for kind in (ENGINE, STOCK):
                say(f"{client} to {kind}, {loss:.0%} loss each way")
                name = f"{'' if kind == ENGINE else f'peer: {kind}: '}{client}, {loss:.0%} loss: "
                try:
                    seen = asyncio.run(_call(client, kind, loss, seconds))
                except (AssertionError, OSError, RuntimeError, TimeoutError) as error:
                    why = f"{type(error).__name__}: {error}"[:MAX_ERROR]
                    report.put(f"{name}echo", "", {}, 0, void=why)
                    continue
                _add(report, name, seen, loss, seconds, ours=kind == ENGINE)
    report.notes.append(
        "Not returned: frames due that did not leave the server. Made up: by Chromium's jitter "
        "buffer; of werift, which has none, frames due that neither came nor were in RED. Gaps: "
        "times over 60 ms without sound at the client. Delay: from mouth to ear, in Chromium with "
        "its jitter buffers and devices, in werift from wire to wire; added: 2 to 6 s after the "
        "link was good again."
    )
    return report


def obstacle(client: str) -> str:
    """Why that client cannot be run here; empty when nothing speaks against it."""
    if client == WERIFT:
        return far_werift.obstacle()
    if importlib.util.find_spec("playwright") is None:
        return "there is no playwright"
    if not any(map(shutil.which, ("chromium", "chromium-browser"))):
        return "there is no Chromium"
    return ""


async def _call(client: str, kind: str, loss: float, seconds: float) -> Seen:
    plan = lossy_call.Plan(settle_s=SETTLE_S, lossy_s=seconds)
    with (
        tempfile.TemporaryDirectory(prefix="bbclients-") as scratch,
        TunNetwork(Faults(), seed=SEED) as link,
        processes.start_echo(kind, ADDRESSES[1], link.command(1)) as server,
    ):
        async with _started(client, link, Path(scratch)) as caller:
            return await lossy_call.run(link, caller, server.url, Faults(loss=loss), plan)


def _started(client: str, link: TunNetwork, scratch: Path) -> AbstractAsyncContextManager[Client]:
    if client == WERIFT:
        return far_werift.FarWerift(link.command(0), scratch)
    from tests.fakes import far_browser  # playwright is for who measures browsers

    return far_browser.FarBrowser(link.names[0], scratch)


def _add(report: Report, name: str, seen: Seen, loss: float, seconds: float, *, ours: bool) -> None:
    due = round(seconds * 50)
    for what, share, musts in (
        ("frames due not returned", 1 - seen.returned, MUST_NOT_RETURNED),
        ("made up", seen.made_up, MUST_MADE_UP),
        ("time without sound", seen.silent, {}),
    ):
        percent = 100 * max(0.0, share)
        report.put(name + what, "%", percent, due, must=musts.get(loss) if ours else None)
    report.put(f"{name}gaps > 60 ms", "", float(seen.gaps), due)
    report.put(f"{name}longest gap", "ms", seen.longest_gap_ms, due)
    for what, ms in (
        ("delay before", seen.delay_before_ms),
        ("delay added in the end", seen.added_delay_ms),
    ):
        if ms is None:
            report.put(name + what, "ms", {}, 0, void="not found again")
        else:
            report.put(name + what, "ms", ms, 1)
    lost, recovered = (seen.server_says(f"packets{what}") for what in ("Lost", "Recovered"))
    red = [
        way
        for way, used in (("to client", seen.red_to_client), ("to server", seen.red_to_server))
        if used
    ]
    report.notes.append(
        f"{name}RED {' and '.join(red) or 'in neither direction'}"
        + (f"; the server recovered {recovered} of {lost} lost packets." if lost else ".")
    )
