"""Speaking: samples into the ring, out of it by a flush, and what became of them.

Everything is counted in cursors of the ring. The worker's playback anchor says what has left
and its answer to a flush what that cut; nothing else decides. No audio waits here that a flush
could not reach, but for what was played as not interruptible.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from engine.sdk.backlog import Backlog, Piece
from engine.sdk.flushes import Flushed, PendingFlush, heard_by
from engine.sdk.marks import Mark, Marks, OpenMark
from engine.sdk.playable import Playable, Played, as_samples
from engine.sdk.ring_rate import RingRate
from ipc.audio_ring import FRAME_MS, NEVER
from ipc.audio_ring import Flushed as Answer
from ipc.errors import BotRejected, ConfigError, SessionClosed
from ipc.ring_handover import unsent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from engine.sdk.events import Waiters
    from engine.sdk.media import Media
    from ipc.audio_ring import BotRing
    from ipc.clock import Clock


class Speech:
    """What one session says. The session passes the bell on by `look`."""

    def __init__(
        self, media: Media, clock: Clock, waiters: Waiters, on_mark: Callable[[Mark], None]
    ) -> None:
        self._media = media
        self._clock = clock
        self._waiters = waiters
        self._marks = Marks(on_mark)
        self._backlog = Backlog(media, self._marks, self._place_at)
        self._rate = RingRate()
        self._playing = asyncio.Lock()
        # Whether what plays now survives a flush.
        self._lasting = False
        # Whether the utterance ends behind the backlog, and where one ended last.
        self._ending = False
        self._end_at = -1
        self._flushes = 0
        self._flushing: deque[PendingFlush] = deque()
        # The newest flush, and the first one since the present play began.
        self._newest: PendingFlush | None = None
        self._cut_by: PendingFlush | None = None
        base = media.ring.speaker_base
        self._answered = Answer(base, base)
        self._heard: int = base
        self._wanted = self._marked = NEVER
        self._closed: str | None = None
        self._last_position = base

    def move(self, media: Media) -> None:
        """Go on in other rings: the worker of those that there were is gone.

        Their cursors begin where it had stopped. What is unsent goes there, and so does a flush
        that it had not answered. Raises BotRejected when there is no room for that.
        """
        self.settle()
        old, self._media = self._ring, media
        self._backlog.moved(media)
        sent, end = old.speaker_sent, old.speaker_written
        flushed = self._flushing[-1].flush_to if self._flushing else sent
        fits = self._write_again(unsent(old, sent, flushed))
        if self._flushing:
            media.flush()
        fits &= self._write_again(unsent(old, max(sent, flushed), end))
        if self._end_at == end:
            media.end()
        if not fits:
            raise BotRejected("the new rings do not take what was unsent in the last ones")
        self._want(self._wanted)
        self.settle()
        self._waiters.wake()

    def _write_again(self, pieces: Iterable[memoryview]) -> bool:
        stride = self._ring.speaker.stride
        return all(self._media.write(piece) * stride == len(piece) for piece in pieces)

    # -- play -------------------------------------------------------------------------------

    async def play(
        self, pcm: Playable, hz: int | None, mark: str | None, *, interruptible: bool
    ) -> Played:
        """Queue samples; see `Session.play`."""
        self._check_open()
        data, hz = as_samples(pcm, hz, self._ring.speaker)
        opened = self._marks.begin(mark) if mark is not None else None
        flushes = self._flushes if interruptible else None
        try:
            async with self._playing:
                self._lasting = not interruptible
                self._cut_by = None
                try:
                    return await self._play(data, hz, opened, flushes)
                finally:
                    self._lasting = False
                    self._want(NEVER)
                    self.retry()
        finally:
            # One that could be placed is not ours any more; any other never leaves.
            if opened is not None and opened.cursor == NEVER:
                self._marks.resolve(opened, played=False, cursor=self._last_written())

    async def _play(
        self, source: memoryview, hz: int, mark: OpenMark | None, flushes: int | None
    ) -> Played:
        ring = self._ring
        stride = ring.speaker.stride
        total = len(source) // stride * ring.speaker.hz // hz
        future = mark.future if mark is not None else None
        start = queued = -1
        data = memoryview(b"")
        pieces: Iterator[memoryview] = iter(())
        while True:
            self._check_open()
            if flushes is not None and flushes != self._flushes:
                break
            if self._held():
                await self._waiters.changed()
                ring = self._ring  # another worker's may have taken its place
                continue
            if start < 0:
                start = queued = ring.speaker_written
                speaker, lasts = ring.speaker, flushes is None
                pieces = self._rate.convert(source, hz, speaker, lasts=lasts)
            if not data:
                following = next(pieces, None)
                if following is None:
                    if mark is not None:
                        self._place(mark)
                    return Played(start, queued, 0, future)
                data = following
                continue
            cursor = ring.speaker_written  # a flush may have moved what was queued before
            if count := self._media.write(data):
                if flushes is None:
                    self._backlog.passed(self.position)
                    self._backlog.keep(cursor, data[: count * stride])
                queued = cursor + count
                data = data[count * stride :]
            if data:
                self._want_room(len(data) // stride)
                await self._waiters.changed()
                ring = self._ring
        waited = start < 0  # for its turn: nothing of it was queued
        if waited:
            start = queued = ring.speaker_written
        if mark is not None:
            self._marks.resolve(mark, played=False, cursor=queued)
        left = queued
        if not waited:
            assert self._cut_by is not None  # noqa: S101 - a flush was what ended the play
            sent = (await asyncio.shield(self._cut_by.result)).cursor
            left = min(max(start, sent), queued)
        return Played(start, queued, max(0, start + total - left), future)

    def _want_room(self, samples: int) -> None:
        # A quarter of the ring at a time: waking for every freed frame would cost more than
        # it gains, and three quarters outlast any sensible pause of the writer.
        ring = self._ring
        capacity = ring.speaker.capacity
        self._want(max(0, ring.speaker_written + min(samples, capacity // 4) - capacity))

    def _want(self, cursor: int) -> None:
        self._wanted = cursor
        if self._closed is None:
            self._media.ring.want(cursor)

    def end_of_speech(self) -> None:
        """The utterance ends with what was played; see `Session.end_of_speech`."""
        if self._closed is not None:
            return
        if not self._playing.locked():
            self._drain()
            self._write_backlog()
        self._ending = self._held()
        if not self._ending:
            self._end()

    def _end(self) -> None:
        self._ending = False
        self._end_at = self._ring.speaker_written
        self._media.end()

    def _drain(self) -> None:
        """Let the resampler's tail follow, and the marks that stand in it."""
        ring = self._ring
        if self._rate.has_tail:
            tail = self._rate.drain()
            written, count = ring.speaker_written, len(tail) // ring.speaker.stride
            marks = [(min(m.cursor - written, count), m) for m in self._marks.take_behind(written)]
            self._backlog.add(Piece(tail, self._rate.lasts, marks))

    def _held(self) -> bool:
        """Whether what is new must wait: something that a flush may not take goes first."""
        return bool(self._backlog) or self._undecided()

    def _undecided(self) -> bool:
        """Whether the answer to a flush decides what has to be written again."""
        return bool(self._flushing) and self._backlog.keeps(self._flushing[-1].flush_to)

    def _write_backlog(self) -> None:
        if not self._backlog or self._undecided():
            return
        if self._backlog.write():
            self._want(NEVER)
            if self._ending:
                self._end()
            self._waiters.wake()
        else:
            self._want_room(self._backlog.samples)
        self._arm()

    # -- marks ------------------------------------------------------------------------------

    def mark(self, name: str, *, silent: bool = False) -> asyncio.Future[Mark]:
        """A mark at the end of what is queued now; see `Session.mark`."""
        self._check_open()
        mark = self._marks.begin(name, silent=silent)
        self._place(mark)
        return mark.future

    def _place(self, mark: OpenMark) -> None:
        if self._held():
            self._backlog.add(Piece(memoryview(b""), True, [(0, mark)]))  # behind what lasts
            return
        cursor = self._ring.speaker_written
        self._place_at(mark, cursor + self._rate.held)
        self.settle()

    def _place_at(self, mark: OpenMark, cursor: int) -> None:
        if cursor <= self._answered.flush_to:  # nothing came since that flush
            self._marks.resolve(mark, played=cursor <= self._answered.sent, cursor=cursor)
        else:
            self._marks.place(mark, cursor)

    def settle(self) -> None:
        """Look at what has left and what flushes have cut, and tell whoever waits for it."""
        ring = self._ring
        # First the anchor: what it says of samples that a flush may have cut holds only if
        # that flush was not answered afterwards.
        played = ring.playback().cursor
        for answer in ring.flushes():
            while self._flushing and self._flushing[0].flush_to <= answer.flush_to:
                flush = self._flushing.popleft()
                # The answer may be to a later flush, whose fade went beyond this one.
                sent = min(answer.sent, flush.flush_to)
                self._answered = Answer(flush.flush_to, sent)
                self._backlog.answered(flush.flush_to, sent)
                flush.answer(sent, exact=True)
                self._waiters.wake()
                if self._backlog and flush.flush_to == self._end_at:
                    self._ending = True  # the utterance ends where it did, a little later
        self._marks.passed(played)
        self._backlog.passed(played)
        if self._tail_is_due():
            self._drain()
        self._write_backlog()
        self._marks.passed(played)  # also what the backlog has just placed
        self._arm()

    def _tail_is_due(self) -> bool:
        """Whether a mark stands in the resampler's tail, and the ring ran dry before it."""
        ring = self._ring
        dry = ring.speaker_sent >= ring.speaker_written
        marked = ring.speaker_written < self._marks.first != NEVER
        return dry and marked and not (self._playing.locked() or self._held())

    def _arm(self) -> None:
        first = self._marks.first
        self._marked = NEVER if first == NEVER else min(first, self._ring.speaker_written)
        self._ring.mark(self._marked)

    async def wait_played(self) -> None:
        """Return when what is queued now has left or was flushed."""
        if self._closed is None:
            await self.mark("", silent=True)

    # -- flush ------------------------------------------------------------------------------

    def flush(self, fade_ms: float) -> asyncio.Future[Flushed]:
        """Stop speaking; see `Session.flush`."""
        if not 0 <= fade_ms <= FRAME_MS:
            raise ConfigError(f"fade_ms is 0 to {FRAME_MS}, not {fade_ms}", code="fade")
        if self._closed is not None:
            nothing: asyncio.Future[Flushed] = asyncio.get_running_loop().create_future()
            nothing.set_result(Flushed(self._last_position, self._heard, exact=False))
            return nothing
        self.settle()  # so that no answer to an earlier flush is missed
        ring = self._ring
        heard = self._estimate_heard()
        ring.flushing(self._clock.now_ns())
        flush_to = self._media.flush(round(fade_ms * ring.speaker.hz / 1000))
        self._flushes += 1
        self._drop_unwritten(flush_to)
        flush = self._newest = PendingFlush(flush_to, heard, self._flush_overdue)
        self._cut_by = self._cut_by or flush
        self._flushing.append(flush)
        self.settle()
        self._waiters.wake()
        return flush.result

    def _drop_unwritten(self, flush_to: int) -> None:
        """What is not in the ring yet: the backlog and the resampler's tail."""
        self._ending = False
        self._backlog.drop(flush_to)
        if self._rate.has_tail and not self._lasting:
            if self._rate.lasts:
                self._drain()
            else:
                self._rate.drop()
        for mark in self._marks.take_behind(flush_to):
            if self._lasting:  # of a tail that goes on; it moves with what was kept
                self._backlog.add(Piece(memoryview(b""), True, [(0, mark)]))
            else:
                self._marks.resolve(mark, played=False, cursor=flush_to)

    def _flush_overdue(self, flush: PendingFlush) -> None:
        self.settle()  # this process may be the late one
        # It stays in the list: marks are decided by the answer, however late.
        flush.answer(min(self.position, flush.flush_to), exact=False)

    def _estimate_heard(self) -> int:
        """The last sample that the caller has heard by now."""
        anchor = self._ring.playback()
        heard = heard_by(anchor, self._clock.now_ns(), self._ring.speaker.hz)
        if self._answered.sent < heard < self._answered.flush_to:
            heard = self._answered.sent  # nobody heard what was cut
        self._heard = min(max(self._heard, heard), anchor.cursor)
        return self._heard

    # -- state ------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The cursor up to which samples have left."""
        return self._ring.playback().cursor if self._closed is None else self._last_position

    @property
    def queued(self) -> int:
        """Samples that are queued and not sent."""
        if self._closed is not None:
            return 0
        ring = self._ring
        flushed_to = self._newest.flush_to if self._newest is not None else 0
        in_ring = max(0, ring.speaker_written - max(ring.speaker_sent, flushed_to))
        return in_ring + self._backlog.samples

    def look(self) -> bool:
        """The bell rang; whether something changed that somebody waits for."""
        sent = self._media.ring.speaker_sent
        due = sent >= self._wanted or sent >= self._marked
        if due or self._flushing:
            self.settle()
        return due

    def retry(self) -> None:
        """A write that was refused may be tried again."""
        if self._closed is None:
            self._write_backlog()

    def ended(self, reason: str) -> None:
        """The session is over: every wait ends, every open mark is played or cut."""
        self.settle()
        self._last_position = position = self.position
        self._closed = reason
        for flush in self._flushing:
            flush.answer(position, exact=False)
        self._flushing.clear()
        for mark in self._marks.take(NEVER):
            self._marks.resolve(mark, played=False, cursor=mark.cursor)
        self._backlog.end(self._ring.speaker_written)

    def _check_open(self) -> None:
        if self._closed is not None:
            raise SessionClosed(f"the session ended: {self._closed}")

    def _last_written(self) -> int:
        return self._ring.speaker_written if self._closed is None else self._last_position

    @property
    def _ring(self) -> BotRing:
        return self._media.ring
