"""Answers to flushes: what was sent, and about what of it the caller had heard.

The worker answers a flush exactly; one that it does not answer in time is answered from the
newest anchor. What was heard can only be estimated: a jitter buffer is on the way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from ipc.audio_ring import FRAME_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipc.ring_layout import Playback

FLUSH_DEADLINE_S = 0.1
# The peer's jitter buffer: what Chromium keeps on a calm path, and more by its own jitter.
JITTER_BUFFER_US = 40_000
JITTER_FACTOR = 4
MAX_JITTER_BUFFER_US = 200_000


class Flushed(NamedTuple):
    """What a flush left: `cursor` is the last sample sent, those that faded out included.

    `heard` estimates the last one that the caller had heard at the call of `flush`. `exact` is
    False when the worker did not answer in 100 ms: `cursor` is then the newest anchor's.
    """

    cursor: int
    heard: int
    exact: bool


class PendingFlush:
    """A flush that the worker has not answered."""

    def __init__(self, flush_to: int, heard: int, overdue: Callable[[PendingFlush], None]) -> None:
        loop = asyncio.get_running_loop()
        self.flush_to = flush_to
        self._heard = heard
        self.result: asyncio.Future[Flushed] = loop.create_future()
        self._timer = loop.call_later(FLUSH_DEADLINE_S, overdue, self)

    def answer(self, cursor: int, *, exact: bool) -> None:
        """Tell whoever awaits it."""
        self._timer.cancel()
        if not self.result.done():
            self.result.set_result(Flushed(cursor, min(self._heard, cursor), exact))


def heard_by(anchor: Playback, now_ns: int, hz: int) -> int:
    """The cursor of the last sample that the caller has about heard at `now_ns`."""
    buffer_us = min(JITTER_BUFFER_US + JITTER_FACTOR * anchor.jitter_us, MAX_JITTER_BUFFER_US)
    since_us = max(0, now_ns - anchor.ns) // 1000
    # The packet left at `ns`; its last sample is played 20 ms after its first.
    behind_us = max(0, anchor.rtt_us // 2 + buffer_us + FRAME_MS * 1000 - since_us)
    return anchor.cursor - behind_us * hz // 1_000_000
