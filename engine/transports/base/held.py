"""What must follow audio in order, until that audio has left for the caller.

Speaking events, messages and the audio frames that go on to recorders wait here at a cursor of
the playout. A flush drops those that may be interrupted; the others keep their order. Where audio
is lost otherwise, as nobody came to hear it, only the audio itself goes no further.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.transports.base.playout import Playout

log = logging.getLogger(__name__)

# Many times what 400 ms of lead can hold; more is a flood of messages, which then waits.
MAX_HELD = 1024
PAST_S = 0.1


@dataclass(slots=True)
class _Item:
    cursor: int
    act: Callable[[], Awaitable[None]]
    interruptible: bool
    audio: bool
    # Whether it is audio, or some of that stands between it and the last flush.
    follows: bool
    dropped: bool = False
    # Whether a flush came too late for it.
    past: bool = False


class Held:
    """The things behind one destination's audio. `run` lets them go, one after the other."""

    def __init__(self, playout: Playout) -> None:
        self._playout = playout
        self._items: deque[_Item] = deque()
        self._flushed_at = 0
        self._changed = asyncio.Event()
        self._acting = False

    @property
    def empty(self) -> bool:
        """Whether nothing is held or under way."""
        return not self._items and not self._acting

    @property
    def has_audio(self) -> bool:
        """Whether audio is among it."""
        return any(item.audio for item in self._items)

    @property
    def has_lasting_audio(self) -> bool:
        """Whether audio is among it that no flush takes."""
        return any(item.audio and not item.interruptible for item in self._items)

    async def add(
        self,
        cursor: int,
        act: Callable[[], Awaitable[None]],
        *,
        interruptible: bool,
        audio: bool = False,
    ) -> None:
        """Do this once all before `cursor` has left. Waits while very much is held."""
        follows = audio or cursor > self._flushed_at
        item = _Item(cursor, act, interruptible, audio, follows)
        self._items.append(item)
        self._changed.set()
        while len(self._items) > MAX_HELD and not item.dropped:
            await self._change()

    def drop(self) -> None:
        """A flush: what may be interrupted is forgotten, but for what the flush came too late for.

        To be called behind the playout's flush.
        """
        self._flushed_at = self._playout.written
        for item in self._items:
            item.past = item.interruptible and self._playout.has_left(item.cursor)
            item.dropped = item.interruptible and not item.past
        self._items = deque(item for item in self._items if not item.dropped)
        self._changed.set()

    async def run(self) -> None:
        """Let things go, as the playout does."""
        while True:
            while not self._items:
                await self._change()
            item = self._items[0]
            # Right behind a flush there is no audio to wait for, only what it has cut.
            left = not item.follows or await self._playout.wait(item.cursor)
            if item.dropped:
                continue
            self._acting = True
            self._items.popleft()
            try:
                if left or not (item.interruptible and item.audio):
                    await item.act()
            except Exception:
                log.exception("what follows the audio failed")
            finally:
                self._acting = False
                self._changed.set()

    async def wait_past(self) -> None:
        """Return when what had left before a `drop` has gone; at most 0.1 s later."""
        try:
            async with asyncio.timeout(PAST_S):
                while self._acting or any(item.past for item in self._items):
                    await self._change()
        except TimeoutError:
            log.warning("what follows the audio before an interruption is late")

    async def wait_empty(self) -> None:
        """Return when everything has gone."""
        while not self.empty:
            await self._change()

    async def _change(self) -> None:
        # Several may wait, so whoever changes something sets and nobody needs to clear in time:
        # each looks again by itself.
        self._changed.clear()
        await self._changed.wait()
