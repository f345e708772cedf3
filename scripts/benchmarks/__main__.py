"""The command line of `scripts/bench`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import typer  # noqa: E402

from scripts.benchmarks import (  # noqa: E402
    clients,
    echo,
    flush,
    loss,
    memory,
    pacing,
    pipecat,
    quality,
    receive,
    report,
    ring,
    sessions,
    setup,
    stall,
    transport,
    websocket,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripts.benchmarks.report import Report

cli = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Measure Backbeat on this machine: CPU time, the wire by kernel timestamps, and a peer "
    "in the same run. Loopback only. A run whose callers were late themselves is void.",
)
Json = Annotated[Path | None, typer.Option("--json", help="write the result here as JSON")]
Markdown = Annotated[Path | None, typer.Option("--markdown", help="write the tables here")]
Plots = Annotated[
    Path | None, typer.Option("--plots", help="directory for PNG charts (the `bench` extra)")
]
Seconds = Annotated[float, typer.Option(help="s that each window lasts", min=1, max=120)]
Burn = Annotated[
    float, typer.Option(help="share of the time that a bot's thread holds the GIL", min=0, max=1)
]
RESULTS = ROOT / "results"


@cli.command("ring")
def run_ring(
    json: Json = None,
    markdown: Markdown = None,
    frames: Annotated[int, typer.Option(help="20 ms frames per batch", min=1000)] = 20_000,
    batches: Annotated[int, typer.Option(help="batches per case", min=5, max=1000)] = 25,
) -> None:
    """CPU time of writing and reading 20 ms in the rings, beside a pipe and a ZeroMQ pair."""
    _finish([ring.measure(frames, batches)], json, markdown)


@cli.command("setup")
def run_setup(
    json: Json = None,
    markdown: Markdown = None,
    calls: Annotated[
        int, typer.Option(help="calls to set up, one after the other", min=5, max=500)
    ] = 40,
) -> None:
    """Offer to answer and offer to first audio packet, beside a stock in-process aiortc bot."""
    _finish([setup.measure(calls)], json, markdown)


@cli.command("pacing")
def run_pacing(
    json: Json = None,
    markdown: Markdown = None,
    plots: Plots = RESULTS,
    sessions: Annotated[int, typer.Option(help="sessions on Backbeat", min=1, max=200)] = 64,
    peer_sessions: Annotated[
        int, typer.Option(help="sessions on the in-process bots", min=1, max=64)
    ] = 8,
    burn: Burn = 1.0,
    seconds: Seconds = 10,
) -> None:
    """Interval error on the wire while the bots burn their GIL, and while calls arrive."""
    _finish(
        [pacing.measure(sessions, peer_sessions, burn, seconds, _cores(), plots)], json, markdown
    )


@cli.command("stall")
def run_stall(
    json: Json = None,
    markdown: Markdown = None,
    plots: Plots = RESULTS,
    sessions: Annotated[int, typer.Option(help="sessions on each", min=1, max=64)] = 8,
    block_ms: Annotated[
        float, typer.Option(help="ms that the bot's loop stands still each second", min=1, max=900)
    ] = 200,
    seconds: Seconds = 10,
) -> None:
    """What is missing on the wire when the bot's loop stands still each second."""
    _finish([stall.measure(sessions, block_ms, seconds, plots)], json, markdown)


@cli.command("flush")
def run_flush(
    json: Json = None,
    markdown: Markdown = None,
    sessions: Annotated[int, typer.Option(help="sessions on each", min=1, max=64)] = 8,
    flushes: Annotated[int, typer.Option(help="flushes at least", min=8, max=1000)] = 60,
) -> None:
    """From flush() to the last audible packet, and whether the speech after it is whole."""
    _finish([flush.measure(sessions, flushes)], json, markdown)


@cli.command("sessions")
def run_sessions(
    json: Json = None,
    markdown: Markdown = None,
    plots: Plots = RESULTS,
    count: Annotated[list[int] | None, typer.Option(help="sessions, repeatable")] = None,
    peer_count: Annotated[list[int] | None, typer.Option(help="the peers', repeatable")] = None,
    seconds: Seconds = 8,
) -> None:
    """CPU per session and 20 ms frame: send, receive, both; beside stock aiortc."""
    counts, peers = count or [8, 32, 64], peer_count or [8, 16]
    _finish([sessions.measure(counts, peers, seconds, plots)], json, markdown)


@cli.command("quality")
def run_quality(json: Json = None, markdown: Markdown = None) -> None:
    """PESQ of the sent speech beside aiortc's default; needs the package pesq."""
    _finish([quality.measure()], json, markdown)


@cli.command("echo")
def run_echo(
    json: Json = None,
    markdown: Markdown = None,
    sessions: Annotated[int, typer.Option(help="sessions on each", min=1, max=64)] = 4,
    seconds: Seconds = 10,
) -> None:
    """From a caller's packet of speech to the packet that brings it back."""
    _finish([echo.measure(sessions, seconds)], json, markdown)


@cli.command("loss")
def run_loss(
    json: Json = None,
    markdown: Markdown = None,
    sessions: Annotated[int, typer.Option(help="sessions on each", min=1, max=64)] = 4,
    percent: Annotated[
        list[float] | None, typer.Option(help="% lost each way, repeatable", min=0, max=90)
    ] = None,
    seconds: Seconds = 10,
) -> None:
    """Frames that an echo returns, and that the caller makes up, when packets are lost."""
    _finish([loss.measure(sessions, seconds, _shares(percent))], json, markdown)


@cli.command("clients")
def run_clients(
    json: Json = None,
    markdown: Markdown = None,
    percent: Annotated[
        list[float] | None, typer.Option(help="% lost each way, repeatable", min=0, max=90)
    ] = None,
    seconds: Seconds = 15,
) -> None:
    """Chromium and werift through a link that loses packets; needs root, Chromium, node."""
    _finish([clients.measure(seconds, _shares(percent))], json, markdown)


@cli.command("receive")
def run_receive(
    json: Json = None,
    markdown: Markdown = None,
    count: Annotated[list[int] | None, typer.Option(help="sessions, repeatable")] = None,
    peer_count: Annotated[list[int] | None, typer.Option(help="the peer's, repeatable")] = None,
    seconds: Seconds = 8,
) -> None:
    """CPU per session and 20 ms frame of receiving only, and of both ways."""
    _finish([receive.measure(count or [16, 32, 64], peer_count or [4, 8], seconds)], json, markdown)


@cli.command("memory")
def run_memory(
    json: Json = None,
    markdown: Markdown = None,
    few: Annotated[int, typer.Option(help="sessions to begin with", min=1, max=50)] = 4,
    many: Annotated[int, typer.Option(help="sessions at the end", min=2, max=200)] = 40,
) -> None:
    """Memory per session of worker, engine and segment, at 48 and 16 kHz."""
    _finish([memory.measure(few, many)], json, markdown)


@cli.command("transport")
def run_transport(
    json: Json = None,
    markdown: Markdown = None,
    part: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(transport.PARTS)}; repeatable")
    ] = None,
    sessions: Annotated[int, typer.Option(help="sessions of pacing", min=1, max=200)] = 64,
    peer_sessions: Annotated[int, typer.Option(help="the peer's", min=1, max=64)] = 8,
    burn: Burn = 1.0,
    flushes: Annotated[int, typer.Option(help="flushes at least", min=8, max=1000)] = 60,
    seconds: Seconds = 10,
) -> None:
    """The documented transport in a pipeline: pacing, stall, flush, vanished callers."""
    parts = part or transport.PARTS
    if unknown := set(parts) - set(transport.PARTS):
        raise typer.BadParameter(f"no part is called {', '.join(sorted(unknown))}")
    _finish(
        [transport.measure(sessions, peer_sessions, burn, seconds, flushes, parts)], json, markdown
    )


@cli.command("pipecat")
def run_pipecat(
    json: Json = None,
    markdown: Markdown = None,
    part: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(pipecat.PARTS)}; repeatable")
    ] = None,
    sessions: Annotated[int, typer.Option(help="sessions on each", min=1, max=64)] = 8,
    flushes: Annotated[int, typer.Option(help="interruptions at least", min=8, max=1000)] = 60,
    seconds: Seconds = 10,
) -> None:
    """The same Pipecat bot on our transport and on its own: CPU, stalls, a spin, barge-in."""
    parts = part or pipecat.PARTS
    if unknown := set(parts) - set(pipecat.PARTS):
        raise typer.BadParameter(f"no part is called {', '.join(sorted(unknown))}")
    _finish([pipecat.measure(sessions, seconds, flushes, parts)], json, markdown)


@cli.command("websocket")
def run_websocket(
    json: Json = None,
    markdown: Markdown = None,
    part: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(websocket.PARTS)}; repeatable")
    ] = None,
    sessions: Annotated[int, typer.Option(help="sessions of CPU", min=1, max=200)] = 32,
    stall_sessions: Annotated[int, typer.Option(help="sessions of the beat", min=1, max=200)] = 64,
    flushes: Annotated[int, typer.Option(help="flushes at least", min=8, max=1000)] = 60,
    seconds: Seconds = 8,
) -> None:
    """Dialled WebSockets beside Pipecat's: CPU, the beat, flush, calls beside a TLS far end."""
    parts = part or websocket.PARTS
    if unknown := set(parts) - set(websocket.PARTS):
        raise typer.BadParameter(f"no part is called {', '.join(sorted(unknown))}")
    _finish([websocket.measure(sessions, stall_sessions, flushes, seconds, parts)], json, markdown)


@cli.command("all")
def run_all(
    json: Json = RESULTS / "bench.json",
    markdown: Markdown = RESULTS / "bench.md",
    plots: Plots = RESULTS,
    burn: Burn = 1.0,
) -> None:
    """Everything, in about 25 minutes."""
    subjects: dict[str, Callable[[], Report]] = {
        "ring": lambda: ring.measure(20_000, 15),
        "setup": lambda: setup.measure(30),
        "pacing": lambda: pacing.measure(64, 8, burn, 8, _cores(), plots),
        "stall": lambda: stall.measure(8, 200, 10, plots),
        "flush": lambda: flush.measure(8, 60),
        "transport": lambda: transport.measure(64, 8, burn, 8, 60),
        "pipecat": lambda: pipecat.measure(8, 6, 48),
        "websocket": lambda: websocket.measure(32, 64, 48, 6),
        "echo": lambda: echo.measure(4, 8),
        "loss": lambda: loss.measure(4, 8, _shares(None)),
        "receive": lambda: receive.measure([32, 64], [4, 8], 6),
        "sessions": lambda: sessions.measure([8, 32, 64], [8, 16], 6, plots),
        "memory": lambda: memory.measure(4, 40),
        "quality": quality.measure,
    }
    began = time.monotonic()
    reports = []
    for number, (name, run) in enumerate(subjects.items(), 1):
        typer.echo(f"[{number}/{len(subjects)}] {name}, {time.monotonic() - began:.0f} s", err=True)
        try:
            reports.append(run())
        except Exception as error:  # one subject that fails must not take the others along
            typer.echo(f"{name} failed: {error}", err=True)
            failed = report.Report(f"{name}: failed")
            failed.notes.append(f"{type(error).__name__}: {error}")
            reports.append(failed)
    typer.echo(f"finished after {time.monotonic() - began:.0f} s", err=True)
    _finish(reports, json, markdown)


def _shares(percent: list[float] | None) -> list[float]:
    return [value / 100 for value in percent or [5.0, 20.0]]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _finish(reports: list[Report], json: Path | None, markdown: Path | None) -> None:
    for found in reports:
        found.show()
    if json is not None:
        report.save_json(reports, json)
    if markdown is not None:
        report.save_markdown(reports, markdown)


if __name__ == "__main__":
    cli()
