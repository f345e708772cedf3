"""Who owns the tasks of a pipeline, so that each of them is ended by somebody.

A task that raises is logged with the file and line of the fault and takes nobody else down.
Whatever is left when a pipeline has been cleaned up is a leak, and `current_tasks` names it.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.transports.processors.faults import describe

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from contextvars import Context

log = logging.getLogger(__name__)

# A cancelled task gets this long to end where the caller names no time.
CANCEL_S = 10.0


@dataclass
class TaskManagerParams:
    """The loop that tasks run on."""

    loop: asyncio.AbstractEventLoop


class BaseTaskManager(ABC):
    """Creates tasks, ends them, and knows which are alive."""

    @abstractmethod
    def get_event_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the tasks run on."""

    @abstractmethod
    def create_task(
        self, coroutine: Coroutine[Any, Any, Any], name: str, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Run `coroutine` as a task that this manager knows by `name`."""

    @abstractmethod
    async def cancel_task(self, task: asyncio.Task[Any], timeout: float | None = None) -> None:
        """Cancel `task` and wait until it has ended, at most `timeout` seconds."""

    @abstractmethod
    def current_tasks(self) -> Sequence[asyncio.Task[Any]]:
        """The tasks that have not ended."""


class TaskManager(BaseTaskManager):
    """The task manager of one loop: the running one unless `loop` is given."""

    def __init__(
        self, *, context: Context | None = None, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._context = context
        self._loop = loop or asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()

    def setup(self, params: TaskManagerParams) -> None:
        """Older way to name the loop."""
        self._loop = params.loop

    def get_event_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the tasks run on."""
        return self._loop

    def create_task(
        self, coroutine: Coroutine[Any, Any, Any], name: str, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Run `coroutine` as a task called `name`. What it raises is logged, not kept."""
        task = self._loop.create_task(
            _guarded(coroutine, name), name=name, context=context or self._context
        )
        self._tasks.add(task)

        def ended(_task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            # A task that was cancelled before its first step never awaited the coroutine.
            coroutine.close()

        task.add_done_callback(ended)
        return task

    async def cancel_task(self, task: asyncio.Task[Any], timeout: float | None = None) -> None:
        """Cancel `task` and wait until it has ended: `timeout` seconds, or 10.

        A task that swallows its cancellation is logged and stays among `current_tasks`; a task
        that cancels itself is left alone.
        """
        if task is asyncio.current_task():
            log.warning("%s: a task cannot wait for its own end", task.get_name())
            return
        task.cancel()
        # Unlike wait_for, wait raises only when the caller itself is cancelled.
        _, pending = await asyncio.wait({task}, timeout=CANCEL_S if timeout is None else timeout)
        if pending:
            log.warning("%s: still running after it was cancelled", task.get_name())

    def current_tasks(self) -> Sequence[asyncio.Task[Any]]:
        """The tasks that have not ended."""
        return list(self._tasks)


async def _guarded(coroutine: Coroutine[Any, Any, Any], name: str) -> Any:
    try:
        return await coroutine
    except Exception as error:
        log.error("%s: %s", name, describe(error))
        return None
