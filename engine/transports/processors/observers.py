"""Observers: they see each frame go from one processor to the next, and change nothing.

An observer of a user gets what it sees through a queue of its own, in a task of its own, so
a slow one delays nobody; when its queue is full the oldest is dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.transports.processors.events import BaseObject
from engine.transports.processors.faults import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.transports.processors.node import Node
    from engine.transports.processors.processor import FrameProcessor
    from engine.transports.processors.setup import FrameDirection
    from engine.transports.processors.task_manager import BaseTaskManager
    from ipc.frames import Frame

log = logging.getLogger(__name__)

MAX_SEEN = 4096


@dataclass
class FrameProcessed:
    """`processor` is about to handle `frame`. `timestamp`: ns of the pipeline's clock."""

    processor: FrameProcessor
    frame: Frame
    direction: FrameDirection
    timestamp: int


@dataclass
class FramePushed:
    """`frame` goes from `source` to `destination`; `first_push` where it enters its way."""

    source: Node
    destination: FrameProcessor
    frame: Frame
    direction: FrameDirection
    timestamp: int
    first_push: bool = True


class BaseObserver(BaseObject):
    """Base of observers: each method is awaited with what was seen.

    Without `observe_every_push` a frame is shown only where it enters its way.
    """

    def __init__(self, *, observe_every_push: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._every = observe_every_push

    @property
    def observe_every_push(self) -> bool:
        """Whether each push of a frame is shown, or the first only."""
        return self._every

    async def on_process_frame(self, data: FrameProcessed) -> None:
        """A processor is about to handle a frame."""

    async def on_push_frame(self, data: FramePushed) -> None:
        """A frame goes from one processor to the next."""

    async def on_pipeline_started(self) -> None:
        """The start frame has passed all processors."""


class _Outlet:
    """One user's observer with its queue."""

    def __init__(self, observer: BaseObserver) -> None:
        self.observer = observer
        self.task: asyncio.Task[None] | None = None
        self.dropped = 0
        self._seen: deque[FrameProcessed | FramePushed | None] = deque()
        self._arrived = asyncio.Event()

    def put(self, seen: FrameProcessed | FramePushed | None) -> None:
        if len(self._seen) >= MAX_SEEN:
            self._seen.popleft()
            self.dropped += 1
            if self.dropped == 1:
                log.warning("%s is too slow: it misses frames", self.observer)
        self._seen.append(seen)
        self._arrived.set()

    async def run(self) -> None:
        while True:
            while not self._seen:
                self._arrived.clear()
                await self._arrived.wait()
            seen = self._seen.popleft()
            try:
                if seen is None:
                    await self.observer.on_pipeline_started()
                elif isinstance(seen, FramePushed):
                    await self.observer.on_push_frame(seen)
                else:
                    await self.observer.on_process_frame(seen)
            except Exception as error:
                log.error("%s: %s", self.observer, describe(error))


class Observers(BaseObserver):
    """All observers of a pipeline, as one: it only hands on what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self._outlets: list[_Outlet] = []
        self._running = False
        self._watch: Callable[[Frame], None] | None = None

    def watch(self, saw: Callable[[Frame], None]) -> None:
        """Call `saw` with each frame at once; it must be quick and raise nothing."""
        self._watch = saw

    def add(self, observers: Sequence[BaseObserver]) -> None:
        """From here on they see the frames."""
        for observer in observers:
            outlet = _Outlet(observer)
            self._outlets.append(outlet)
            if self._running:
                self._begin(outlet)

    async def remove(self, observer: BaseObserver) -> None:
        """`observer` sees no more frames."""
        for outlet in [one for one in self._outlets if one.observer is observer]:
            self._outlets.remove(outlet)
            if outlet.task is not None:
                await self.cancel_task(outlet.task)

    async def setup(self, task_manager: BaseTaskManager) -> None:
        """Begin to hand on."""
        await super().setup(task_manager)
        self._running = True
        for outlet in self._outlets:
            await outlet.observer.setup(task_manager)
            self._begin(outlet)

    async def cleanup(self) -> None:
        """End the tasks of all observers."""
        self._running = False
        for outlet in self._outlets:
            if outlet.task is not None:
                await self.cancel_task(outlet.task)
                outlet.task = None
            await outlet.observer.cleanup()
        await super().cleanup()

    async def on_process_frame(self, data: FrameProcessed) -> None:
        """Hand on what was seen."""
        for outlet in self._outlets:
            outlet.put(data)

    async def on_push_frame(self, data: FramePushed) -> None:
        """Hand on what was seen."""
        if self._watch is not None:
            self._watch(data.frame)
        for outlet in self._outlets:
            if data.first_push or outlet.observer.observe_every_push:
                outlet.put(data)

    async def on_pipeline_started(self) -> None:
        """Hand on that the pipeline runs."""
        for outlet in self._outlets:
            outlet.put(None)

    def _begin(self, outlet: _Outlet) -> None:
        outlet.task = self.create_task(outlet.run(), f"observe::{outlet.observer}")
