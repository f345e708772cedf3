"""One end of a session's rings in a process of its own, as hard on them as it can be.

usage: python -m tests.ring_peer worker|bot SEED

Each epoch is three lines of input: `{"segment": name, "epoch": n}` begins it, `stop` ends the
work (answered with an empty line), `drain` takes out what is left (answered with a line of JSON:
what was read, lost, skipped and flushed). Ends with its input. Every sample is a hash of its
cursor, so any that is torn, lost or repeated is an assertion here.
"""

from __future__ import annotations

import json
import random
import select
import sys
from typing import Any

from ipc.audio_ring import AudioRing, BotRing, WorkerRing
from ipc.ring_layout import PLAYBACK
from ipc.segment import Segment
from tests.support import pattern, pcm

LOOKS = 32  # rounds between two looks at the input
IDLE_S = 0.0002
KEY = b"torture-torture-"


def stamp(cursor: int) -> int:
    """What the anchors say beside a cursor."""
    return (cursor * 0x9E3779B97F4A7C15) & (2**63 - 1)


class Peer:
    """What both ends do: work until a line comes, drain, report."""

    def __init__(self, ring: AudioRing, rng: random.Random) -> None:
        self.rng = rng
        self.report: dict[str, Any] = {"read": 0, "lost": 0, "skipped": [], "flushes": []}

    def work(self) -> bool:
        """One round; False when there was nothing to do."""
        raise NotImplementedError

    def drain(self) -> None:
        """Take out what is left; the other side has stopped."""
        raise NotImplementedError


class Worker(Peer):
    """Sends the speaker, writes the mic: now at the reader's pace, now far too fast."""

    def __init__(self, ring: WorkerRing, rng: random.Random) -> None:
        super().__init__(ring, rng)
        self.ring = ring
        self._burst_until = 0

    def work(self) -> bool:
        sent = self._send()
        return self._hear() or sent

    def _send(self) -> bool:
        ring = self.ring
        before = ring.taken
        if ring.apply_flush() and ring.taken > before:
            self.report["skipped"].append([before, ring.taken])
        count = min(ring.speaker_waiting(), self.rng.randint(1, ring.speaker.slack))
        if count == 0:
            return False
        cursor = ring.taken
        view = ring.take(count)
        assert view == pattern(cursor, count, ring.speaker.channels), f"torn at {cursor}"
        cursor += count
        # Once more when it leaves, like the sender: the bot must not have touched it.
        assert view == pattern(cursor - count, count, ring.speaker.channels), "overwritten"
        mark = stamp(cursor)
        ring.commit(cursor, mark, mark >> 1, mark & 0xFFFF, mark & 0xFF)
        self.report["read"] += count
        return True

    def _hear(self) -> bool:
        ring = self.ring
        written = ring.mic_written
        if written >= self._burst_until and self.rng.random() < 0.002:
            self._burst_until = written + self.rng.randint(1, 3 * ring.mic.capacity)
        room = ring.mic.capacity - (written - ring.mic_read)
        count = self.rng.randint(1, 2 * ring.mic.slack)
        if count > room and written >= self._burst_until:
            return False
        ring.write_mic(pcm(written, count, ring.mic.channels))
        return True

    def drain(self) -> None:
        while self._send():
            pass


class Bot(Peer):
    """Writes the speaker and flushes it, reads the mic: now at once, now after a stall."""

    def __init__(self, ring: BotRing, rng: random.Random) -> None:
        super().__init__(ring, rng)
        self.ring = ring
        self._stall_until = 0

    def work(self) -> bool:
        ring, rng = self.ring, self.rng
        cursor = ring.speaker_written
        count = rng.randint(1, 3 * ring.speaker.slack)
        wrote = ring.write_speaker(pcm(cursor, count, ring.speaker.channels)) > 0
        if rng.random() < 0.01:
            self.report["flushes"].append(ring.flush())
        self._look_at_anchor()
        if ring.mic_lag() < self._stall_until:
            return wrote
        self._stall_until = 0
        if rng.random() < 0.002:
            self._stall_until = rng.randint(1, ring.mic.capacity - 2 * ring.mic.slack)
        return self._read(rng.randint(1, ring.mic.slack)) or wrote

    def _read(self, count: int) -> bool:
        ring = self.ring
        at = ring.mic_read
        read = ring.read_mic(count)
        if read is None:
            return False
        assert read.cursor == at + read.lost, f"{read.lost} lost between {at} and {read.cursor}"
        assert read.pcm == pattern(read.cursor, count, ring.mic.channels), f"torn at {read.cursor}"
        self.report["read"] += count
        self.report["lost"] += read.lost
        return True

    def _look_at_anchor(self) -> None:
        anchor = self.ring.playback()
        # A worker that was killed amid its anchor leaves the sequence odd, and it may be torn.
        if anchor.ns and self.ring._words[PLAYBACK] % 2 == 0:
            mark = stamp(anchor.cursor)
            assert anchor[1:] == (mark, mark >> 1, mark & 0xFFFF, mark & 0xFF), "torn anchor"

    def drain(self) -> None:
        ring = self.ring
        while (count := min(ring.mic_waiting(), ring.mic.slack)) > 0:
            assert self._read(count)


def line_within(timeout_s: float) -> bool:
    """Whether input has come (a line, or its end)."""
    return bool(select.select([sys.stdin], [], [], timeout_s)[0])


def serve(role: str, rng: random.Random) -> None:
    """Epoch after epoch, until the input ends."""
    while line := sys.stdin.readline():
        order = json.loads(line)
        segment = Segment.attach(order["segment"])
        ring = WorkerRing(segment.buffer) if role == "worker" else BotRing(segment.buffer)
        ring.check(KEY, order["epoch"])
        peer = Worker(ring, rng) if isinstance(ring, WorkerRing) else Bot(ring, rng)
        rounds = 0
        while True:
            busy = peer.work()
            rounds += 1
            if (not busy or rounds % LOOKS == 0) and line_within(0 if busy else IDLE_S):
                break
        if sys.stdin.readline() != "stop\n":
            return
        print(flush=True)
        if sys.stdin.readline() != "drain\n":
            return
        peer.drain()
        ring.release()
        segment.close()
        print(json.dumps(peer.report | {"epoch": order["epoch"]}), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], random.Random(int(sys.argv[2])))
