"""Marks: cursors in the speech that resolve exactly once, as played or as cut.

A list in order, no ring: `engine.sdk.speech` says what has left and what a flush took.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from ipc.audio_ring import NEVER
from ipc.errors import LimitError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_MARKS = 1024


class Mark(NamedTuple):
    """A mark that is resolved: whether all samples before its `cursor` have left, or were cut."""

    name: str
    cursor: int
    played: bool


class OpenMark:
    """A mark that is not resolved. A silent one is nobody's event and counts for no limit."""

    __slots__ = ("cursor", "future", "name", "resolved", "silent")

    def __init__(self, name: str, silent: bool) -> None:
        self.name = name
        self.silent = silent
        self.cursor = NEVER
        self.resolved = False
        self.future: asyncio.Future[Mark] = asyncio.get_running_loop().create_future()


class Marks:
    """The open marks of a session; those that have a cursor, in its order."""

    def __init__(self, on_mark: Callable[[Mark], None]) -> None:
        self._on_mark = on_mark
        self._placed: deque[OpenMark] = deque()
        self._open = 0

    def begin(self, name: str, *, silent: bool = False) -> OpenMark:
        """A mark without a place. Raises LimitError(`too_many_marks`)."""
        if not silent:
            if self._open >= MAX_MARKS:
                raise LimitError(f"{MAX_MARKS} marks are open", code="too_many_marks")
            self._open += 1
        return OpenMark(name, silent)

    def place(self, mark: OpenMark, cursor: int) -> None:
        """Put it at a cursor, which is not before that of any other."""
        mark.cursor = cursor
        self._placed.append(mark)

    def resolve(self, mark: OpenMark, *, played: bool, cursor: int) -> None:
        """Tell, once, what became of it."""
        if mark.resolved:
            return
        mark.resolved = True
        result = Mark(mark.name, cursor, played)
        if not mark.future.done():  # whoever waited may have gone
            mark.future.set_result(result)
        if not mark.silent:
            self._open -= 1
            self._on_mark(result)

    def passed(self, cursor: int) -> None:
        """Everything before `cursor` has left."""
        for mark in self.take(cursor):
            self.resolve(mark, played=True, cursor=mark.cursor)

    def take(self, cursor: int) -> list[OpenMark]:
        """Take out those that stand at or before `cursor`."""
        taken = []
        while self._placed and self._placed[0].cursor <= cursor:
            taken.append(self._placed.popleft())
        return taken

    def take_behind(self, cursor: int) -> list[OpenMark]:
        """Take out those that stand behind `cursor`, in order."""
        taken: deque[OpenMark] = deque()
        while self._placed and self._placed[-1].cursor > cursor:
            taken.appendleft(self._placed.pop())
        return list(taken)

    @property
    def first(self) -> int:
        """The cursor of the earliest; NEVER when there is none."""
        return self._placed[0].cursor if self._placed else NEVER
