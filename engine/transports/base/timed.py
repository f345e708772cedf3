"""Frames with a presentation time: each goes downstream when the pipeline's clock reaches it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from typing import TYPE_CHECKING

from ipc.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.transports.frames import Frame

log = logging.getLogger(__name__)

MAX_TIMED = 20_000


class TimedFrames:
    """Frames by their `pts` in ns; equal ones keep their order. `run` pushes them."""

    def __init__(self, now_ns: Callable[[], int], push: Callable[[Frame], Awaitable[None]]) -> None:
        self._now_ns = now_ns
        self._push = push
        self._frames: list[tuple[int, int, Frame]] = []
        self._order = itertools.count()
        self._changed = asyncio.Event()
        self._pushing = False

    async def put(self, frame: Frame) -> None:
        """Keep a frame until its time; waits while very many are kept."""
        while len(self._frames) >= MAX_TIMED:
            await self._change(None)
        heapq.heappush(self._frames, (frame.pts or 0, next(self._order), frame))
        self._changed.set()

    def drop(self) -> None:
        """Forget what may be interrupted."""
        self._frames = [item for item in self._frames if not item[2].interruptible]
        heapq.heapify(self._frames)
        self._changed.set()

    async def run(self) -> None:
        """Push each frame at its time."""
        while True:
            due_s = None
            if self._frames:
                due_s = (self._frames[0][0] - self._now_ns()) / NS_PER_S
            if due_s is None or due_s > 0:
                await self._change(due_s)
                continue
            frame = heapq.heappop(self._frames)[2]
            self._pushing = True
            try:
                await self._push(frame)
            except Exception:
                log.exception("a timed frame could not be pushed")
            finally:
                self._pushing = False
                self._changed.set()

    async def wait_empty(self) -> None:
        """Return when every frame has had its time."""
        while self._frames or self._pushing:
            await self._change(None)

    async def _change(self, timeout_s: float | None) -> None:
        self._changed.clear()
        waiter = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((waiter,), timeout=timeout_s)
        finally:
            waiter.cancel()
