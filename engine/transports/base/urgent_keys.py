"""Keys that are pressed at once: one frame after the other, beside whatever else is sent.

Tones take as long as they last, so nothing may wait behind them, an interruption least of all.
Only so many frames wait for their turn; a task runs while there are any.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ipc.errors import Overloaded

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

# Six seconds of single keys: whoever presses more has gone wrong.
MAX_WAITING = 32


class UrgentKeys:
    """The keys of one `transport`, a processor that runs tasks and pushes errors.

    `press` presses a frame's keys; what it raises is pushed as an error, and the next ones go on.
    """

    def __init__(self, transport: Any, press: Callable[[Any], Awaitable[None]]) -> None:
        self._transport = transport
        self._press = press
        self._waiting: deque[Any] = deque()
        self._pressing: asyncio.Task[Any] | None = None

    def add(self, frame: Any) -> None:
        """Press a frame's keys behind those before. Raises Overloaded while 32 frames wait."""
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} frames of keys wait to be pressed", code="keys")
        self._waiting.append(frame)
        if self._pressing is None or self._pressing.done():
            self._pressing = self._transport.create_task(self._press_all(), "urgent keys")

    async def end(self) -> None:
        """Press no more."""
        self._waiting.clear()
        pressing, self._pressing = self._pressing, None
        if pressing is not None:
            await self._transport.cancel_task(pressing)

    async def _press_all(self) -> None:
        while self._waiting:
            frame = self._waiting.popleft()
            try:
                await self._press(frame)
            except Exception as error:
                await self._transport.push_error(f"Could not press {frame}: {error}", error)
