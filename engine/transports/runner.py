"""Bots that are a function of one call, `async def bot(runner_args)`, as a bot of the SDK.

Such a function makes a transport of `runner_args.webrtc_connection`, runs a pipeline on it and
returns. With Pipecat installed it gets what Pipecat's own runner would give it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.sdk import Bot
from engine.transports.smallwebrtc.connection import SmallWebRTCConnection
from ipc.errors import ConfigError

if TYPE_CHECKING:
    from engine.sdk import Session

log = logging.getLogger(__name__)

BotFunction = Callable[[Any], Coroutine[Any, Any, object]]

# The rates that pipelines have unless they say otherwise.
MIC_HZ = 16_000
SPEAKER_HZ = 24_000
# How long a bot may go on after its call: to write down what was said, say.
AFTER_CALL_S = 60.0


@dataclass(kw_only=True)
class RunnerArguments:
    """What a bot function is given: one call.

    `body` is the caller's request data. The rest is what runners of pipelines ask for.
    """

    webrtc_connection: SmallWebRTCConnection
    body: Any = None
    session_id: str | None = None
    handle_sigint: bool = False
    handle_sigterm: bool = False
    pipeline_idle_timeout_secs: float | None = 300


def as_bot(function: BotFunction, name: str = "bot", **options: Any) -> Bot:
    """A bot of the SDK that calls `function(runner_args)` for each call.

    `options` are those of `Bot`; the rings have 16 kHz in and 24 kHz out, as pipelines do by
    default, and audio of other rates is resampled in the bot's process. The call ends when the
    function returns; the function is cancelled 60 s after its call ended. Raises ConfigError.
    """
    make = _arguments_of()
    bot = Bot(name, **{"mic_hz": MIC_HZ, "speaker_hz": SPEAKER_HZ, **options})

    @bot.session
    async def serve(session: Session) -> None:
        running = asyncio.create_task(_run(function, make(session)), name="bot function")
        ended = asyncio.create_task(session.wait_closed(), name="end of the call")
        try:
            await asyncio.wait((running, ended), return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                await asyncio.wait((running,), timeout=AFTER_CALL_S)
            if not running.done():
                log.warning("the bot is ended %.0f s after call %s", AFTER_CALL_S, session.id)
        finally:
            running.cancel()
            ended.cancel()
            await asyncio.gather(running, ended, return_exceptions=True)
        if not running.cancelled():
            running.result()

    return bot


async def _run(function: BotFunction, arguments: Any) -> None:
    await function(arguments)


def _arguments_of() -> Callable[[Session], Any]:
    """What makes the arguments: Pipecat's where Pipecat is, else ours.

    Looked for now and not when a call comes: to load Pipecat takes seconds.
    """
    if importlib.util.find_spec("pipecat") is not None:
        try:
            from engine.integrations.pipecat.runner import runner_arguments
        except ConfigError as error:
            if "pipecat" in sys.modules:
                raise
            log.warning("Pipecat is not used: %s", error.message)
        else:
            return runner_arguments
    return _our_arguments


def _our_arguments(session: Session) -> RunnerArguments:
    return RunnerArguments(
        webrtc_connection=SmallWebRTCConnection.of(session),
        body=session.request_data,
        session_id=session.id,
    )
