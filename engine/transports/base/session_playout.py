"""The speaker ring of an SDK session as a playout: writes lead by so much and no more.

Each piece that is written ends in a mark of the session; marks say what has left and what a
flush has cut, and move with audio that survives one. While nobody is there to hear, a write
holds as long as the caller may come back in time, and afterwards keeps real time and says no.
"""

from __future__ import annotations

import asyncio
import bisect
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ipc.errors import SessionClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.sdk import Mark, Played

# Longer audio is queued in pieces, so that what waits for its beginning waits no longer.
PIECE_MS = 40
# What is asked for after so many later pieces has left long ago.
MAX_KNOWN = 1024
# What may be unsent while more of one write comes: less than a ring holds, or the session itself
# would wait for room, and that knows nothing of a caller who is away.
MOST_UNSENT_MS = 900
# How often a write that holds no longer looks whether the caller is still there, at most.
LOOK_S = 0.1


class Speech(Protocol):
    """What is played to: a session of the SDK, or what stands for its speech."""

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        ...

    @property
    def speaker_channels(self) -> int:
        """Channels of the samples."""
        ...

    async def play(
        self,
        pcm: memoryview,
        *,
        hz: int | None = None,
        mark: str | None = None,
        interruptible: bool = True,
    ) -> Played:
        """Queue int16 samples; waits for room. Raises SessionClosed."""
        ...

    def flush(self) -> object:
        """Drop what is queued and may be interrupted, at once."""
        ...

    def end_of_speech(self) -> None:
        """The utterance ends with what is queued."""
        ...


class _Piece(NamedTuple):
    end: int
    samples: int
    interruptible: bool
    mark: asyncio.Future[Mark]


class SessionPlayout:
    """Writes to a session. Cursors count what was written here, at the rate of `hz`."""

    def __init__(
        self,
        session: Speech,
        *,
        hz: int,
        lead_ms: int,
        hold_s: float,
        present: Callable[[], bool],
        piece_ms: int = PIECE_MS,
    ) -> None:
        """`present` tells whether a caller hears; without one a write gives up after `hold_s`."""
        self._session = session
        self._hz = hz
        self.lead_ms = lead_ms
        self._hold_s = hold_s
        self._piece_ms = piece_ms
        self._present = present
        self._written = 0
        # In order: those whose outcome may still be asked for, and those that have not left.
        self._known: deque[_Piece] = deque(maxlen=MAX_KNOWN)
        self._unsent: deque[_Piece] = deque()
        self._flushes = 0
        self._gave_up = False
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def written(self) -> int:
        """The cursor behind the last sample that was queued."""
        return self._written

    @property
    def unsent(self) -> int:
        """Samples that have neither left nor been cut."""
        while self._unsent and self._unsent[0].mark.done():
            self._unsent.popleft()
        return sum(piece.samples for piece in self._unsent if not piece.mark.done())

    async def write(
        self, pcm: bytes | memoryview, *, hz: int | None = None, interruptible: bool = True
    ) -> bool:
        """Queue int16 samples of the session's channels; returns when the lead is kept.

        False when they were cut before that, the session has ended, or nobody came to hear.
        """
        session = self._session
        if session.closed:
            return False
        hz = hz or self._hz
        stride = 2 * session.speaker_channels
        if self._gave_up and not self._present():
            await asyncio.sleep(len(pcm) / stride / hz)
            return False
        self._gave_up = False
        flushes = self._flushes
        step = hz * self._piece_ms // 1000 * stride
        try:
            for at in range(0, len(pcm), step):
                if at and not await self._keep(MOST_UNSENT_MS, interruptible, flushes):
                    return False
                await self._queue(memoryview(pcm)[at : at + step], hz, interruptible)
                if interruptible and flushes != self._flushes:
                    return False
            return await self._keep(self.lead_ms, interruptible, flushes)
        except SessionClosed:
            return False

    async def _queue(self, pcm: memoryview, hz: int, interruptible: bool) -> None:
        session = self._session
        played = await session.play(pcm, hz=hz, mark="written", interruptible=interruptible)
        assert played.mark is not None  # noqa: S101 - one was asked for
        samples = len(pcm) * self._hz // (2 * session.speaker_channels * hz)
        self._written += samples
        piece = _Piece(self._written, samples, interruptible, played.mark)
        self._known.append(piece)
        self._unsent.append(piece)
        played.mark.add_done_callback(self._left)

    async def _keep(self, most_ms: int, interruptible: bool, flushes: int) -> bool:
        """Wait until no more than `most_ms` is unsent; False when that came to nothing."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + self._hold_s
        most = max(most_ms, self.lead_ms) * self._hz // 1000
        while self.unsent > most:
            rest_s = limit - loop.time()
            if rest_s <= 0 and not self._present():
                # Whoever comes back later would hear the end of a sentence that is over.
                self._gave_up = True
                self.flush()
                return False
            await self._change(rest_s if rest_s > 0 else max(self._hold_s, LOOK_S))
            if self._session.closed:
                return False
            if interruptible and flushes != self._flushes:
                return False
        return True

    async def wait(self, cursor: int) -> bool:
        """Whether all before `cursor` has left, once that is decided."""
        at = bisect.bisect_left(self._known, cursor, key=lambda piece: piece.end)
        if at == len(self._known):
            return self._written >= cursor
        piece = self._known[at]
        if cursor <= piece.end - piece.samples:  # of long ago
            return True
        return (await asyncio.shield(piece.mark)).played

    def has_left(self, cursor: int) -> bool:
        """Whether all before `cursor` is known to have left."""
        at = bisect.bisect_left(self._known, cursor, key=lambda piece: piece.end)
        if at == len(self._known):
            return self._written >= cursor
        piece = self._known[at]
        if cursor <= piece.end - piece.samples:  # of long ago
            return True
        return piece.mark.done() and not piece.mark.cancelled() and piece.mark.result().played

    def flush(self) -> None:
        """Drop what is queued and may be interrupted, at once."""
        self._flushes += 1
        self._unsent = deque(piece for piece in self._unsent if not piece.interruptible)
        self._session.flush()
        self._wake()

    def end(self) -> None:
        """The utterance ends with what is queued."""
        self._session.end_of_speech()

    def changed(self) -> None:
        """The caller came or went."""
        self._wake()

    def _left(self, _mark: asyncio.Future[Mark]) -> None:
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            _let_look(waiter)

    async def _change(self, timeout_s: float) -> None:
        # By hand, as this is awaited for each chunk: `asyncio.wait` costs twice as much.
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(timeout_s, _let_look, waiter)
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiters.discard(waiter)


def _let_look(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
