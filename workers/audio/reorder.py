"""Packets of one incoming stream, put in order, and a rule for each way in which they may not come.

There is no playout buffer: a machine listens, so order matters and smoothness does not. What is
next in order is decoded on arrival. The rules, one per case:

- *Ahead of its turn*: it is kept, and a gap opens. A gap is closed by the missing packets, or
  after 20 to 60 ms (more when packets came too late before) by what can be had instead: the
  in-band redundancy of the packet behind it, else concealment. Then everything kept is decoded
  at once: a backlog never becomes delay.
- *Behind its turn*: a duplicate, or its gap was given up: dropped and counted.
- *Far away*, forward by a second or back by two packets in a row: the stream began anew.
- *Nothing for 65 ms* (mute, DTX, outage): silence at the pace of time, so that who listens for
  the end of speech never starves (the sink lets speech that broke off fade out first). When what
  comes next tells that packets were lost, only what is still missing is bridged. Speech that
  arrives late is appended all the same; the surplus is taken out of the next such silence.
- *A step in time without a missing packet* (DTX): silence as long as the step, less what was
  filled already and less the surplus.

Sans-I/O: takes sequence numbers, timestamps and `now`, tells a `Sink` what to write. Payloads are
an address (in the socket's buffer) or bytes (kept), each with a length and its payload type.
"""

from __future__ import annotations

import ctypes
from typing import Protocol

NS_PER_MS = 1_000_000
FRAME_NS = 20 * NS_PER_MS
# A little more than three packets: two that are lost in a row end in concealment, not here.
FILL_AFTER_NS = 65 * NS_PER_MS
WAIT_MIN_NS = 20 * NS_PER_MS
WAIT_MAX_NS = 60 * NS_PER_MS
# How much of the extra waiting is forgotten with every second in which nothing came late.
WAIT_DECAY_NS = 2 * NS_PER_MS
NS_PER_S = 1_000_000_000
JUMP = 50  # packets forward that no gap is made of
MAX_KEPT = 64
MAX_CONCEALED_MS = 120
MAX_STEP_MS = 80
MAX_SURPLUS_MS = 5_000
HALF = 0x8000
NO_SOUND = -1


class Sink(Protocol):
    """Where the stream goes. Lengths of time are ticks of the stream's RTP clock."""

    def decode(self, kind: int, data: int | bytes, length: int) -> int:
        """Write a packet's samples; how many ticks they last.

        0: it cannot be decoded; NO_SOUND: it is no audio (comfort noise, DTMF).
        """
        ...

    def recover(self, kind: int, data: int | bytes, length: int, ticks: int) -> bool:
        """Write the packet before this one from its in-band redundancy; False: it has none."""
        ...

    def conceal(self, ticks: int) -> None:
        """Write something plausible for a loss."""
        ...

    def fill(self, ticks: int) -> None:
        """Write silence, or the comfort noise of a sender that paused."""
        ...


class Reorder:
    """The order of one stream. `arrive` for each packet, `tick` every few milliseconds."""

    def __init__(self, sink: Sink, clock_hz: int, now_ns: int) -> None:
        self._sink = sink
        self._per_ms = clock_hz // 1000
        self.frame = 20 * self._per_ms  # ticks of the packet seen last
        self._begun = False
        self._next = 0
        self._next_timestamp = 0
        self._kept: dict[int, tuple[int, int, bytes]] = {}
        # When `tick` has something to do.
        self.due_ns = now_ns + FILL_AFTER_NS
        self._given_up: dict[int, int] = {}
        self._suspect = -1
        self.wait_ns = WAIT_MIN_NS
        self._calm_since_ns = now_ns
        self._arrived_ns = now_ns
        self._filled = 0
        self._surplus = 0
        self.received = self.duplicates = self.late = self.lost = 0
        self.recovered = self.restarts = self.broken = 0
        self.concealed_ticks = self.filled_ticks = 0

    # -- arrival --------------------------------------------------------------------------

    def arrive(
        self, sequence: int, timestamp: int, kind: int, data: int | bytes, length: int, now_ns: int
    ) -> None:
        """A packet came. An address in `data` need hold only during the call."""
        self.received += 1
        self._arrived_ns = now_ns
        ahead = (sequence - self._next) & 0xFFFF
        if ahead and self._begun:
            self._out_of_turn(sequence, ahead, timestamp, kind, data, length, now_ns)
            return
        if not self._begun:
            self._begun = True
            self._next_timestamp = timestamp
            self._filled = 0
        self._play(timestamp, kind, data, length)
        self._next = (sequence + 1) & 0xFFFF
        self.due_ns = now_ns + FILL_AFTER_NS
        if self._kept:
            self._play_kept(now_ns)

    def spare(self, sequence: int, timestamp: int, kind: int, data: bytes, now_ns: int) -> None:
        """A redundant copy of an earlier packet (RED): taken only where that one is missing."""
        ahead = (sequence - self._next) & 0xFFFF
        if not self._begun or ahead >= JUMP or sequence in self._kept:
            return
        self.recovered += 1
        if ahead == 0:
            self._play(timestamp, kind, data, len(data))
            self._next = (sequence + 1) & 0xFFFF
            if self._kept:
                self._play_kept(now_ns)
        else:
            self._keep(sequence, timestamp, kind, data, now_ns)

    def lacks_before(self, sequence: int) -> bool:
        """Whether a packet right before this one is still missing."""
        return 0 < (sequence - self._next) & 0xFFFF < JUMP and self._begun

    def begin(self, clock_hz: int, now_ns: int) -> None:
        """Nothing has come yet, but from now on something should."""
        self._per_ms = clock_hz // 1000
        self.frame = 20 * self._per_ms
        self.due_ns = now_ns + FILL_AFTER_NS

    def retune(self, clock_hz: int, now_ns: int) -> None:
        """The stream goes on in another codec, whose clock runs at another rate."""
        self.restart(now_ns)
        self._per_ms = clock_hz // 1000
        self.frame = 20 * self._per_ms
        self._surplus = 0

    def restart(self, now_ns: int) -> None:
        """What comes next belongs to another stream: play what is kept and begin anew."""
        while self._kept:
            self._give_up(now_ns)
        self._begun = False
        self._given_up.clear()
        self._suspect = -1
        self.restarts += 1

    def _out_of_turn(
        self,
        sequence: int,
        ahead: int,
        timestamp: int,
        kind: int,
        data: int | bytes,
        length: int,
        now_ns: int,
    ) -> None:
        if ahead < JUMP:
            if sequence in self._kept:
                self.duplicates += 1
            else:
                copy = data if isinstance(data, bytes) else ctypes.string_at(data, length)
                self._keep(sequence, timestamp, kind, copy, now_ns)
            return
        if ahead >= HALF:
            given_up_ns = self._given_up.pop(sequence, 0)
            if given_up_ns:
                self._came_too_late(now_ns - given_up_ns, now_ns)
                return
            if ahead > 0x10000 - JUMP:
                self.duplicates += 1
                return
            if sequence != self._suspect:  # one such packet alone proves nothing
                self._suspect = (sequence + 1) & 0xFFFF
                self.late += 1
                return
        self.restart(now_ns)
        self.received -= 1
        self.arrive(sequence, timestamp, kind, data, length, now_ns)

    def _keep(self, sequence: int, timestamp: int, kind: int, data: bytes, now_ns: int) -> None:
        if not self._kept:
            self.due_ns = now_ns + self.wait_ns
        self._kept[sequence] = timestamp, kind, data
        while len(self._kept) > MAX_KEPT:
            self._give_up(now_ns)

    def _came_too_late(self, late_ns: int, now_ns: int) -> None:
        """A packet whose gap was given up: the next gap waits long enough for its like."""
        self.late += 1
        self.wait_ns = min(WAIT_MAX_NS, self.wait_ns + late_ns + NS_PER_MS)
        self._calm_since_ns = now_ns

    # -- in order -------------------------------------------------------------------------

    def _play(self, timestamp: int, kind: int, data: int | bytes, length: int) -> None:
        if timestamp != self._next_timestamp or self._filled:
            self._step(timestamp)
        ticks = self._sink.decode(kind, data, length)
        if ticks > 0:
            self.frame = ticks
        elif ticks == NO_SOUND:
            ticks = 0
        else:
            self.broken += 1
            ticks = self.frame
            self._conceal(ticks)
        self._next_timestamp = (timestamp + ticks) & 0xFFFFFFFF

    def _step(self, timestamp: int) -> None:
        """Time has passed between two packets; some of it may be filled already."""
        filled, self._filled = self._filled, 0
        step = (timestamp - self._next_timestamp) & 0xFFFFFFFF
        if step >= 1 << 31:
            step = 0
        missing = step - filled
        if missing < 0:
            most = MAX_SURPLUS_MS * self._per_ms
            self._surplus = min(most, self._surplus - missing)
            return
        paid = min(missing, self._surplus)
        self._surplus -= paid
        if 0 < missing - paid <= MAX_STEP_MS * self._per_ms:
            self._fill(missing - paid)

    def _play_kept(self, now_ns: int) -> None:
        kept = self._kept
        while (packet := kept.pop(self._next, None)) is not None:
            timestamp, kind, data = packet
            self._play(timestamp, kind, data, len(data))
            self._next = (self._next + 1) & 0xFFFF
        if kept:  # there is another gap
            self.due_ns = now_ns + self.wait_ns

    # -- time -----------------------------------------------------------------------------

    def tick(self, now_ns: int) -> bool:
        """Do what is due by `now_ns`; whether something was written."""
        if now_ns < self.due_ns:
            return False
        if self._kept:
            self._give_up(now_ns)
            return True
        if self.wait_ns > WAIT_MIN_NS:
            self._calm(now_ns)
        self.due_ns += FRAME_NS
        frame = 20 * self._per_ms
        if self._surplus >= frame:
            self._surplus -= frame
            self._filled += frame
            return False
        self._fill(frame)
        self._filled += frame
        return True

    def _calm(self, now_ns: int) -> None:
        seconds = (now_ns - self._calm_since_ns) // NS_PER_S
        if seconds > 0:
            self._calm_since_ns += seconds * NS_PER_S
            self.wait_ns = max(WAIT_MIN_NS, self.wait_ns - seconds * WAIT_DECAY_NS)

    def _give_up(self, now_ns: int) -> None:
        """The missing packets do not come: bridge the gap and go on behind it."""
        self._calm(now_ns)
        kept, expected = self._kept, self._next
        first = min(kept, key=lambda sequence: (sequence - expected) & 0xFFFF)
        missing = (first - expected) & 0xFFFF
        self.lost += missing
        for lost in range(missing):
            self._given_up[(expected + lost) & 0xFFFF] = now_ns
        while len(self._given_up) > 2 * MAX_KEPT:
            del self._given_up[next(iter(self._given_up))]
        timestamp, kind, data = kept[first]
        step = (timestamp - self._next_timestamp) & 0xFFFFFFFF
        if self._filled < step < 1 << 31:
            self._bridge(step - self._filled, missing, kind, data)
            self._next_timestamp = timestamp
            self._filled = 0
        self._next = first
        self.due_ns = now_ns + FILL_AFTER_NS
        self._play_kept(now_ns)

    def _bridge(self, step: int, missing: int, kind: int, data: bytes) -> None:
        most = max(0, MAX_CONCEALED_MS * self._per_ms - self._filled)
        frame = min(self.frame, step)
        before = step - frame
        if missing == 1 and before > frame:
            # The sender paused, too: only one packet's worth was speech.
            before = 0
        if before:
            if most:
                self._conceal(min(before, most))
            if before > most:
                self._fill(min(before - most, MAX_STEP_MS * self._per_ms))
        if self._sink.recover(kind, data, len(data), frame):
            self.recovered += 1
        elif before < most:
            self._conceal(frame)
        else:
            self._fill(frame)

    def _conceal(self, ticks: int) -> None:
        self.concealed_ticks += ticks
        self._sink.conceal(ticks)

    def _fill(self, ticks: int) -> None:
        self.filled_ticks += ticks
        self._sink.fill(ticks)
