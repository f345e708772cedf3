"""`PipelineRunner`: runs pipeline tasks and ends them when the process is told to end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from typing import TYPE_CHECKING, Any

from engine.transports.processors.events import BaseObject
from engine.transports.processors.params import PipelineTaskParams
from ipc.errors import StateError

if TYPE_CHECKING:
    from engine.transports.processors.task import PipelineTask
    from engine.transports.processors.task_manager import BaseTaskManager

log = logging.getLogger(__name__)

# A signal has one handler in a process, and calls may overlap: the runners that listen to each,
# and what stood there before the first of them, such as a web server's handler.
_listening: dict[int, list[PipelineRunner]] = {}
_before: dict[int, Any] = {}


class PipelineRunner(BaseObject):
    """Runs tasks. SIGINT, and SIGTERM where asked for, cancels all that run.

    `task_manager` is for tasks that have none; without it each has its own, and cancels what
    it finds there in the end unless `check_dangling_tasks` is False.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        handle_sigint: bool = True,
        handle_sigterm: bool = False,
        force_gc: bool = False,
        check_dangling_tasks: bool = True,
        loop: asyncio.AbstractEventLoop | None = None,
        task_manager: BaseTaskManager | None = None,
    ) -> None:
        super().__init__(name=name, task_manager=task_manager)
        self._signals = [signal.SIGINT] * handle_sigint + [signal.SIGTERM] * handle_sigterm
        self._force_gc = force_gc
        self._check_dangling = check_dangling_tasks
        self._loop = loop
        self._listens: list[int] = []
        self._waiting: list[PipelineTask] = []
        self._running: list[PipelineTask] = []

    def get_worker(self, name: str) -> PipelineTask | None:
        """The task of that name which waits or runs here."""
        tasks = (*self._waiting, *self._running)
        return next((task for task in tasks if task.name == name), None)

    async def add_workers(self, *workers: PipelineTask) -> None:
        """Have tasks run by the next `run`."""
        self._waiting += workers

    async def run(self, worker: PipelineTask | None = None, *, auto_end: bool = True) -> None:
        """Run a task, with those that were added, until all are over.

        With `auto_end` the added ones are ended once `worker` is over. A task that fails does
        not stop the others; its exception is raised in the end. StateError without any task.
        """
        added, self._waiting = self._waiting, []
        if worker is None and not added:
            raise StateError(f"{self} has no task to run", code="no_pipeline_task")
        if self._loop not in (None, asyncio.get_running_loop()):
            raise StateError(f"{self} belongs to another loop", code="wrong_loop")
        tasks = [*added] if worker is None or worker in added else [worker, *added]
        if not self._running:
            self._listen()
        self._running += tasks
        try:
            if len(tasks) == 1:
                # In line, so that cancelling this call cancels the pipeline itself.
                await self._run_one(tasks[0], ())
            else:
                async with asyncio.TaskGroup() as group:
                    for task in tasks:
                        others = added if auto_end and task is worker else []
                        group.create_task(self._run_one(task, others), name=f"{self}::{task}")
        finally:
            self._running = [one for one in self._running if one not in tasks]
            if not self._running:
                self._unlisten()
            await self.cleanup()
            if self._force_gc:
                gc.collect()

    async def stop_when_done(self) -> None:
        """End all tasks once what is queued is done."""
        await self.end()

    async def end(self, reason: str | None = None) -> None:
        """End all tasks once what is queued is done."""
        await asyncio.gather(*(task.end(reason=reason) for task in self._running))

    async def cancel(self, reason: str | None = None) -> None:
        """End all tasks now."""
        for task in self._running:
            task.ask_cancel(reason)

    async def _run_one(self, task: PipelineTask, others: list[PipelineTask] | tuple[()]) -> None:
        task.runner = self
        task.check_dangling_tasks &= self._check_dangling
        try:
            await task.run(PipelineTaskParams(self._loop, self._task_manager))
        finally:
            for other in others:
                if other is not task and not other.has_finished():
                    await other.end(reason=f"{task} is over")

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in self._signals:
            before = signal.getsignal(number)
            try:
                loop.add_signal_handler(number, _told, number)
            except (NotImplementedError, RuntimeError, ValueError):
                # Not on this platform, or not in the main thread.
                log.debug("%s: signal %d is left alone", self, number)
                continue
            _before.setdefault(number, before)
            _listening.setdefault(number, []).append(self)
            self._listens.append(number)

    def _unlisten(self) -> None:
        loop = asyncio.get_running_loop()
        while self._listens:
            number = self._listens.pop()
            _listening[number].remove(self)
            if _listening[number]:
                continue
            loop.remove_signal_handler(number)
            # None: it was set by code that is not Python.
            if (before := _before.pop(number)) is not None:
                signal.signal(number, before)


def _told(number: int) -> None:
    for runner in list(_listening[number]):
        for task in runner._running:
            task.ask_cancel(f"signal {number}")
