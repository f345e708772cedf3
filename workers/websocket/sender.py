"""From the speaker ring to a WebSocket: chunks, as far ahead as the receiver needs, no further.

A beat is 20 ms of the pacer's and counts as 20 ms played there, so nothing drifts. `ahead` is
how much the receiver has: chunks leave until it will have the lead at the next beat, too. What
leaves is committed with its time, so position, marks and a flush's answer are as in any call.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from ipc.audio_ring import FRAME_MS
from ipc.clock import NS_PER_MS, NS_PER_S
from workers.audio.convert import Converter

if TYPE_CHECKING:
    from ipc.audio_ring import WorkerRing
    from ipc.clock import Clock
    from ipc.codec import Codec
    from ipc.websocket import Websocket
    from workers.audio.mixer import Mixer
    from workers.websocket.connection import Connection
    from workers.websocket.wire import Wire

log = logging.getLogger(__name__)

FRAME_NS = FRAME_MS * NS_PER_MS
# Chunks of one beat: a lead that is filled at once must not hold the others up.
MAX_BURST = 8
# What may wait in the transport when the next chunk is due; the ring keeps the rest.
MAX_WAITING_BYTES = 16 << 10
# The estimate of what was heard counts this much for every peer (`engine.sdk.flushes`), µs.
ASSUMED_BUFFER_US, JITTER_FACTOR = 60_000, 4


class Sender:
    """Sends the speaker ring of one session. The pacer calls `send` every 20 ms."""

    def __init__(self, clock: Clock, websocket: Websocket, wire: Wire) -> None:
        self._clock = clock
        self._websocket = websocket
        self._wire = wire
        self._ring: WorkerRing | None = None
        self._link: Connection | None = None
        self._converter: Converter | None = None
        self._hz, self._channels = 0, 0
        # In samples of the ring: a beat, a chunk, the lead, and what the receiver has to play.
        self._beat = self._chunk = self._lead = self._ahead = 0
        self._work = np.zeros(0, np.int16)
        self._waited = 0
        # How much there was when less than a chunk waited last.
        self._partial = 0
        self._since_ns = 0
        # Whether the receiver has played all that it was given: the next chunk begins anew.
        self._dry = True
        self.mixer: Mixer | None = None
        self.chunks = self.underruns = self.failures = self.flushes = 0
        self.beats = self.late_ns = self.worst_late_ns = 0
        self._due_ns = 0

    # -- set-up -------------------------------------------------------------------------------

    @property
    def ring(self) -> WorkerRing | None:
        """The ring of the moment; None while no bot is attached."""
        return self._ring

    @ring.setter
    def ring(self, ring: WorkerRing | None) -> None:
        self._ring = ring
        self._waited = self._partial = 0
        if ring is None:
            return
        speaker, websocket = ring.speaker, self._websocket
        was = self._beat or speaker.hz * FRAME_MS // 1000
        self._beat = speaker.hz * FRAME_MS // 1000
        self._ahead = self._ahead * self._beat // was
        # In a ring that holds little a whole chunk would never be there.
        self._chunk = min(speaker.hz * websocket.chunk_ms // 1000, speaker.capacity // 2)
        lead_ms = websocket.chunk_ms if websocket.lead_ms is None else websocket.lead_ms
        self._lead = speaker.hz * lead_ms // 1000
        self._hz = websocket.out_hz or speaker.hz
        self._channels = websocket.out_channels or speaker.channels
        self._converter = None
        if (self._hz, self._channels) != (speaker.hz, speaker.channels):
            self._converter = Converter(speaker.hz, speaker.channels, self._hz, self._channels)

    @property
    def link(self) -> Connection | None:
        """The connection of the moment; None while there is none."""
        return self._link

    @link.setter
    def link(self, link: Connection | None) -> None:
        self._link = link
        self._ahead, self._dry = 0, True
        self._since_ns = 0

    @property
    def sending(self) -> bool:
        """Whether chunks leave now: it then applies flushes itself."""
        return self._ring is not None and self._link is not None and self._link.is_open

    @property
    def ahead(self) -> int:
        """How many samples the receiver still has to play, by the beats since."""
        return self._ahead

    def configure(self, codec: Codec) -> None:
        """PCM has no codec."""

    def encode(self) -> None:
        """A chunk costs too little to make it a slot ahead."""

    def miss(self, frames: int) -> None:
        """The receiver has played on meanwhile."""
        if not self._dry:
            self._ahead = max(0, self._ahead - frames * self._beat)
        if self._due_ns:
            self._due_ns += frames * FRAME_NS

    # -- on the beat ----------------------------------------------------------------------------

    def send(self, now_ns: int) -> None:
        """Let the chunks go that are due."""
        link, ring = self._link, self._ring
        if link is not None:
            link.keep_alive(now_ns)
        if link is None or ring is None or not link.is_open:
            return
        self._keep_time(now_ns)
        if not self._dry:
            self._ahead -= self._beat
        if ring.flush_due() is not None:
            self._flush(ring, link)
        if self._ahead >= self._lead + self._beat:
            return  # every second time or so: nothing is due
        if self._stuck(link, now_ns):
            if self._ahead <= 0:
                self._ahead, self._dry = 0, True
            return
        for _ in range(MAX_BURST):
            count = self._due_samples(ring)
            mixer = self.mixer if self.mixer is not None and self._sounds(ring) else None
            if not count and mixer is None:
                if self._ahead <= 0 and not self._dry:
                    self._run_dry(link)
                return
            if not self._send_chunk(ring, link, mixer, count, now_ns):
                return
            if count < self._chunk and mixer is None:
                self._waited = self._partial = 0
            if self._ahead >= self._lead + self._beat:
                return

    def _run_dry(self, link: Connection) -> None:
        self._ahead, self._dry = 0, True
        tail = self._converter.feed(b"", last=True) if self._converter is not None else b""
        message = self._wire.audio(tail, self._hz, self._channels) if tail else None
        if message is not None:
            link.send(message)

    def _sounds(self, ring: WorkerRing) -> bool:
        return self.mixer is not None and self.mixer.sounds(ring.speaker.hz)

    def _due_samples(self, ring: WorkerRing) -> int:
        """How many samples leave now: a whole chunk, the rest of an utterance, or none."""
        waiting: int = ring.speaker_waiting()
        if waiting >= self._chunk:
            self._waited = self._partial = 0
            return self._chunk
        if not waiting:
            return 0
        if ring.taken + waiting == ring.speaker_end:
            return waiting
        # The rest of a chunk may still come: give it a chunk's time.
        if waiting != self._partial:
            self._partial, self._waited = waiting, 0
        self._waited += self._beat
        if self._waited <= self._chunk:
            return 0
        self.underruns += 1
        ring.count_underrun(self._chunk - waiting)
        return waiting

    def _send_chunk(
        self, ring: WorkerRing, link: Connection, mixer: Mixer | None, count: int, now_ns: int
    ) -> bool:
        pcm = self._take(ring, count)
        length = count
        if mixer is not None:
            pcm, length = self._mix(mixer, pcm, ring.speaker.channels), self._chunk
        if self._converter is not None:
            ends = mixer is None and (count < self._chunk or ring.taken == ring.speaker_end)
            pcm = self._converter.feed(pcm, last=ends)
        message = self._wire.audio(pcm, self._hz, self._channels) if pcm else None
        if message is not None and not link.send(message):
            self.failures += 1
            ring.rewind()
            return False
        self.chunks += 1
        self._dry = False
        self._ahead += length
        if count:
            ahead_us = self._ahead * 1_000_000 // ring.speaker.hz
            jitter_us = max(0, ahead_us - ASSUMED_BUFFER_US) // JITTER_FACTOR
            ring.commit(ring.taken, now_ns, 0, link.rtt_ns // 1000, jitter_us)
        return True

    def _take(self, ring: WorkerRing, count: int) -> bytes:
        """Copy samples out of the ring, which hands out 20 ms at once."""
        beat = self._beat
        parts = [ring.take(beat) for _ in range(count // beat)]
        if rest := count % beat:
            parts.append(ring.take(rest))
        return b"".join(parts)

    def _mix(self, mixer: Mixer, pcm: bytes, channels: int) -> bytes:
        size = self._chunk * channels
        if len(self._work) != size:
            self._work = np.zeros(size, np.int16)
        work = self._work
        speech = np.frombuffer(pcm, np.int16)
        work[: len(speech)] = speech
        work[len(speech) :] = 0
        mixer.mix(work, channels, speaking=len(speech) > 0)
        return work.tobytes()

    def _flush(self, ring: WorkerRing, link: Connection) -> None:
        """What is queued is dropped; the receiver is told to drop what it has."""
        ring.apply_flush()
        self.flushes += 1
        self._waited = self._partial = 0
        if self._converter is not None:
            self._converter.clear()
        if not self._dry:
            message = self._wire.interruption()
            if message is not None and link.send(message):
                self._ahead, self._dry = 0, True

    def _stuck(self, link: Connection, now_ns: int) -> bool:
        """Whether the server does not take what was sent; for too long, and it is given up."""
        if link.unsent_bytes <= MAX_WAITING_BYTES:
            self._since_ns = 0
            return False
        if not self._since_ns:
            self._since_ns = now_ns
        elif now_ns - self._since_ns >= self._websocket.stall_s * NS_PER_S:
            link.end("slow_reader")
        return True

    def _keep_time(self, now_ns: int) -> None:
        late_ns = now_ns - self._due_ns
        if late_ns < 0 or not self._due_ns:
            self._due_ns, late_ns = now_ns, 0
        self._due_ns += FRAME_NS
        self.beats += 1
        self.late_ns += late_ns
        if late_ns > self.worst_late_ns:
            self.worst_late_ns = late_ns
