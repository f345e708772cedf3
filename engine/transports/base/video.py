"""Images toward one destination, each at its time.

A picture that is not live repeats at the frame rate, several of them take turns. Live images
are shown once each: too many of them wait no longer than half a second, the oldest go first.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from typing import TYPE_CHECKING

from engine.transports.frames import OutputImageRawFrame, SpriteFrame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from engine.transports.base.params import TransportParams

log = logging.getLogger(__name__)

MAX_LIVE_S = 0.5
# Beyond so many frames of lateness the schedule begins anew instead of catching up.
MAX_LATE_FRAMES = 5


class Video:
    """The images of one destination. `run` writes them."""

    def __init__(
        self,
        params: TransportParams,
        write: Callable[[OutputImageRawFrame], Awaitable[object]],
    ) -> None:
        self._write = write
        self._live = params.video_out_is_live
        self._interval_s = 1 / params.video_out_framerate
        self._queue: deque[OutputImageRawFrame] = deque(
            maxlen=max(1, round(MAX_LIVE_S * params.video_out_framerate))
        )
        self._images: Iterator[OutputImageRawFrame] | None = None
        self._changed = asyncio.Event()

    def show(self, frame: OutputImageRawFrame | SpriteFrame) -> None:
        """Show an image, or several in turns."""
        if isinstance(frame, SpriteFrame):
            self._images = itertools.cycle(frame.images) if frame.images else None
        elif self._live:
            self._queue.append(frame)
        else:
            self._images = itertools.cycle((frame,))
        self._changed.set()

    def drop(self) -> None:
        """Forget live images that may be interrupted."""
        kept = [frame for frame in self._queue if not frame.interruptible]
        self._queue.clear()
        self._queue.extend(kept)

    async def run(self) -> None:
        """Write each image at its time."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            image = self._next()
            if image is None:
                self._changed.clear()
                await self._changed.wait()
                due = max(due, loop.time())
                continue
            now = loop.time()
            if now - due > MAX_LATE_FRAMES * self._interval_s:
                due = now
            if due > now:
                await asyncio.sleep(due - now)
            due += self._interval_s
            try:
                await self._write(image)
            except Exception:
                log.exception("an image could not be written")
                self._images = None  # it would fail as often as it was repeated

    def _next(self) -> OutputImageRawFrame | None:
        if self._queue:
            return self._queue.popleft()
        return next(self._images) if self._images is not None and not self._live else None
