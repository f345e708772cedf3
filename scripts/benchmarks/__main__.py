"""The command line of `scripts/bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import typer  # noqa: E402

from scripts.benchmarks import ring, setup  # noqa: E402
from scripts.benchmarks.report import Report  # noqa: E402, TC001 - typer reads annotations

cli = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Measure Backbeat on this machine: CPU time, percentiles, and a peer in the same run.",
)
Json = Annotated[Path | None, typer.Option("--json", help="write the result here as JSON")]


@cli.command("ring")
def run_ring(
    json: Json = None,
    frames: Annotated[int, typer.Option(help="20 ms frames per batch", min=1000)] = 20_000,
    batches: Annotated[int, typer.Option(help="batches per case", min=5, max=1000)] = 25,
) -> None:
    """CPU time of writing and reading 20 ms in the rings, beside a pipe and a ZeroMQ pair."""
    _finish(ring.measure(frames, batches), json)


@cli.command("setup")
def run_setup(
    json: Json = None,
    calls: Annotated[
        int, typer.Option(help="calls to set up, one after the other", min=5, max=500)
    ] = 40,
) -> None:
    """Offer to answer and offer to first audio packet, beside a stock in-process aiortc bot."""
    _finish(setup.measure(calls), json)


def _finish(report: Report, json: Path | None) -> None:
    report.show()
    if json is not None:
        report.save(json)


if __name__ == "__main__":
    cli()
