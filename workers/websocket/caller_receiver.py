"""What a caller over WebSocket brings, and silence while nothing comes.

Who listens for the end of speech, or records by time, hears a caller who is muted as silence, as
over WebRTC. What a network has held up is appended all the same, and taken out of the next such
silence. (A server that we dialled is no microphone: its stream reaches the bot as it comes.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipc.clock import NS_PER_MS, NS_PER_S
from ipc.errors import MalformedMessage
from ipc.frames import InputAudioRawFrame
from workers.webrtc.data_channel import MAX_TEXT_BYTES
from workers.websocket.receiver import Receiver

if TYPE_CHECKING:
    from ipc.audio_ring import WorkerRing

# Nothing is lost on this path: what TCP sends once more comes 200 ms late.
FILL_AFTER_NS = 240 * NS_PER_MS
# What came in advance of its time, at most, and is taken out of the next silence.
MAX_AHEAD_NS = 5 * NS_PER_S
# What one beat fills.
MAX_FILL_MS = 200
SILENCE = memoryview(bytes(4 * 48 * MAX_FILL_MS))


class CallerReceiver(Receiver):
    """Audio into the mic ring, the texts of app messages to the bot, nothing else."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # Until when there is sound in the ring, and when silence is due; 0: it has not begun.
        self._until_ns = self._due_ns = 0

    def feed(self, now_ns: int) -> None:
        """Each beat: move what waits into the ring, and silence where nothing came."""
        super().feed(now_ns)
        if now_ns < self._due_ns or self._waiting:
            return
        ring = self._ring
        if ring is None or not self._until_ns:
            self._until_ns = now_ns if ring is not None else 0
            self._due_ns = self._until_ns + FILL_AFTER_NS if ring is not None else 0
            return
        self._fill(ring, now_ns)

    def _fill(self, ring: WorkerRing, now_ns: int) -> None:
        mic = ring.mic
        count = (now_ns - self._until_ns) * mic.hz // NS_PER_S
        count = min(count, mic.hz * MAX_FILL_MS // 1000, mic.capacity // 4)
        if ring.mic_written - ring.mic_read + count > mic.capacity // 2:
            # A bot that does not read loses no speech for silence that we made.
            self._until_ns = now_ns
            return
        self._until_ns += count * NS_PER_S // mic.hz
        if count:
            ring.count_filled(count)
            ring.write_mic(SILENCE[: count * mic.stride])
            ring.set_capture(now_ns, 0)
            self._on_mic()

    def _write(
        self, ring: WorkerRing, pcm: memoryview, hz: int, channels: int, now_ns: int
    ) -> None:
        before = ring.mic_written
        super()._write(ring, pcm, hz, channels, now_ns)
        lasts_ns = (ring.mic_written - before) * NS_PER_S // ring.mic.hz
        until_ns = max(self._until_ns, now_ns) + lasts_ns
        self._until_ns = min(until_ns, now_ns + MAX_AHEAD_NS)
        self._due_ns = self._until_ns + FILL_AFTER_NS

    def _take_other(self, message: str | bytes, now_ns: int) -> None:
        """A message of the caller's that is not plain audio of the usual kind."""
        try:
            found = self._wire.hear(message)
        except MalformedMessage:
            self.malformed += 1
            return
        if isinstance(found, InputAudioRawFrame):
            self._take_frame(found, now_ns)
        elif found is not None and len(found) <= MAX_TEXT_BYTES:
            self._pass_on(found, now_ns)
        else:
            self.malformed += 1
