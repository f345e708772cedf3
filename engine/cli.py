"""The command line: `serve` runs an engine, `bot` runs a bot against one."""

from __future__ import annotations

import inspect
import logging
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from ipc.errors import BackbeatError, ConfigError
from ipc.loop import new_runner

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.sdk import Bot

HERE = Path(__file__).resolve().parent
# What a bot process ends with when trying again cannot help (sysexits.h: EX_CONFIG).
EXIT_CONFIG = 78

cli = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Backbeat: a multiprocess media engine for voice bots.",
)


def main() -> None:
    """Entry point of `python -m engine` and of the command `backbeat`."""
    cli(prog_name="backbeat")


def _fail(error: BackbeatError) -> typer.Exit:
    typer.echo(f"error: {error.message} ({error.code})", err=True)
    return typer.Exit(1)


def serve(**flags: Any) -> None:
    """Run an engine: HTTP signaling, media workers, and a bot (the echo demo by default)."""
    from engine import config, logs, serving

    file = flags.pop("config", None)
    try:
        settings = config.load(flags, file)
        logs.configure(settings.log_level)
        with new_runner() as runner:
            runner.run(serving.serve(settings))
    except BackbeatError as error:
        raise _fail(error) from None


def _with_settings_as_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give `serve` one flag for every setting; what is not given stays None."""
    from engine.config import Settings

    file = Annotated[Path | None, typer.Option(help="TOML file with settings", show_default=False)]
    parameters = [_option("config", file)]
    for name, field in Settings.model_fields.items():
        if name == "bot_token":
            continue  # a secret on a command line is seen by every user of the machine
        kind = _bare(field.annotation)
        default = "" if field.is_required() else field.get_default(call_default_factory=True)
        shown = f" (default {default})" if default not in (None, [], "") else ""
        option = typer.Option(help=f"{field.description}{shown}", show_default=False)
        parameters.append(_option(name, Annotated[kind | None, option]))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by typer
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _option(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _bare(annotation: Any) -> Any:
    """`X` of `X | None`; lists and choices stay, and of whatever a list is, it comes as text."""
    if get_origin(annotation) is list:
        return list[str]
    if get_origin(annotation) is Literal:
        return annotation
    inner = [kind for kind in get_args(annotation) if kind is not type(None)]
    return inner[0] if inner else annotation


@cli.command()
def bot(
    spec: Annotated[
        str, typer.Argument(metavar="MODULE:NAME", help="or FILE[:NAME]; a Bot or an async def")
    ],
    connect: Annotated[
        str | None,
        typer.Option(help="endpoint of the engine; default: the one running on this machine"),
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error")] = "info",
    life: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run a bot process against an engine."""
    from engine.sdk import loader

    started_by_engine = life is not None
    token = sys.stdin.readline().strip() if started_by_engine else None
    try:
        if log_level not in ("debug", "info", "warning", "error"):
            raise ConfigError(f"log levels are debug, info, warning and error, not {log_level!r}")
        logging.basicConfig(
            level=log_level.upper(), format="%(asctime)s bot %(levelname)s %(name)s: %(message)s"
        )
        found = loader.load(spec, _as_bot)
        found.run(connect, token=token, parent=life)
    except ConfigError as error:
        _fail(error)
        raise typer.Exit(EXIT_CONFIG) from None
    except BackbeatError as error:
        raise _fail(error) from None
    except Exception as error:
        # The bot's own fault: its lines, not those of the command around them.
        frames = error.__traceback__
        while frames is not None and _is_ours(frames.tb_frame.f_code.co_filename):
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames)
        typer.echo(f"error: the bot {spec} ended; {_advice(error)} (bot_failed)", err=True)
        raise typer.Exit(1) from None


def _advice(error: Exception) -> str:
    """What stands last, below the lines of the error."""
    if isinstance(error, ModuleNotFoundError):
        return (
            f"install {error.name!r} into the environment of this command, {sys.prefix}, or run "
            "the bot in your own beside `serve --bots 0`"
        )
    return f"mend the {type(error).__name__} above"


def _as_bot(function: Any, name: str) -> Bot:
    from engine.transports.runner import as_bot

    return as_bot(function, name)


def _is_ours(file: str) -> bool:
    return Path(file).resolve().is_relative_to(HERE) or file.startswith("<frozen")


cli.command()(_with_settings_as_flags(serve))

if __name__ == "__main__":
    main()
