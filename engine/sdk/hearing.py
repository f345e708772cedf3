"""The part of a `Session` through which the caller is heard, and events keep their place in that.

Samples lie in a ring that the media worker writes at its own pace; cursors count samples per
channel since the session began. An event carries the cursor at which it happened.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from engine.sdk.events import Waiters
from engine.sdk.signaling import Line, Signaling
from ipc.audio_ring import FRAME_MS, NEVER, MicRead
from ipc.errors import ConfigError, StateError
from ipc.samples import AudioFrame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from engine.sdk.media import Media
    from ipc.audio_ring import BotRing
    from ipc.messages import OpenMedia

EVENT_LATE_S = 0.1


class Hearing(Signaling):
    """What the caller says, for whoever reads `audio`."""

    def __init__(self, session_id: str, line: Line, pc_id: str, shape: OpenMedia) -> None:
        super().__init__(session_id, line, pc_id, shape)
        # Who waits for speech; and for anything else but room in the speaker ring.
        self._hearers = Waiters()
        self._waiters = Waiters()
        self._due: deque[tuple[int, Callable[[], None]]] = deque()
        self._readers = 0
        self._heard = 0

    async def audio(
        self,
        *,
        frame_ms: int = FRAME_MS,
        most_ms: int = 0,
        max_lag_ms: int | None = None,
        zero_copy: bool = False,
    ) -> AsyncIterator[AudioFrame]:
        """What the caller says, in frames of `frame_ms` (up to 20), until the session ends.

        With `most_ms` several that wait, and between which nothing happened, come as one frame
        of so much at most. A reader that falls behind loses nothing short of the ring's 5 s; with
        `max_lag_ms` it skips to the newest frame when it lags more. What was lost stands in
        `frame.lost`. With `zero_copy` a frame's samples hold only until the next await.
        """
        if not 1 <= frame_ms <= FRAME_MS:
            raise ConfigError(f"frame_ms is 1 to {FRAME_MS}, not {frame_ms}")
        mic_hz = self._rings.ring.mic.hz
        count = mic_hz * frame_ms // 1000
        more = 0 if zero_copy else most_ms // frame_ms - 1
        max_lag = None if max_lag_ms is None else max(count, mic_hz * max_lag_ms // 1000)
        self._readers += 1
        try:
            # Looked up each time: the rings of another worker may have taken their place.
            while (media := self._media) is not None:
                ring = media.ring
                lost = 0
                if max_lag is not None and (lag := ring.mic_lag()) > max_lag:
                    lost = lag - count
                    ring.skip_mic(ring.mic_read + lost)
                if ring.mic_waiting() < count:
                    # The bell rings only for what is wanted. It may have come just before.
                    ring.want_mic(ring.mic_read + count)
                    if ring.mic_waiting() < count:
                        if self.closed:  # only now: what was said before the end is heard
                            return
                        await self._hearers.changed()
                        continue
                read = ring.mic_view(count) if zero_copy else ring.read_mic(count)
                if read is None:  # the worker has skipped what was there
                    continue
                self._deliver(read.cursor)
                if more > 0 and ring.mic_waiting() >= count:
                    read = self._gather(ring, read, count, more)
                frame = AudioFrame(read.pcm, mic_hz, ring.mic.channels, read.cursor, read.lost)
                if lost:
                    lost += frame.lost
                    frame = AudioFrame(frame.pcm, frame.hz, frame.channels, frame.cursor, lost)
                yield frame
                if self._media is media and ring.mic_waiting() >= count:
                    # Behind: without this, a bot that is slower than speech would keep its
                    # loop from everything else, its beats among it.
                    await asyncio.sleep(0)
        finally:
            self._readers -= 1
            if not self._readers and not self.closed:
                self._rings.ring.want_mic(NEVER)
            elif not self._readers:
                self._waiters.wake()

    def _gather(self, ring: BotRing, first: MicRead, count: int, more: int) -> MicRead:
        """Up to so many frames more that wait behind the first, before the next event."""
        parts, end, lost = [first.pcm], first.cursor + count, first.lost
        while more and ring.mic_lag() == ring.mic_waiting() >= count:
            if self._due and self._due[0][0] <= end:
                break
            read = ring.read_mic(count)
            if read is None:
                break
            parts.append(read.pcm)
            end, lost, more = end + count, lost + read.lost, more - 1
        return MicRead(first.cursor, b"".join(parts), lost)

    def skip_audio(self) -> int:
        """Pass over everything that is waiting to be heard; how many samples that was."""
        ring = self._rings.ring
        waiting: int = ring.mic_lag()
        ring.skip_mic(ring.mic_read + waiting)
        return waiting

    async def wait_heard(self) -> None:
        """Return when nobody reads `audio` any more; it ends behind the last words."""
        while self._readers:
            await self._waiters.changed()

    @property
    def mic_hz(self) -> int:
        """Rate of `audio` in Hz."""
        return self._rings.ring.mic.hz

    # -- inside ---------------------------------------------------------------------------

    @property
    def _rings(self) -> Media:
        if self._media is None:
            self._check_open()
            raise StateError("the session has no media yet: await open_media()", code="no_media")
        return self._media

    def _look_for_speech(self, media: Media) -> None:
        """The bell rang: if the caller said something, whoever reads it goes on."""
        heard = media.ring.mic_written
        if heard != self._heard:
            self._heard = heard
            self._hearers.wake()

    def _at(self, cursor: int, deliver: Callable[[], None]) -> None:
        """Deliver an event where it happened in the caller's speech, at most 100 ms late."""
        reading = self._readers and self._media is not None
        if not self._due and not (reading and self._rings.ring.mic_read < cursor):
            deliver()
            return
        self._due.append((cursor, deliver))
        asyncio.get_running_loop().call_later(EVENT_LATE_S, self._deliver, cursor)

    def _deliver(self, cursor: int) -> None:
        while self._due and self._due[0][0] <= cursor:
            self._due.popleft()[1]()
