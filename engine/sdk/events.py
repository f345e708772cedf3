"""Handlers of a session's events, and whoever waits for something to change.

Knows no media: it is told what happened and calls whoever asked to hear of it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from engine.sdk.arity import positional
from ipc.errors import ConfigError, SessionClosed

log = logging.getLogger("backbeat.bot")

EVENTS = ("connected", "disconnected", "closed", "message", "track", "mark", "peer", "raw")
# A mark has its own result for whoever waits for it.
KEPT = frozenset(EVENTS) - {"mark"}
MAX_RUNNING = MAX_KEPT = 256
Handler = Callable[..., Awaitable[object] | object]
AnyHandler = TypeVar("AnyHandler", bound=Handler)


class Waiters:
    """Tasks that look again whenever something changed."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def wake(self) -> None:
        """Something changed."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)

    async def changed(self) -> None:
        """Return at the next `wake`."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiting:  # not when it was woken at the same time
                self._waiting.remove(waiter)
            raise


class Events:
    """The event handlers of one session, each call in a task of its own.

    What happens while an event has no handler is kept for the first one.
    """

    def __init__(self, session_id: str) -> None:
        self.dropped = 0
        self._session_id = session_id
        # Each with how many arguments it takes, which is found out once.
        self._handlers: dict[str, list[tuple[Handler, int | None]]] = {name: [] for name in EVENTS}
        self._running: set[asyncio.Task[None]] = set()
        self._kept: dict[str, deque[tuple[Any, ...]]] = {
            name: deque(maxlen=MAX_KEPT) for name in KEPT
        }

    def add(self, event: str, handler: Handler) -> None:
        """Call `handler` at each `event`. Raises ConfigError for an event that does not exist."""
        self.check(event)
        self._handlers[event].append((handler, positional(handler)))
        kept = self._kept.get(event)
        while kept:
            self.fire(event, *kept.popleft())

    def taken(self, event: str) -> None:
        """The oldest one that is kept has gone another way."""
        if self._kept[event]:
            self._kept[event].popleft()

    def check(self, event: str) -> None:
        """Raise ConfigError for an event that does not exist."""
        if event not in EVENTS:
            raise ConfigError(f"{event!r} is no event; there are {', '.join(EVENTS)}")

    def fire(self, event: str, *arguments: Any) -> None:
        """Call the handlers, each with as many of the arguments as it takes."""
        if not self._handlers[event] and event in self._kept:
            self._kept[event].append(arguments)
        for handler, takes in self._handlers[event]:
            # The end comes once, and whoever misses it waits for ever.
            if len(self._running) >= MAX_RUNNING and event != "closed":
                self.dropped += 1
                continue
            given = arguments[:takes]
            task = asyncio.create_task(self._handle(handler, given), name=f"on {event}")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def settle(self, grace_s: float) -> None:
        """Wait for running handlers, and end those that take longer."""
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _handle(self, handler: Handler, arguments: tuple[Any, ...]) -> None:
        try:
            result = handler(*arguments)
            if inspect.isawaitable(result):
                await result
        except SessionClosed:  # the caller left while it was at work
            log.debug("an event handler of session %s was cut short", self._session_id)
        except Exception:
            log.exception("an event handler of session %s failed", self._session_id)
