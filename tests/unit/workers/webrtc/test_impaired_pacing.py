"""An hour of the pacer and the sender on a clock that is moved by hand: row Q12."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import numpy as np

from ipc.clock import NS_PER_MS, ManualClock
from ipc.codec import Codec
from tests.fakes.impaired import speech
from tests.fakes.paced import unexpected
from tests.fakes.rings import rings
from workers.pacer import FRAME_NS, Pacer
from workers.webrtc.rtp import RtpPacket
from workers.webrtc.sender import Sender

if TYPE_CHECKING:
    from ipc.audio_ring import BotRing

FRAMES = 50 * 3_600
SENTENCE_FRAMES = 100
SENTENCE_EVERY = 15_000
LATE_MS, MOST_LATE_MS = 0.3, 1.9


class Path:
    """Notes when which packet left; SRTP that changes nothing."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.notes: list[tuple[int, int, int]] = []
        self.reports = 0

    def protect(self, length: int) -> int:
        return length

    def protect_rtcp(self, packet: bytes) -> bytes:
        self.reports += 1
        return packet

    def send(self, data: bytes | memoryview) -> bool:
        if not 192 <= data[1] <= 223:
            sequence, timestamp = struct.unpack_from("!HI", data, 2)
            self.notes.append((self._clock.now_ns(), sequence, timestamp))
        return True


class Hour:
    """A session with a sender alone; it notes when what left."""

    def __init__(self, clock: ManualClock) -> None:
        self.path = path = Path(clock)
        ring, self.bot = rings()
        packet = RtpPacket(1234, 111)
        packet.sequence, packet.timestamp = 0, 2**32 - 960 * 1_000
        self.sender = Sender(clock, Codec())
        self.sender.start(packet, path, path, codec="opus", clock_hz=48_000, cname="us")
        self.sender.ring = ring
        self._sentence = speech(SENTENCE_FRAMES / 50)
        self._left = 0

    # -- what the pacer drives ----------------------------------------------------------------

    def encode(self) -> None:
        if len(self.path.notes) % SENTENCE_EVERY == 0:
            self._left = SENTENCE_FRAMES
        if self._left:
            self._left -= 1
            at = (SENTENCE_FRAMES - self._left - 1) * 960
            _write(self.bot, self._sentence[at : at + 960].tobytes())
        self.sender.encode()

    def send(self, now_ns: int) -> None:
        self.sender.send(now_ns)

    def settle(self, now_ns: int) -> None:
        """Nobody waits for anything."""

    def miss(self, frames: int) -> None:
        self.sender.miss(frames)


def _write(bot: BotRing, data: bytes) -> None:
    assert bot.write_speaker(memoryview(data)) == 960


def test_an_hour_of_packets_is_regular_and_does_not_drift(clock: ManualClock) -> None:
    rng = random.Random(12)
    hour = Hour(clock)
    pacer = Pacer(clock.now_ns(), on_fault=unexpected)
    pacer.add(hour)
    began_ns = pacer.due_ns
    while pacer.due_ns < began_ns + FRAMES * FRAME_NS:
        # The timer fires a little late, now and then by much; never early.
        late_ms = min(MOST_LATE_MS, rng.expovariate(1 / LATE_MS))
        clock.advance_ms((pacer.due_ns - clock.now_ns()) / NS_PER_MS + late_ms)
        pacer.run(clock.now_ns())
    hour.sender.stop()

    times, sequences, timestamps = np.array(hour.path.notes, np.int64).T
    assert len(times) == FRAMES - 1  # the first one was not ready when it was due
    assert set(np.diff(sequences) & 0xFFFF) == {1}
    assert set(np.diff(timestamps) & 0xFFFFFFFF) == {960}
    errors_ms = np.abs(np.diff(times) - FRAME_NS) / NS_PER_MS
    assert np.percentile(errors_ms, 99) <= 2
    schedule = times[0] + np.arange(len(times)) * FRAME_NS
    assert np.abs(times - schedule).max() <= 2 * NS_PER_MS, "no drift against the clock"
    assert pacer.missed_frames == 0
    assert hour.sender.underruns == 0
    assert hour.path.reports >= 3_500
