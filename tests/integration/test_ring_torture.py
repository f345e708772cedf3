"""Two real processes on one segment, millions of samples, and SIGKILL at any moment.

The test is the engine here: it makes a segment for each epoch, starts the two ends
(`tests.ring_peer`), kills one now and then and puts a new one on a new segment, whose base
cursors go on where the design says. Each end checks every sample that it gets; the test checks
that the ends' accounts add up.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from ipc.audio_ring import BotRing, RingSpec, WorkerRing, size_bytes
from ipc.segment import Segment, new_name
from tests.ring_peer import KEY
from tests.support import ROOT, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLES = 6_000_000  # of each of the two tests; 12 million together
EPOCHS = 8
BASE = 2**40  # beyond what 32 bits can tell apart


class Process:
    """One end; `killed` ones owe no report."""

    def __init__(self, role: str, seed: int) -> None:
        self.role = role
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.ring_peer", role, str(seed)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def begin(self, segment: str, epoch: int) -> None:
        self._say(json.dumps({"segment": segment, "epoch": epoch}))

    def stop(self) -> None:
        self._say("stop")
        self._hear()

    def drain(self) -> dict[str, Any]:
        """Let it take out what is left; what it did in this epoch."""
        self._say("drain")
        report: dict[str, Any] = json.loads(self._hear())
        return report

    def check_alive(self) -> None:
        if self._popen.poll() is not None:
            self._failed()

    def kill(self) -> None:
        self.check_alive()
        self._popen.kill()
        self._popen.communicate()

    def end(self) -> None:
        self._popen.kill()
        self._popen.communicate()

    def _say(self, line: str) -> None:
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(line.encode() + b"\n")
            self._popen.stdin.flush()
        except BrokenPipeError:
            self._failed()

    def _hear(self) -> bytes:
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            self._failed()
        return line

    def _failed(self) -> None:
        assert self._popen.stderr is not None
        pytest.fail(f"{self.role}: {self._popen.stderr.read().decode()}", pytrace=False)


@dataclass
class Epoch:
    """A segment as the engine keeps it, to look at the cursors."""

    spec: RingSpec
    segment: Segment
    worker: WorkerRing = field(init=False)
    bot: BotRing = field(init=False)

    def __post_init__(self) -> None:
        self.worker = WorkerRing.format(self.segment.buffer, self.spec, os.getpid())
        self.bot = BotRing(self.segment.buffer)

    @property
    def passed(self) -> int:
        """Samples that have gone through, both ways."""
        heard = self.bot.mic_read - self.spec.mic_base
        return heard + self.bot.speaker_sent - self.spec.speaker_base

    def close(self) -> None:
        self.worker.release()
        self.bot.release()
        self.segment.unlink()
        self.segment.close()


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.end()


class Engine:
    """Runs epochs, each until enough has passed and one end is killed."""

    def __init__(
        self, engine_id: str, processes: list[Process], rng: random.Random, channels: int
    ) -> None:
        self._engine_id = engine_id
        self._processes = processes
        self._rng = rng
        self._ends: dict[str, Process] = {}
        self.spec = RingSpec(
            key=KEY,
            epoch=0,
            mic_ms=120,
            speaker_ms=60,
            mic_channels=channels,
            speaker_channels=channels,
            mic_base=BASE,
            speaker_base=BASE + 77,
        )
        self.passed = self.heard = self.lost = self.flushed = 0

    def run_epoch(self, number: int, wanted: int, victim: str | None) -> None:
        """Both ends work until `wanted` samples have passed; then one is killed, or none."""
        self.spec = replace(self.spec, epoch=number)
        segment = Segment.create(new_name(self._engine_id), size_bytes(self.spec))
        epoch = Epoch(self.spec, segment)
        try:
            for role in ("worker", "bot"):
                end = self._ends.get(role)
                if end is None:
                    end = self._ends[role] = Process(role, self._rng.randrange(2**32))
                    self._processes.append(end)
                end.begin(segment.name, number)
            wait_until(lambda: self._has_passed(epoch, wanted), 40, what=f"{wanted} samples")
            self._finish(epoch, victim)
        finally:
            epoch.close()

    def _has_passed(self, epoch: Epoch, wanted: int) -> bool:
        for end in self._ends.values():
            end.check_alive()
        return epoch.passed >= wanted

    def _finish(self, epoch: Epoch, victim: str | None) -> None:
        if victim is not None:
            self._ends.pop(victim).kill()
        for end in self._ends.values():
            end.stop()
        reports = {role: end.drain() for role, end in self._ends.items()}
        worker, bot = epoch.worker, epoch.bot
        if "worker" in reports:
            self._check_speaker(epoch, reports["worker"], victim)
        if "bot" in reports:
            self._check_mic(epoch, reports["bot"], victim)
        if victim is None:
            flushes = set(reports["bot"]["flushes"])
            assert {to for _, to in reports["worker"]["skipped"]} <= flushes
        self.passed += epoch.passed
        self.spec = replace(
            self.spec,
            # The next bot hears what the last one did not; what was not sent is written again.
            mic_base=bot.mic_read,
            speaker_base=worker.speaker_sent,
        )

    def _check_speaker(self, epoch: Epoch, report: dict[str, Any], victim: str | None) -> None:
        sent, base = epoch.bot.speaker_sent, epoch.spec.speaker_base
        skipped = report["skipped"]
        assert report["epoch"] == epoch.spec.epoch
        assert report["read"] + sum(to - start for start, to in skipped) == sent - base
        if victim == "bot":
            assert sent == epoch.bot.speaker_written, "queued speech plays out"
        self.flushed += len(skipped)

    def _check_mic(self, epoch: Epoch, report: dict[str, Any], victim: str | None) -> None:
        read, base = epoch.bot.mic_read, epoch.spec.mic_base
        assert report["epoch"] == epoch.spec.epoch
        assert report["read"] + report["lost"] == read - base
        # The worker counts by the cursor that it saw last: never less than were lost, but for
        # the write amid which it was killed.
        unfinished = 2 * epoch.bot.mic.slack if victim == "worker" else 0
        assert report["lost"] <= epoch.bot.mic_dropped + unfinished
        if victim == "worker":
            assert read == epoch.bot.mic_written, "what had arrived is heard"
        self.heard += report["read"]
        self.lost += report["lost"]


@pytest.mark.parametrize("channels", [1, 2], ids=["mono", "stereo"])
def test_no_sample_is_torn_or_lost_outside_a_flush_whoever_dies(
    engine_id: str, processes: list[Process], channels: int
) -> None:
    rng = random.Random(random.randrange(2**32))
    engine = Engine(engine_id, processes, rng, channels)

    for number in range(EPOCHS):
        wanted = SAMPLES // EPOCHS * rng.uniform(0.2, 1.8)
        engine.run_epoch(number, round(wanted), rng.choice(["worker", "bot", None]))
    engine.run_epoch(EPOCHS, max(1, SAMPLES - engine.passed), None)

    assert engine.passed >= SAMPLES
    assert engine.flushed > 0, "flushes took audio away"
    assert 0 < engine.lost < engine.heard, "a slow reader lost some, and not most"
