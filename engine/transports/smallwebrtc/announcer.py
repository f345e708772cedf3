"""Objects whose events are told one after the other, in the order in which they happened.

One task tells them all, so the order of messages is a promise; a handler that hangs delays what
comes behind it by a second and no more, and no flood of what callers send hides their end.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from engine.transports.processors import BaseObject

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

MAX_TOLD = 1024  # half of it for what callers send
HANDLER_S = 1.0


class Announcer(BaseObject):
    """`_tell` announces an event; subclasses name their `events` and those that are `SENT`."""

    EVENTS: tuple[str, ...] = ()
    # What the other side sends as often as it likes.
    SENT: frozenset[str] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[tuple[str, tuple[Any, ...]]] = deque()
        self._telling: asyncio.Task[None] | None = None
        self._told_all = False
        for event in self.EVENTS:
            self._register_event_handler(event, sync=True)

    def _tell(self, event: str, *arguments: Any) -> None:
        if len(self._waiting) >= (MAX_TOLD // 2 if event in self.SENT else MAX_TOLD):
            log.error("%s: handlers are too slow, %s is left out", self, event)
            return
        self._waiting.append((event, arguments))
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_all(), name=f"{self.name} events")

    def _tell_last(self, event: str) -> None:
        """Announce the end: the object is cleaned up behind it."""
        self._told_all = True
        self._tell(event)

    async def _tell_all(self) -> None:
        while self._waiting:
            event, arguments = self._waiting.popleft()
            await self._call_event_handler(event, *arguments)
        if self._told_all:
            await self.cleanup()

    async def _run_handler(
        self,
        event_name: str,
        handler: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        # One that hangs must not keep the end of the call from the others: what comes next waits
        # for it so long and no longer.
        running = asyncio.create_task(
            super()._run_handler(event_name, handler, args, kwargs),
            name=f"{self.name} {event_name}",
        )
        self._calls.add(running)
        running.add_done_callback(self._calls.discard)
        await asyncio.wait((running,), timeout=HANDLER_S)
