"""The command `serve`: one engine until somebody ends it, and the lines that say how it does.

Standard output carries what a person must know to call it, and the settings that were given;
everything else is the log's. `ready` stands there once the bots that were to be started are here.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import typer

from engine.server import Engine
from ipc.errors import BackbeatError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.config import Settings


async def serve(settings: Settings) -> None:
    """Run an engine until SIGINT or SIGTERM. Raises what it cannot start or go on for."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    _say(f"{name} = {value}" for name, value in _telling(settings).items())
    engine = Engine(settings)
    await engine.start()
    try:
        _say(_whereabouts(engine))
        ends = [asyncio.create_task(event.wait()) for event in (stop, engine.ended)]
        telling = asyncio.create_task(_tell_when_ready(engine), name="ready")
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in (*ends, telling):
            task.cancel()
        if engine.ended.is_set():
            raise engine.failure or BackbeatError(
                "the HTTP server ended by itself; see the log", code="http"
            )
        _say(["ending: calls are closed, workers and bots are stopped"])
    finally:
        await engine.close()


async def _tell_when_ready(engine: Engine) -> None:
    missing = await engine.wait_bots()
    if missing:
        _say([f"not ready at {engine.address}/: {missing}"])
        await engine.bots.wait_number(engine.settings.bots)
    names = [
        name if processes == 1 else f"{name} ({processes} processes)"
        for name, processes in engine.bots.names().items()
    ]
    _say(
        [
            f"bots: {', '.join(names) or 'none yet; callers are refused until one connects'}",
            f"ready: open {engine.address}/ and speak (Ctrl-C ends it)",
        ]
    )


def _telling(settings: Settings) -> dict[str, str]:
    """The settings that somebody gave; all of them for who looks for a fault."""
    shown = settings.shown()
    if settings.log_level == "debug":
        return shown
    return {name: value for name, value in shown.items() if name in settings.model_fields_set}


def _whereabouts(engine: Engine) -> list[str]:
    settings = engine.settings
    ports = settings.udp_ports
    where = f"one of {ports[0]} to {ports[-1]}" if ports else "any free one"
    return [
        f"workers: {settings.workers}, each on a UDP port of its own, {where}",
        f"bots connect to {engine.runtime.endpoint('bots')}",
        f"WebSocket callers come to port {engine.sessions.callers.port}",
    ]


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)
