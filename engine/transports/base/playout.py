"""What a transport tells of audio after it was written: when it left, or that it was cut.

A transport that keeps audio ahead of real time offers a playout for each destination. Without
one, what is written counts as played, since the write itself is then what takes the time.
"""

from __future__ import annotations

from typing import Protocol


class Playout(Protocol):
    """The way of one destination's audio to the caller. Cursors count samples per channel."""

    @property
    def written(self) -> int:
        """The cursor behind the last sample that was queued. It never goes back."""
        ...

    async def wait(self, cursor: int) -> bool:
        """True once everything before `cursor` has left, False when a flush cut some of it.

        What survives a flush is waited for where it now stands. Whoever waits beyond the end
        of the call gets False.
        """
        ...

    def has_left(self, cursor: int) -> bool:
        """Whether everything before `cursor` is known to have left by now."""
        ...

    def flush(self) -> None:
        """Drop what is queued and may be interrupted. At once: no await, no message."""
        ...

    def end(self) -> None:
        """The utterance ends with what is queued: its last samples need no successor."""
        ...
