"""Several destinations on one way to the caller: their audio is summed, sample by sample.

Each destination is a line with a playout of its own. What a flush of one line cuts of the others,
because it was already in the sum, goes into the next sum again; so lines do not hear each other.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from ipc.errors import BackbeatError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from engine.transports.base.session_playout import SessionPlayout
    from ipc.frames import Pcm

log = logging.getLogger(__name__)

PIECE_MS = 20
# How much of a line may wait to be summed; more would be lead that nobody asked for.
BACKLOG_MS = 40
MAX_KNOWN = 1024


class _Part:
    """What one write gave to a line. `left` is decided once: it left, or was cut."""

    __slots__ = ("end", "interruptible", "left", "rest", "samples")

    def __init__(self, end: int, samples: int, rest: Pcm, interruptible: bool) -> None:
        self.end = end
        self.samples = samples
        self.rest = rest
        self.interruptible = interruptible
        self.left: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def decide(self, left: bool) -> None:
        if not self.left.done():
            self.left.set_result(left)


class _Piece:
    """A piece of the sum, up to `end` of the way out, and what of each line is in it."""

    __slots__ = ("end", "shares")

    def __init__(self, shares: list[tuple[Line, _Part, Pcm, bool]]) -> None:
        self.end = 0
        self.shares = shares

    def decide(self, left: bool) -> None:
        for _, part, _, last in self.shares:
            if last or not left:
                part.decide(left)


class Line:
    """One destination's audio: written here, summed with the others."""

    def __init__(self, sum_: Sum) -> None:
        self._sum = sum_
        self._written = 0
        self.parts: deque[_Part] = deque()
        self._known: deque[_Part] = deque(maxlen=MAX_KNOWN)

    @property
    def written(self) -> int:
        """The cursor behind the last sample that was queued."""
        return self._written

    async def write(
        self, pcm: bytes | memoryview, *, hz: int | None = None, interruptible: bool = True
    ) -> bool:
        """Queue int16 samples; see `SessionPlayout.write`. ConfigError for another rate."""
        total = self._sum
        if hz not in (None, total.hz):
            raise ConfigError(f"a destination takes {total.hz} Hz, not {hz}", code="rate")
        if total.closed or not pcm:
            return not pcm
        samples = np.frombuffer(pcm, np.int16)
        count = len(samples) // total.channels
        self._written += count
        part = _Part(self._written, count, samples, interruptible)
        self.parts.append(part)
        self._known.append(part)
        total.wake()
        backlog = BACKLOG_MS * total.hz // 1000 * total.channels
        while sum(len(each.rest) for each in self.parts) > backlog and not part.left.done():
            await total.change()
        return not part.left.done() or part.left.result()

    async def wait(self, cursor: int) -> bool:
        """Whether all before `cursor` has left, once that is decided."""
        at = bisect.bisect_left(self._known, cursor, key=lambda part: part.end)
        if at == len(self._known):
            return self._written >= cursor
        part = self._known[at]
        if cursor <= part.end - part.samples:  # of long ago
            return True
        return await asyncio.shield(part.left)

    def has_left(self, cursor: int) -> bool:
        """Whether all before `cursor` is known to have left."""
        at = bisect.bisect_left(self._known, cursor, key=lambda part: part.end)
        if at == len(self._known):
            return self._written >= cursor
        part = self._known[at]
        if cursor <= part.end - part.samples:  # of long ago
            return True
        return part.left.done() and part.left.result()

    def flush(self) -> None:
        """Drop what of this line is queued and may be interrupted, at once."""
        for part in self._known:
            if part.interruptible:
                part.decide(False)
        self.parts = deque(part for part in self.parts if not part.interruptible)
        self._sum.flush()

    def end(self) -> None:
        """The utterance ends, unless another line goes on."""
        self._sum.end()


class Sum:
    """The lines of one way out. `close` ends it."""

    def __init__(self, out: SessionPlayout, hz: int, channels: int) -> None:
        self.hz = hz
        self.channels = channels
        self.closed = False
        self._out = out
        self._lines: dict[str | None, Line] = {}
        # On their way out, and those that a flush has cut.
        self._pieces: deque[_Piece] = deque()
        self._cut: list[_Piece] = []
        self._flushed = False
        self._waiters: set[asyncio.Future[None]] = set()
        self._tasks: list[asyncio.Task[Any]] = []

    def line(self, destination: str | None) -> Line:
        """The line of a destination."""
        if not self._tasks:
            self._run(self._add_up(), "sum")
            self._run(self._settle(), "sum leaves")
        return self._lines.setdefault(destination, Line(self))

    async def close(self) -> None:
        """End; what has not left counts as cut."""
        self.closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for piece in (*self._pieces, *self._cut):
            piece.decide(False)
        for line in self._lines.values():
            for part in line.parts:
                part.decide(False)
        self.wake()

    def flush(self) -> None:
        """A line was flushed: what is on its way is cut, and the others' share comes again."""
        self._flushed = True
        self._out.flush()
        self.wake()

    def end(self) -> None:
        """The utterance of a line ends."""
        if not any(line.parts for line in self._lines.values()):
            self._out.end()

    def wake(self) -> None:
        """Whoever waits looks again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def change(self) -> None:
        """Return at the next `wake`."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    async def _add_up(self) -> None:
        while True:
            if self._flushed:
                await self._put_back()
            pcm, piece = self._next()
            if piece is None:
                await self.change()
                continue
            self.wake()
            before = self._out.written
            try:
                taken = await self._out.write(pcm)
            except BackbeatError:
                log.exception("a sum of destinations could not be written")
                taken = False
            piece.end = self._out.written
            if taken or (self._flushed and piece.end > before):
                self._pieces.append(piece)
            elif self._flushed:
                self._cut.append(piece)
            else:
                piece.decide(False)
            self.wake()

    async def _settle(self) -> None:
        while True:
            while not self._pieces:
                await self.change()
            piece = self._pieces[0]
            left = await self._out.wait(piece.end)
            if left or not self._flushed:
                piece.decide(left)
            else:
                self._cut.append(piece)
            self._pieces.popleft()
            self.wake()

    async def _put_back(self) -> None:
        """After a flush: once it is decided what it cut, that of the other lines goes first."""
        while self._pieces:
            await self.change()
        self._flushed = False
        cut, self._cut = self._cut, []
        for piece in reversed(cut):
            for line, part, samples, _last in reversed(piece.shares):
                if part.left.done():
                    continue
                if line.parts and line.parts[0] is part:
                    part.rest = np.concatenate((samples, part.rest))
                else:
                    part.rest = samples
                    line.parts.appendleft(part)

    def _next(self) -> tuple[bytes, _Piece | None]:
        """The next piece of the sum, of all lines that have something."""
        limit = PIECE_MS * self.hz // 1000 * self.channels
        shares: list[tuple[Line, _Part, Pcm, bool]] = []
        total = np.zeros(limit, np.int32)
        length = 0
        for line in self._lines.values():
            at = 0
            while line.parts and at < limit:
                part = line.parts[0]
                share = part.rest[: limit - at]
                part.rest = part.rest[len(share) :]
                last = not len(part.rest)
                if last:
                    line.parts.popleft()
                total[at : at + len(share)] += share
                at += len(share)
                shares.append((line, part, share, last))
            length = max(length, at)
        if not length:
            return b"", None
        pcm = np.clip(total[:length], -32_768, 32_767).astype(np.int16)
        return pcm.tobytes(), _Piece(shares)

    def _run(self, coroutine: Coroutine[Any, Any, Any], name: str) -> None:
        self._tasks.append(asyncio.create_task(coroutine, name=name))
