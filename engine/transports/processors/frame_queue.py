"""The frames that wait for one processor, bounded in number and in bytes.

The rule: a queued frame for a full queue waits for room and is refused after 20 s; a system
frame never waits, it takes the place of the oldest audio or image that waits, or else of the
oldest frame. So nothing delays an interruption or a cancel, and a processor that hangs costs
a bounded amount of memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from ipc.errors import LimitError
from ipc.frames import AudioRawFrame, Frame, ImageRawFrame

log = logging.getLogger(__name__)

# 82 s of audio in frames of 20 ms; at 24 kHz mono the bytes are 22 minutes.
MAX_FRAMES = 4096
MAX_BYTES = 64 * 1024 * 1024
# Nobody waits longer for room: a queue that does not move for so long never will.
ROOM_S = 20.0

# A frame, the direction it travels, what to await once it is handled, and its arrival number.
Item: TypeAlias = tuple[Frame, Any, Callable[..., Awaitable[None]] | None, int]


class FrameQueue:
    """First in, first out, for one reader; `owner` is named when frames are lost."""

    def __init__(
        self, max_frames: int = MAX_FRAMES, max_bytes: int = MAX_BYTES, *, owner: object = "a queue"
    ) -> None:
        self._owner = owner
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        # Writers that wait for room, with what they want to write, in order.
        self._waiting: deque[tuple[asyncio.Future[None], Item]] = deque()
        self.displaced = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def oldest(self) -> int | None:
        """The arrival number of the frame that is taken next."""
        return self._items[0][3] if self._items else None

    async def put(self, item: Item, wait_s: float | None = None) -> None:
        """Append `item`, waiting for room. LimitError(queue_full) after `wait_s` or 20 s."""
        limit_s = ROOM_S if wait_s is None else wait_s
        if not self._waiting and self._has_room(item):
            self._append(item)
            return
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (room, item)
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(limit_s):
                await room
        except TimeoutError:
            raise LimitError(
                f"{item[0]} found no room among {len(self)} frames in {limit_s:.0f} s",
                code="queue_full",
            ) from None
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def put_now(self, item: Item) -> None:
        """Append `item`, in the place of an older one when there is no room."""
        while self._items and not self._has_room(item):
            self._displace()
        self._append(item)

    def put_first(self, item: Item) -> None:
        """Put `item` before all others, whether there is room or not."""
        self._items.appendleft(item)
        self._bytes += _size(item)
        self._arrived.set()

    async def get(self) -> Item:
        """Take the oldest item, waiting for one."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        item = self._items.popleft()
        self._bytes -= _size(item)
        if self._waiting:
            self._admit()
        return item

    def drop_interruptible(self, before: int) -> None:
        """Drop what an interruption drops that arrived before number `before`.

        That goes for those that wait for room as well.
        """

        def drops(item: Item) -> bool:
            return item[0].interruptible and item[3] < before

        kept = [item for item in self._items if not drops(item)]
        self._items.clear()
        self._items.extend(kept)
        self._bytes = sum(map(_size, kept))
        for waiter in list(self._waiting):
            if drops(waiter[1]):
                self._waiting.remove(waiter)
                _release(waiter[0])
        self._admit()

    def clear(self) -> None:
        """Drop everything, also what waits for room."""
        self._items.clear()
        self._bytes = 0
        while self._waiting:
            _release(self._waiting.popleft()[0])

    def has(self, frame_type: type[Frame]) -> bool:
        """Whether a frame of that type waits."""
        return any(isinstance(item[0], frame_type) for item in self._items)

    def _has_room(self, item: Item) -> bool:
        return not self._items or (
            len(self._items) < self._max_frames and self._bytes + _size(item) <= self._max_bytes
        )

    def _append(self, item: Item) -> None:
        self._items.append(item)
        self._bytes += _size(item)
        self._arrived.set()

    def _admit(self) -> None:
        while self._waiting and self._has_room(self._waiting[0][1]):
            room, item = self._waiting.popleft()
            # The writer may have been cancelled in the meantime.
            if not room.done():
                self._append(item)
                room.set_result(None)

    def _displace(self) -> None:
        self.displaced += 1
        # Powers of two: a reader that hangs must not fill the log as well.
        if self.displaced & (self.displaced - 1) == 0:
            log.warning("%s is full: %d frames lost", self._owner, self.displaced)
        for index, item in enumerate(self._items):
            if isinstance(item[0], AudioRawFrame | ImageRawFrame):
                del self._items[index]
                break
        else:
            item = self._items.popleft()
        self._bytes -= _size(item)


def _size(item: Item) -> int:
    frame = item[0]
    if isinstance(frame, AudioRawFrame):
        return len(frame.audio)
    if isinstance(frame, ImageRawFrame):
        return len(frame.image)
    return 0


def _release(room: asyncio.Future[None]) -> None:
    if not room.done():
        room.set_result(None)
