"""The rings of one bot of a session, with what belongs to them: segment, bell, codec.

Made before the bot has attached. When a bot is followed by another one, the rings of the second
begin where those of the first stand.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING

from ipc.audio_ring import NEVER, BotRing, RingSpec, WorkerRing, size_bytes
from ipc.clock import NS_PER_MS
from ipc.codec import Codec
from ipc.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ipc.bell import BellRope

RING_AGAIN_NS = 100 * NS_PER_MS


async def _nothing() -> None:
    pass


class Rings:
    """The rings of one bot epoch, in a shared segment or in private memory."""

    def __init__(
        self,
        spec: RingSpec,
        segment_name: str,
        rope: BellRope | None,
        old: WorkerRing | None = None,
    ) -> None:
        """Make rings; those of an earlier bot (`old`) of the same shape go on in them.

        When they cannot be made, no segment is left, and `rope` is still the caller's.
        """
        self.epoch = spec.epoch
        self.rope = rope
        self.on_close: Callable[[], None] = lambda: None
        # Returns when the bot has what it asked for; raises BotRejected when it did not take it.
        self.claimed: Callable[[], Awaitable[None]] = _nothing
        self.codec = Codec()
        self._rung_for = NEVER
        self._ring_again_ns = 0
        if old is not None:
            old.apply_flush()
        self.continues = old is not None and old.fits(spec)
        if old is not None and self.continues:
            spec = dataclasses.replace(spec, mic_base=old.mic_read, speaker_base=old.taken)
        size = size_bytes(spec)
        self._segment = Segment.create(segment_name, size) if segment_name else None
        buffer = self._segment.buffer if self._segment else memoryview(bytearray(size))
        with contextlib.ExitStack() as undo:
            undo.callback(self._remove)
            self.ring = WorkerRing.format(buffer, spec, os.getpid())
            undo.callback(self.ring.release)
            if old is not None and self.continues:
                self.ring.preload(old)
            self.bot_end = None if self._segment else BotRing(buffer)
            undo.pop_all()

    def attach(self) -> None:
        """The bot has mapped the segment: its name is not needed any more."""
        if self._segment is not None:
            self._segment.unlink()

    def mic_grew(self) -> None:
        """Ring the bell if the bot has what it waits for."""
        if self.rope is not None and self.ring.mic_written >= self.ring.mic_want:
            self.rope.pull()

    def left(self, sent: int, now_ns: int, *, flushed: bool) -> None:
        """Ring the bell if the bot waits for speaker sample `sent` to leave, or for a flush."""
        rope, ring = self.rope, self.ring
        if rope is None:
            return
        wanted = min(ring.speaker_want, ring.speaker_mark)
        # Once is enough, for a bell costs more than the packet: a bot that is busy burning its
        # GIL leaves the word as it is for many frames. Now and then again, should one get lost.
        if sent >= wanted and (wanted != self._rung_for or now_ns >= self._ring_again_ns):
            self._rung_for = wanted
            self._ring_again_ns = now_ns + RING_AGAIN_NS
            rope.pull_later()
        if flushed:
            rope.pull()

    def close(self) -> None:
        """Give everything back."""
        self.on_close()
        if self.bot_end is not None:
            self.bot_end.release()
        self.ring.release()
        self._remove()
        if self.rope is not None:
            self.rope.let_go()

    def _remove(self) -> None:
        if self._segment is not None:
            self._segment.unlink()
            self._segment.close()
