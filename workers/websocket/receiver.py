"""What a WebSocket brings: audio into the mic ring, everything else to the bot as it is.

Audio comes as fast as the server likes. What the ring has no room for waits here, bounded, and
behind that in the socket; only for a bot that does not listen at all is anything dropped.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from ipc.audio_ring import FRAME_MS, NEVER
from ipc.clock import NS_PER_S
from ipc.errors import MalformedMessage
from ipc.frames import InputAudioRawFrame
from ipc.wire import MAX_MESSAGE_BYTES
from workers.audio.convert import Converter

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipc.audio_ring import WorkerRing
    from ipc.clock import Clock
    from workers.websocket.wire import Wire

MAX_WAITING_BYTES = 1 << 20
# Each costs the same however short it is: so many wait, and so many are moved on a beat, or so
# much, which may have to be converted.
MAX_WAITING = 512
MAX_MOVED, MAX_MOVED_S = 32, 1.0
# A bot that has asked for rings and does not take them must not hold the messages up for long.
MAX_HOLD_NS = 10 * NS_PER_S
# One that does not listen may only not have begun.
DEAF_HOLD_NS = 2 * NS_PER_S
MIN_HZ, MAX_HZ = 4_000, 192_000
# Another shape of audio needs a filter of its own, which takes up to 3 ms to make: so many a
# second, and none that takes longer (which only rates do that nobody uses).
MAX_SHAPES_PER_S = 4
MAX_FILTER = 2_048
MAX_PHASES = 1_024
# Converted at once: bounds what one slot does for a message of many seconds.
PIECE_MS = 200
# Messages to the bot; more than that is no conversation.
PER_S = 200
# What a control message can hold, beside its other fields.
MAX_TOLD_BYTES = MAX_MESSAGE_BYTES - 1024


class Receiver:
    """Takes the messages of one session's socket."""

    def __init__(
        self,
        clock: Clock,
        wire: Wire,
        on_mic: Callable[[], None],
        on_message: Callable[[str | bytes, int], None],
    ) -> None:
        """`on_mic` hears that the ring grew, `on_message` gets what is not audio."""
        self._clock = clock
        self._wire = wire
        self._on_mic = on_mic
        self._on_message = on_message
        self._ring: WorkerRing | None = None
        self._converter: Converter | None = None
        # Audio that has not gone into the ring, with its rate and channels.
        self._waiting: deque[tuple[memoryview, int, int]] = deque()
        self.waiting_bytes = 0
        # How long what waits lasts.
        self._waiting_s = 0.0
        self._held_since_ns = 0
        self._piece_ms = PIECE_MS
        self._second = self._told = self._shapes = 0
        # Called when there is room for more.
        self.on_room: Callable[[], None] = lambda: None
        self.audio_messages = self.malformed = self.dropped_messages = self.dropped_bytes = 0

    @property
    def ring(self) -> WorkerRing | None:
        """The ring of the moment; what comes before there is one waits for it."""
        return self._ring

    @ring.setter
    def ring(self, ring: WorkerRing | None) -> None:
        self._ring = ring
        self._converter = None
        self._held_since_ns = 0
        if ring is not None:  # a quarter of a ring that holds little
            self._piece_ms = min(PIECE_MS, 250 * ring.mic.capacity // ring.mic.hz)

    def is_full(self) -> bool:
        """Whether what comes next must wait in the socket."""
        return self.waiting_bytes >= MAX_WAITING_BYTES or len(self._waiting) >= MAX_WAITING

    def take(self, message: str | bytes, now_ns: int) -> None:
        """A message of the other side's."""
        audio = self._wire.audio_in(message)
        if audio is not None:
            self._take_audio(*audio, now_ns)
        else:
            self._take_other(message, now_ns)

    def _take_other(self, message: str | bytes, now_ns: int) -> None:
        """One that is not plain audio of the usual kind."""
        try:
            frame = self._wire.read(message)
        except MalformedMessage:
            self.malformed += 1
            frame = None
        if type(frame) is InputAudioRawFrame:
            self._take_frame(frame, now_ns)
        else:
            self._pass_on(message, now_ns)

    def _take_frame(self, frame: InputAudioRawFrame, now_ns: int) -> None:
        pcm = memoryview(frame.audio)
        self._take_audio(pcm, frame.sample_rate, frame.num_channels, now_ns)

    def _take_audio(self, pcm: memoryview, hz: int, channels: int, now_ns: int) -> None:
        if not MIN_HZ <= hz <= MAX_HZ or channels not in (1, 2):
            self.malformed += 1
            return
        self.audio_messages += 1
        if not pcm:
            return
        ring = self._ring
        if (
            ring is not None
            and not self._waiting
            and len(pcm) <= hz * self._piece_ms // 1000 * 2 * channels
            and self._has_room(ring, now_ns)
        ):
            self._write(ring, pcm, hz, channels, now_ns)
            ring.set_capture(now_ns, 0)
            self._on_mic()
            return
        self._waiting.append((pcm, hz, channels))
        self._waits(pcm, hz, channels, 1)
        if len(self._waiting) == 1:  # behind others it is moved with them, on the beat
            self.feed(now_ns)

    def _waits(self, pcm: memoryview, hz: int, channels: int, sign: int) -> None:
        """So much waits, or (-1) waits no longer."""
        self.waiting_bytes += sign * len(pcm)
        self._waiting_s += sign * (len(pcm) // (2 * channels)) / hz

    def _pass_on(self, message: str | bytes, now_ns: int) -> None:
        """To the bot, by way of the engine, whose other sessions a flood must not hold up."""
        self._keep_second(now_ns)
        self._told += 1
        if self._told > PER_S or _size(message) > MAX_TOLD_BYTES:
            self.dropped_messages += 1
            return
        self._on_message(message, self._cursor())

    def _keep_second(self, now_ns: int) -> None:
        second = now_ns // NS_PER_S
        if second != self._second:
            self._second, self._told, self._shapes = second, 0, 0

    def _cursor(self) -> int:
        """Where in the caller's speech we are, what waits included."""
        ring = self._ring
        if ring is None:
            return 0
        written: int = ring.mic_written
        return written + (round(self._waiting_s * ring.mic.hz) if self._waiting else 0)

    def feed(self, now_ns: int) -> None:
        """Move what waits into the ring, as far as the bot has read; each beat, too."""
        ring = self._ring
        if ring is None:
            self._expire(now_ns)
            return
        if not self._waiting:
            return
        was_full, moved = self.is_full(), 0
        enough_s = self._waiting_s - MAX_MOVED_S
        while (
            self._waiting
            and moved < MAX_MOVED
            and self._waiting_s > enough_s
            and self._has_room(ring, now_ns)
        ):
            pcm, hz, channels = self._waiting.popleft()
            size = hz * self._piece_ms // 1000 * 2 * channels
            if len(pcm) > size:
                self._waiting.appendleft((pcm[size:], hz, channels))
                pcm = pcm[:size]
            self._waits(pcm, hz, channels, -1)
            self._write(ring, pcm, hz, channels, now_ns)
            moved += 1
        if not self._waiting:
            self._waiting_s = 0.0
        if moved:
            ring.set_capture(now_ns, 0)
            self._on_mic()
        if was_full and not self.is_full():
            self.on_room()

    def _has_room(self, ring: WorkerRing, now_ns: int) -> bool:
        unread = ring.mic_written - ring.mic_read
        if unread + ring.mic.hz * (self._piece_ms + FRAME_MS) // 1000 <= ring.mic.capacity:
            self._held_since_ns = 0
            return True
        if not self._held_since_ns:
            self._held_since_ns = now_ns
        # When nobody listens, or not any more, the ring keeps the newest.
        hold_ns = DEAF_HOLD_NS if ring.mic_want == NEVER else MAX_HOLD_NS
        return now_ns - self._held_since_ns > hold_ns

    def _expire(self, now_ns: int) -> None:
        """No ring comes: do not keep the messages behind the audio from the bot for ever."""
        if not self.is_full():
            return
        if not self._held_since_ns:
            self._held_since_ns = now_ns
        elif now_ns - self._held_since_ns > MAX_HOLD_NS:
            pcm, hz, channels = self._waiting.popleft()
            self._waits(pcm, hz, channels, -1)
            self.dropped_bytes += len(pcm)
            if not self.is_full():
                self.on_room()

    def _write(
        self, ring: WorkerRing, pcm: memoryview, hz: int, channels: int, now_ns: int
    ) -> None:
        mic = ring.mic
        if (hz, channels) == (mic.hz, mic.channels):
            ring.write_mic(pcm)
            return
        if self._converter is None or self._converter.shape != (hz, channels):
            self._keep_second(now_ns)
            self._shapes += 1
            if self._shapes > MAX_SHAPES_PER_S or not is_affordable(hz, mic.hz):
                self.malformed += 1
                return
            self._converter = Converter(hz, channels, mic.hz, mic.channels)
        made = self._converter.feed(pcm)
        if made:
            ring.write_mic(memoryview(made))


def _size(message: str | bytes) -> int:
    """Bytes of a message; only of a long text are they counted."""
    if isinstance(message, bytes) or 4 * len(message) <= MAX_TOLD_BYTES:
        return len(message)
    return len(message.encode())


def is_affordable(from_hz: int, to_hz: int) -> bool:
    """Whether a filter between these rates is made in 3 ms: it has phases, and taps in each."""
    phases = min(MAX_PHASES, to_hz // math.gcd(from_hz, to_hz))
    return phases * max(to_hz, from_hz) <= MAX_FILTER * to_hz
