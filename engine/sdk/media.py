"""Where a session's rings are: in a shared segment, or mirrored over ZeroMQ.

Both offer the bot's end of the same rings, so a session does not know which it has.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import TYPE_CHECKING, Protocol

from ipc.audio_ring import BotRing, RingSpec, WorkerRing, size_bytes
from ipc.errors import BackbeatError
from ipc.media_stream import Kind, StreamLink, pack
from ipc.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipc.messages import OfferSession

RETRY_S = 0.02


class Media(Protocol):
    """The bot's end of a session's rings."""

    ring: BotRing

    def write(self, pcm: memoryview) -> int:
        """Queue as many whole samples as there is room for; returns how many."""
        ...

    def flush(self, fade: int = 0) -> int:
        """Drop what is queued but for `fade` samples, which fade out; the flush cursor."""
        ...

    def end(self) -> None:
        """The utterance ends with what is queued."""
        ...

    def close(self) -> None:
        """Give the rings back."""
        ...


class SegmentMedia:
    """Rings in shared memory."""

    def __init__(self, offer: OfferSession) -> None:
        """Attach. Raises RingError."""
        self._segment = Segment.attach(offer.segment)
        try:
            self.ring = BotRing(self._segment.buffer)
            self.ring.check(offer.key, offer.epoch)
        except BackbeatError:
            self._segment.close()
            raise
        self.ring.hello(os.getpid())
        self.write = self.ring.write_speaker
        self.flush = self.ring.flush
        self.end = self.ring.end

    def close(self) -> None:
        """Unmap."""
        self.ring.release()
        self._segment.close()


class StreamMedia:
    """A private mirror of rings that live in the worker's memory."""

    def __init__(
        self,
        offer: OfferSession,
        link: StreamLink,
        *,
        on_change: Callable[[], None],
        on_retry: Callable[[], None],
    ) -> None:
        """Claim the stream. `on_retry` is called when a refused write may be tried again."""
        spec = RingSpec(
            key=offer.key,
            epoch=offer.epoch,
            mic_hz=offer.mic_hz,
            speaker_hz=offer.speaker_hz,
            mic_channels=offer.mic_channels,
            speaker_channels=offer.speaker_channels,
            mic_ms=offer.mic_ms,
            speaker_ms=offer.speaker_ms,
            mic_base=offer.mic_base,
            speaker_base=offer.speaker_base,
        )
        self._stream = offer.stream
        self._link = link
        self._on_retry = on_retry
        # More flushes than this in a stall say nothing new.
        self._waiting: deque[bytes] = deque(maxlen=16)
        self._retry: asyncio.TimerHandle | None = None
        memory = memoryview(bytearray(size_bytes(spec)))
        self._mirror = WorkerRing.format(memory, spec, os.getpid())
        self._mirror.mirror_written(offer.speaker_written)
        self.ring = BotRing(memory)
        link.watch(offer.stream, self._mirror, on_change)
        self._say(pack(Kind.EPOCH, offer.stream, payload=offer.token.encode()))

    def write(self, pcm: memoryview) -> int:
        """Send what the worker has room for; nothing while it does not read."""
        ring = self.ring
        count = min(len(pcm) // ring.speaker.stride, ring.room())
        if count <= 0 or not self._say_waiting():
            return 0
        piece = pcm[: count * ring.speaker.stride]
        frame = pack(Kind.PCM, self._stream, cursor=ring.speaker_written, payload=bytes(piece))
        if not self._link.send(frame):
            self._retry_later()
            return 0
        return ring.write_speaker(piece)

    def flush(self, fade: int = 0) -> int:
        """Drop what is queued here and there."""
        flush_to = self.ring.flush(fade)
        self._say(pack(Kind.FLUSH, self._stream, cursor=flush_to, arg=fade))
        return flush_to

    def end(self) -> None:
        """The utterance ends with what is queued."""
        self.ring.end()
        self._say(pack(Kind.END, self._stream, cursor=self.ring.speaker_written))

    def _say(self, frame: bytes) -> None:
        """Send what must arrive, in order, also when the worker does not read for a while."""
        self._waiting.append(frame)
        self._say_waiting()

    def _say_waiting(self) -> bool:
        while self._waiting:
            if not self._link.send(self._waiting[0]):
                self._retry_later()
                return False
            self._waiting.popleft()
        return True

    def _retry_later(self) -> None:
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        if self._say_waiting():
            self._on_retry()

    def close(self) -> None:
        """Give the stream up."""
        if self._retry is not None:
            self._retry.cancel()
        self._link.detach(self._stream)
        self._mirror.release()
        self.ring.release()
