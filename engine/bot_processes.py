"""The bot processes that the engine starts itself, restarted with back-off when they end."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from engine.backoff import Backoff
from engine.process import Child

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

# As `python -m engine bot` ends when the bot named cannot be served at all.
EXIT_CONFIG = 78
ENGINE_FILE = Path(__file__).resolve().parent / "__main__.py"


class BotProcesses:
    """Keeps `count` processes of one bot running."""

    def __init__(
        self,
        spec: str,
        count: int,
        endpoint: str,
        *,
        token: str,
        log_level: str,
        on_unfit: Callable[[], None],
    ) -> None:
        """`on_unfit` hears of a bot for which trying again cannot help."""
        self._spec = spec
        self._count = count
        self._endpoint = endpoint
        self._token = token
        self._log_level = log_level
        self._on_unfit = on_unfit
        self._children: dict[Child, float] = {}
        self._backoffs = [Backoff() for _ in range(count)]
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._closing = False
        self.restarts = 0
        self.fell = asyncio.Event()  # one of them has ended by itself
        self.returncode: int | None = None  # of the last that did

    @property
    def spec(self) -> str:
        """The bot that they run."""
        return self._spec

    @property
    def pids(self) -> list[int]:
        """The running processes."""
        return [child.pid for child in self._children]

    def start(self) -> None:
        """Start them all."""
        for number in range(self._count):
            self._spawn(number)

    async def close(self) -> None:
        """End them all."""
        self._closing = True
        for timer in self._timers.values():
            timer.cancel()
        await asyncio.gather(*(child.end() for child in list(self._children)))

    def _spawn(self, number: int) -> None:
        try:
            child = Child(
                f"bot {number}",
                [
                    sys.executable,
                    "-P",
                    str(ENGINE_FILE),
                    "bot",
                    self._spec,
                    "--connect",
                    self._endpoint,
                    "--log-level",
                    self._log_level,
                ],
                secret=self._token,
                on_exit=lambda child: self._exited(number, child),
            )
        except OSError as error:  # no process or descriptor is to be had now
            log.error("bot_process_not_started", bot=self._spec, error=str(error))
            self._spawn_later(number, lived_s=0)
            return
        self._children[child] = asyncio.get_running_loop().time()

    def _exited(self, number: int, child: Child) -> None:
        lived_s = asyncio.get_running_loop().time() - self._children.pop(child)
        if not self._closing:
            self.returncode = child.returncode
            self.fell.set()
            log.error("bot_process_ended", bot=self._spec, returncode=child.returncode)
            if child.returncode == EXIT_CONFIG:
                self._on_unfit()
                return
            self.restarts += 1
            self._spawn_later(number, lived_s)

    def _spawn_later(self, number: int, lived_s: float) -> None:
        delay_s = self._backoffs[number].ended(lived_s)
        log.info("bot_process_again", bot=self._spec, in_s=round(delay_s, 1))
        loop = asyncio.get_running_loop()
        self._timers[number] = loop.call_later(delay_s, self._spawn, number)
