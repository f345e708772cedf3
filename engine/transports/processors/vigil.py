"""Watches that a pipeline moves: that somebody speaks now and then, that heartbeats get through.

It only notices. What follows is the task's decision.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.transports.processors.task import PipelineTask
    from ipc.frames import Frame, HeartbeatFrame


class Vigil:
    """Two watches over `task`; `idle_s` None or 0 leaves out the one for idleness."""

    def __init__(
        self, task: PipelineTask, types: tuple[type[Frame], ...], idle_s: float | None
    ) -> None:
        self._task = task
        self._types = types
        self._idle_s = idle_s
        self._moved = asyncio.Event()
        self._beaten = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []

    def saw(self, frame: Frame) -> None:
        """A frame went from one processor to the next."""
        if isinstance(frame, self._types):
            self._moved.set()

    def beat(self, frame: HeartbeatFrame) -> None:
        """A heartbeat came out at the far end."""
        self._beaten.set()

    def start(self) -> None:
        """Begin to watch."""
        task = self._task
        if self._idle_s:
            self._tasks.append(task.create_task(self._watch_idle(self._idle_s), "idle"))
        if task.params.enable_heartbeats:
            self._tasks.append(task.create_task(self._send_beats(), "heartbeat"))
            self._tasks.append(task.create_task(self._watch_beats(), "heartbeat_watch"))

    async def stop(self) -> None:
        """Watch no longer."""
        for watch in self._tasks:
            await self._task.cancel_task(watch)
        self._tasks.clear()

    async def _watch_idle(self, idle_s: float) -> None:
        while True:
            if not await _within(self._moved, idle_s):
                await self._task.idle()

    async def _watch_beats(self) -> None:
        while True:
            if not await _within(self._beaten, self._task.params.heartbeats_monitor_secs):
                await self._task.heart_stopped()

    async def _send_beats(self) -> None:
        while True:
            await self._task.beat()
            await asyncio.sleep(self._task.params.heartbeats_period_secs)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether `event` happened from now on, before `seconds` had passed."""
    event.clear()
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
