"""Speech of any rate on its way into a ring, which has one.

What a resampler holds back is the tail of the speech that came last. It goes in before speech of
another rate, or when it is drained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.sdk.resample import CHUNK_MS, Resampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipc.ring_layout import Samples


class RingRate:
    """The rate of what goes into one ring."""

    def __init__(self) -> None:
        self._resampler: Resampler | None = None
        # Whether a flush leaves the tail.
        self.lasts = False

    @property
    def has_tail(self) -> bool:
        """Whether something may be held back."""
        return self._resampler is not None

    @property
    def held(self) -> int:
        """Samples of the tail, at the ring's rate."""
        return self._resampler.held if self._resampler is not None else 0

    def convert(
        self, source: memoryview, hz: int, ring: Samples, *, lasts: bool
    ) -> Iterator[memoryview]:
        """Samples of `hz` at the ring's rate, piece by piece, behind the tail at another.

        A piece that nobody asks for any more is not made; what was given of it is the tail.
        """
        resampler = self._resampler
        if resampler is not None and resampler.hz != hz:
            self._resampler = None
            yield resampler.drain()
        if hz == ring.hz:
            yield source
            return
        step = hz * CHUNK_MS // 1000 * ring.stride
        for at in range(0, len(source), step):
            if self._resampler is None:
                self._resampler = Resampler(hz, ring.hz, ring.channels)
            self.lasts = lasts
            yield self._resampler.feed(source[at : at + step])

    def drain(self) -> memoryview:
        """The tail, which is then not held any more."""
        resampler, self._resampler = self._resampler, None
        return resampler.drain() if resampler is not None else memoryview(b"")

    def drop(self) -> None:
        """Forget the tail."""
        self._resampler = None
