"""Speech that must go into the ring before anything else, and what a flush may not take.

`kept` are copies of what is in the ring and was played with `interruptible=False`; a flush
moves what is unsent of them to the backlog, their marks with them. The backlog also holds a
resampler's tail while the ring is full. Both are bounded by the ring's capacity.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.sdk.marks import Marks, OpenMark
    from engine.sdk.media import Media


@dataclass(slots=True)
class Piece:
    """Samples that wait, and marks behind so many of them; a lasting piece survives a flush."""

    pcm: memoryview
    lasting: bool
    marks: list[tuple[int, OpenMark]] = field(default_factory=list)


class Backlog:
    """What goes into the ring first. Its order is that of the speech."""

    def __init__(self, media: Media, marks: Marks, place: Callable[[OpenMark, int], None]) -> None:
        self._media = media
        self._marks = marks
        self._place = place
        self._stride = media.ring.speaker.stride
        self._pieces: deque[Piece] = deque()
        self._kept: deque[tuple[int, memoryview]] = deque()

    def moved(self, media: Media) -> None:
        """From now on these rings, whose cursors go on."""
        self._media = media

    def __bool__(self) -> bool:
        """Whether something waits."""
        return bool(self._pieces)

    @property
    def samples(self) -> int:
        """How many samples wait."""
        return sum(len(piece.pcm) for piece in self._pieces) // self._stride

    def keeps(self, cursor: int) -> bool:
        """Whether the ring may hold unsent samples before `cursor` that a flush may not take."""
        return bool(self._kept) and self._kept[0][0] < cursor

    def keep(self, cursor: int, pcm: memoryview) -> None:
        """These samples, now in the ring from `cursor` on, survive a flush."""
        self._kept.append((cursor, memoryview(bytes(pcm))))

    def passed(self, cursor: int) -> None:
        """Everything before `cursor` has left."""
        while self._kept and self._end_of(self._kept[0]) <= cursor:
            self._kept.popleft()

    def add(self, piece: Piece) -> None:
        """Let a piece wait behind the others."""
        self._pieces.append(piece)

    def write(self) -> bool:
        """Write what there is room for; True when nothing waits any more."""
        ring, stride = self._media.ring, self._stride
        while self._pieces:
            piece = self._pieces[0]
            cursor = ring.speaker_written
            count = self._media.write(piece.pcm) if piece.pcm else 0
            if piece.lasting and count:
                self._kept.append((cursor, piece.pcm[: count * stride]))
            piece.pcm = piece.pcm[count * stride :]
            later: list[tuple[int, OpenMark]] = []
            for offset, mark in piece.marks:
                if offset <= count:
                    self._place(mark, cursor + offset)
                else:
                    later.append((offset - count, mark))
            piece.marks = later
            if piece.pcm:
                return False
            self._pieces.popleft()
        return True

    def drop(self, cursor: int) -> None:
        """A flush at `cursor`: what does not last is gone, its marks are cut."""
        for piece in self._pieces:
            if not piece.lasting:
                self._cut(piece, cursor)
        self._pieces = deque(piece for piece in self._pieces if piece.lasting)

    def answered(self, flush_to: int, sent: int) -> None:
        """A flush up to `flush_to` has cut all from `sent` on: kept samples go in once more.

        The marks up to `flush_to` move with them, or are resolved.
        """
        marks = self._marks.take(flush_to)
        again: deque[Piece] = deque()
        while self._kept and self._kept[0][0] < flush_to:
            start, pcm = self._kept.popleft()
            end = start + len(pcm) // self._stride
            first = max(start, sent)
            if first >= end:
                continue
            # Bounds, because a mark at a piece's beginning belongs to what came before it.
            moving = [(m.cursor - first, m) for m in marks if first < m.cursor <= end]
            again.append(Piece(pcm[(first - start) * self._stride :], True, moving))
        self._pieces.extendleft(reversed(again))
        moved = {id(mark) for piece in again for _, mark in piece.marks}
        for mark in marks:
            if id(mark) in moved:
                continue
            if mark.silent and mark.cursor > sent and self._pieces:
                # Whoever waits for the end of the speech waits for what survived, too.
                last = self._pieces[-1]
                last.marks.append((len(last.pcm) // self._stride, mark))
            else:
                self._marks.resolve(mark, played=mark.cursor <= sent, cursor=mark.cursor)

    def end(self, cursor: int) -> None:
        """The session is over: marks that wait are cut."""
        for piece in self._pieces:
            self._cut(piece, cursor)
        self._pieces.clear()
        self._kept.clear()

    def _cut(self, piece: Piece, cursor: int) -> None:
        for _, mark in piece.marks:
            self._marks.resolve(mark, played=False, cursor=cursor)
        piece.marks = []

    def _end_of(self, kept: tuple[int, memoryview]) -> int:
        return kept[0] + len(kept[1]) // self._stride
