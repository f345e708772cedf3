"""`PipelineRunner`: runs pipeline tasks and ends them when the process is told to end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from typing import TYPE_CHECKING

from engine.transports.processors.events import BaseObject

if TYPE_CHECKING:
    from engine.transports.processors.task import PipelineTask

log = logging.getLogger(__name__)


class PipelineRunner(BaseObject):
    """Runs tasks; SIGINT (and SIGTERM, where asked for) cancels all that run."""

    def __init__(
        self,
        *,
        name: str | None = None,
        handle_sigint: bool = True,
        handle_sigterm: bool = False,
        force_gc: bool = False,
    ) -> None:
        super().__init__(name=name)
        self._signals = [signal.SIGINT] * handle_sigint + [signal.SIGTERM] * handle_sigterm
        self._force_gc = force_gc
        self._tasks: list[PipelineTask] = []

    async def run(self, worker: PipelineTask) -> None:
        """Run a task until it is over. Several may run at one time."""
        self._tasks.append(worker)
        if len(self._tasks) == 1:
            self._listen()
        try:
            await worker.run()
        finally:
            self._tasks.remove(worker)
            if not self._tasks:
                self._unlisten()
            await self.cleanup()
            if self._force_gc:
                gc.collect()

    async def stop_when_done(self) -> None:
        """End all tasks once what is queued is done."""
        await self.end()

    async def end(self, reason: str | None = None) -> None:
        """End all tasks once what is queued is done."""
        await asyncio.gather(*(task.end(reason=reason) for task in list(self._tasks)))

    async def cancel(self, reason: str | None = None) -> None:
        """End all tasks now."""
        await asyncio.gather(*(task.cancel(reason=reason) for task in list(self._tasks)))

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in self._signals:
            try:
                loop.add_signal_handler(number, self._told, number)
            except (NotImplementedError, RuntimeError, ValueError):
                # Not on this platform, or not in the main thread.
                log.debug("%s: signal %d is left alone", self, number)

    def _unlisten(self) -> None:
        loop = asyncio.get_running_loop()
        for number in self._signals:
            try:
                loop.remove_signal_handler(number)
            except (NotImplementedError, RuntimeError, ValueError):
                continue

    def _told(self, number: int) -> None:
        for task in self._tasks:
            task.ask_cancel(f"signal {number}")
