"""Whether a worker has more calls than it can serve, by what its beats say.

A worker that comes too late gives frames up, and drops what it has no time to hear. Once, that is
the machine's doing; time and again it is too much work, and one more call would make it worse for
all of them. Such a worker gets no new calls until it keeps up again. With a handful of calls it is
never they that it has no time for.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipc.messages import WorkerBeat

# With sessions a worker beats every 50 ms: the last two seconds, and how much of them may be bad.
BEATS = 40
MOST = 8
# Any core serves so many: with fewer the machine has other things to do.
FEW = 10


class Strain:
    """The last beats of one worker."""

    def __init__(self) -> None:
        self._lost = 0
        self._bad: deque[bool] = deque([False] * BEATS, BEATS)

    def heard(self, beat: WorkerBeat) -> None:
        """A beat of the worker has come."""
        lost = beat.missed_frames + beat.unheard
        self._bad.append(lost > self._lost and beat.sessions >= FEW)
        self._lost = lost

    @property
    def too_much(self) -> bool:
        """Whether it does not keep up."""
        return sum(self._bad) >= MOST
