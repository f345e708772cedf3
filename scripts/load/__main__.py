"""The command line of `scripts/load_test`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import typer  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import (  # noqa: E402
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from scripts.benchmarks.commands import CommandFailed  # noqa: E402
from scripts.benchmarks.report import machine, today  # noqa: E402
from scripts.load import chart, result, run  # noqa: E402
from scripts.load.result import Thresholds  # noqa: E402
from scripts.load.target import (  # noqa: E402
    MAX_CALLS,
    MAX_DURATION_S,
    MAX_RAMP_S,
    Target,
    WrongUse,
    explain,
)

BROKEN, WRONG_USE = 1, 2
cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@cli.command()
def load_test(
    url: Annotated[str, typer.Argument(help="the server, such as http://127.0.0.1:7860")],
    calls: Annotated[int, typer.Option(min=1, max=MAX_CALLS, help="calls at once")] = 10,
    ramp: Annotated[
        float, typer.Option(min=0, max=MAX_RAMP_S, help="s over which they are placed; 0: at once")
    ] = 2.0,
    duration: Annotated[
        float, typer.Option(min=1, max=MAX_DURATION_S, help="s that are measured, all calls live")
    ] = 10.0,
    mode: Annotated[
        run.Mode,
        typer.Option(
            help="what the callers do: talk (only speak), hear (only listen), both, or echo: "
            "speak, and measure how long their speech takes to come back"
        ),
    ] = "both",
    bot: Annotated[str, typer.Option(help="ask for this bot, by request_data")] = "",
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="also a server that is not this machine")
    ] = False,
    max_failed_percent: Annotated[
        float, typer.Option(min=0, max=100, help="calls that may fail")
    ] = 0.0,
    max_setup_ms: Annotated[
        float | None,
        typer.Option(min=0, help="p99 of offer to first audio (talk: to connected)"),
    ] = None,
    max_late_percent: Annotated[
        float | None, typer.Option(min=0, max=100, help="packets more than 5 ms late")
    ] = None,
    min_received_percent: Annotated[
        float | None, typer.Option(min=0, max=100, help="of the packets due, for every caller")
    ] = None,
    max_lost_percent: Annotated[
        float | None, typer.Option(min=0, max=100, help="packets missing in the sequence")
    ] = None,
    max_interval_error_ms: Annotated[
        float | None, typer.Option(min=0, help="p99 of |interval - 20 ms|")
    ] = None,
    max_echo_ms: Annotated[
        float | None, typer.Option(min=0, help="p99 of the echo's delay (--mode echo)")
    ] = None,
    max_own_late_ms: Annotated[
        float, typer.Option(min=0, help="p99 of the callers' own lateness: above, nothing counts")
    ] = 5.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the result here")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="draw a PNG (bench extra)")] = None,
) -> None:
    """Place many calls at any server that answers POST /api/offer, and tell how they fare.

    Backbeat, Pipecat's SmallWebRTC and aiortc's examples do. Exit code 0: all thresholds hold;
    1: one does not, or no call came about; 2: wrong use.
    """
    limits = Thresholds(
        max_failed_percent=max_failed_percent,
        max_setup_ms=max_setup_ms,
        max_late_percent=max_late_percent,
        min_received_percent=min_received_percent,
        max_lost_percent=max_lost_percent,
        max_interval_error_ms=max_interval_error_ms,
        max_echo_ms=max_echo_ms,
        max_own_late_ms=max_own_late_ms,
    )
    if mode == "talk" and min_received_percent is not None:
        _end("load_test: --mode talk hears nothing: leave --min-received-percent out", WRONG_USE)
    try:
        target = Target.parse(url, allow_remote=allow_remote)
    except WrongUse as error:
        _end(f"load_test: {error}", WRONG_USE)
    plan = run.Plan(
        target=target, calls=calls, ramp_s=ramp, duration_s=duration, mode=mode, bot=bot
    )
    try:
        seen = _with_bars(plan)
    except CommandFailed as error:
        _end(f"load_test: {error}", BROKEN)
    if not seen.connected:
        why = "\n  ".join(explain([call.error for call in seen.calls if call.error]))
        _end(f"load_test: no call to {target.url} came about:\n  {why}", BROKEN)
    title = f"{calls} calls to {target.url}, mode {mode}, ramp {ramp:g} s, {duration:g} s"
    made = result.report(seen, limits, title)
    if plot is not None:
        made.plots += chart.draw(seen, plot, title)
    made.show()
    broken = result.judge(seen, limits)
    if json_file is not None:
        found: dict[str, object] = {"date": today(), "machine": machine()}
        found |= result.content(seen, limits, made, broken)
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(found, indent=2) + "\n")
    if broken:
        _end("\n".join(f"FAILED: {line}" for line in broken), BROKEN)
    typer.echo("passed: every threshold holds")


def _with_bars(plan: run.Plan) -> result.Seen:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bars:
        tasks = {
            "calls": bars.add_task("calls placed", total=plan.calls),
            "seconds": bars.add_task("seconds", total=round(plan.duration_s)),
        }
        return run.run(plan, lambda name, done: bars.update(tasks[name], completed=int(done)))


def _end(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    cli()
