"""What waits for its turn at one destination: audio in chunks, and what follows it.

Bounded: whoever puts beyond that waits. An interruption takes out what it may.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from engine.transports.frames import Frame, OutputAudioRawFrame

if TYPE_CHECKING:
    from collections.abc import Callable

# Long enough for any answer that a model speaks at once; 16 MB at 24 kHz.
MAX_AUDIO_S = 300.0
MAX_FRAMES = 20_000


class FrameQueue:
    """Frames in order."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._changed: list[asyncio.Future[None]] = []
        self.audio_s = 0.0

    def __len__(self) -> int:
        """How many frames wait."""
        return len(self._frames)

    @property
    def has_audio(self) -> bool:
        """Whether audio waits."""
        return any(isinstance(frame, OutputAudioRawFrame) for frame in self._frames)

    async def put(self, frame: Frame) -> None:
        """Add a frame; waits while the queue is full."""
        while self.audio_s >= MAX_AUDIO_S or len(self._frames) >= MAX_FRAMES:
            await self._change()
        self.put_now(frame)

    def put_now(self, frame: Frame) -> None:
        """Add a frame that must not wait."""
        self._frames.append(frame)
        self.audio_s += _seconds(frame)
        self._wake()

    def get_now(self) -> Frame | None:
        """The next frame, or None."""
        if not self._frames:
            return None
        frame = self._frames.popleft()
        self.audio_s = self.audio_s - _seconds(frame) if self._frames else 0.0
        self._wake()
        return frame

    async def get(self, timeout_s: float | None) -> Frame | None:
        """The next frame; None when there was none in `timeout_s`, or after a `poke`."""
        if not self._frames:
            await self._change(timeout_s)
        return self.get_now()

    def poke(self) -> None:
        """Let whoever waits look again."""
        self._wake()

    def drop(self, goes: Callable[[Frame], bool] = lambda frame: frame.interruptible) -> None:
        """Take out the frames that go: by default those that may be interrupted."""
        self._frames = deque(frame for frame in self._frames if not goes(frame))
        self.audio_s = sum(_seconds(frame) for frame in self._frames)
        self._wake()

    def _wake(self) -> None:
        for waiter in self._changed:
            if not waiter.done():
                waiter.set_result(None)

    async def _change(self, timeout_s: float | None = None) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.append(waiter)
        try:
            await asyncio.wait((waiter,), timeout=timeout_s)
        finally:
            self._changed.remove(waiter)


def _seconds(frame: Frame) -> float:
    if isinstance(frame, OutputAudioRawFrame):
        return frame.num_frames / frame.sample_rate
    return 0.0
