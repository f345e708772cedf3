"""Objects that have a name, own tasks, and tell others about events.

A handler is called with the object and the event's arguments, as many of them as it accepts.
Each call runs in a task of its own, so a slow handler delays nobody; the few events that are
registered as `sync` are awaited in line. What a handler raises is logged with file and line.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from engine.sdk.arity import positional
from engine.transports.processors.faults import describe
from ipc.errors import StateError

if TYPE_CHECKING:
    from contextvars import Context

    from engine.transports.processors.task_manager import BaseTaskManager

log = logging.getLogger(__name__)

Handler = TypeVar("Handler", bound=Callable[..., Any])

# Calls of handlers that may run at one time; a handler that hangs must not eat the memory.
MAX_CALLS = 1024
# How long `cleanup` waits for handlers that still run before it cancels them.
HANDLERS_S = 10.0

_ids = itertools.count(1)
_counts: dict[str, itertools.count[int]] = {}


@dataclass(slots=True)
class _Event:
    sync: bool
    # Each handler with the number of positional arguments that it takes, None for any.
    handlers: list[tuple[Callable[..., Any], int | None]] = field(default_factory=list)


class BaseObject:
    """Base of processors, transports and whatever else has events."""

    def __init__(
        self,
        *,
        name: str | None = None,
        task_manager: BaseTaskManager | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        kind = type(self).__name__
        self._id = next(_ids)
        number = next(_counts.setdefault(kind, itertools.count()))
        self._name = name or f"{kind}#{number}"
        self._task_manager = task_manager
        self._events: dict[str, _Event] = {}
        self._calls: set[asyncio.Task[None]] = set()

    @property
    def id(self) -> int:
        """A number that no other object of this process has."""
        return self._id

    @property
    def name(self) -> str:
        """The given name, or the class and a number."""
        return self._name

    def __str__(self) -> str:
        return self._name

    # Tasks.

    @property
    def task_manager(self) -> BaseTaskManager:
        """Who owns the tasks of this object. StateError before `setup`."""
        if self._task_manager is None:
            raise StateError(f"{self} is not set up yet", code="not_set_up")
        return self._task_manager

    async def setup(self, task_manager: BaseTaskManager) -> None:
        """Take `task_manager` for the object's tasks; owners pass it on to what they own."""
        self._task_manager = task_manager

    def create_task(
        self,
        coroutine: Coroutine[Any, Any, Any],
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        """Run `coroutine` as a task of this object. Whoever creates a task cancels it."""
        called = name or getattr(coroutine, "__name__", "task")
        return self.task_manager.create_task(coroutine, f"{self}::{called}", context)

    async def cancel_task(self, task: asyncio.Task[Any], timeout: float | None = 1.0) -> None:
        """Cancel a task of this object and wait for its end, at most `timeout` seconds."""
        await self.task_manager.cancel_task(task, timeout)

    async def cleanup(self) -> None:
        """Wait for handlers that still run, 10 s at most, then cancel them."""
        current = asyncio.current_task()
        running = {task for task in self._calls if task is not current}
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=HANDLERS_S)
        for task in late:
            log.warning("%s: %s did not end in %.0f s", self, task.get_name(), HANDLERS_S)
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)

    # Events.

    def event_handler(self, event_name: str) -> Callable[[Handler], Handler]:
        """Decorator: call the function at each event of that name."""

        def register(handler: Handler) -> Handler:
            self.add_event_handler(event_name, handler)
            return handler

        return register

    def add_event_handler(self, event_name: str, handler: Callable[..., Any]) -> None:
        """Call `handler`, a function or a coroutine function, at each event of that name."""
        event = self._events.get(event_name)
        if event is None:
            log.warning("%s: has no event %s", self, event_name)
            return
        event.handlers.append((handler, _positional(handler)))

    def remove_event_handler(self, event_name: str, handler: Callable[..., Any]) -> None:
        """Call `handler` no longer; nothing happens if it is not there."""
        event = self._events.get(event_name)
        if event is None:
            return
        for entry in event.handlers:
            if entry[0] == handler:
                event.handlers.remove(entry)
                return

    def _register_event_handler(self, event_name: str, sync: bool = False) -> None:
        """Declare an event; `sync` handlers are awaited where the event happens."""
        if event_name in self._events:
            log.warning("%s: event %s is registered already", self, event_name)
            return
        self._events[event_name] = _Event(sync)

    async def _call_event_handler(self, event_name: str, *args: Any, **kwargs: Any) -> None:
        """Tell the handlers of an event. Unknown names are ignored."""
        event = self._events.get(event_name)
        if event is None or not event.handlers:
            return
        for handler, count in list(event.handlers):
            given = (self, *args)[:count]
            if event.sync:
                await self._run_handler(event_name, handler, given, kwargs)
            elif len(self._calls) >= MAX_CALLS:
                log.error("%s: %s is lost: %d handlers run", self, event_name, MAX_CALLS)
            else:
                call = asyncio.get_running_loop().create_task(
                    self._run_handler(event_name, handler, given, kwargs),
                    name=f"{self}::{event_name}",
                )
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)

    async def _run_handler(
        self,
        event_name: str,
        handler: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        try:
            outcome = handler(*args, **kwargs)
            if inspect.isawaitable(outcome):
                await outcome
        except Exception as error:
            log.error("%s: handler of %s failed: %s", self, event_name, describe(error))


def _positional(handler: Callable[..., Any]) -> int | None:
    """How many positional arguments `handler` takes; None: any number."""
    try:
        return positional(handler)
    except TypeError:
        return None
