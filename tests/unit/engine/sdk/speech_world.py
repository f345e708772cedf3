"""A bot's session and a worker's sender on the same rings, driven by hand, and what it all means.

The encoder writes the samples themselves into its packets, so that the world sees what left. It
knows nothing of anchors and answers: what is played and what is cut it reads off the packets.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.sdk.session import Session
from ipc.audio_ring import BotRing, RingSpec
from ipc.clock import NS_PER_MS, ManualClock
from ipc.messages import Message, Ok
from tests.fakes.manual_loop import ManualLoop
from workers.audio import opus
from workers.pacer import Pacer
from workers.rings import Rings
from workers.session import Session as WorkerSession
from workers.webrtc.frame_encoder import OPUS_SILENCE
from workers.webrtc.rtp import RtpPacket
from workers.webrtc.sender import Sender

if TYPE_CHECKING:
    import asyncio

    import pytest

    from engine.sdk.flushes import Flushed
    from engine.sdk.marks import Mark
    from engine.sdk.playable import Played
    from ipc.codec import Codec

HZ = 8_000
FRAME = HZ // 50
SPEC = RingSpec(key=bytes(16), epoch=1, mic_hz=HZ, speaker_hz=HZ, mic_ms=40, speaker_ms=60)
SLOT_NS = 5 * NS_PER_MS
SETTLE_SLOTS = 4 * 5


class PlainEncoder:
    """Packets that are the samples, and the shortest one for silence."""

    lookahead = 0

    def __init__(self, *_: object) -> None:
        pass

    def encode(self, address: int, samples: int, out: ctypes.Array[ctypes.c_char]) -> int:
        pcm = ctypes.string_at(address, 2 * samples)
        payload = pcm if any(pcm) else OPUS_SILENCE
        ctypes.memmove(out, payload, len(payload))
        return len(payload)

    def configure(self, _codec: Codec) -> bool:
        return True

    def reset(self) -> None:
        pass

    def close(self) -> None:
        pass


class Media:
    """The bot's end, which remembers what was written where."""

    def __init__(self, ring: BotRing) -> None:
        self.ring = ring
        self.written: list[int] = []
        self.flush, self.end = ring.flush, ring.end

    def write(self, pcm: memoryview) -> int:
        count = self.ring.write_speaker(pcm)
        self.written += np.frombuffer(pcm, np.int16)[:count].tolist()
        return count

    def close(self) -> None:
        self.ring.release()


class Line:
    """A way to the engine that leads nowhere."""

    async def request(self, message: Message, *, timeout_s: float) -> Message:
        return Ok()

    def notify(self, message: Message) -> bool:
        return True


@dataclass
class Leg:
    """As much of a peer as a worker's session needs."""

    sender: Sender


@dataclass
class Play:
    """A call of `play`: its samples, which are numbered through, and what came of it."""

    samples: list[int]
    mark: str | None
    interruptible: bool
    task: asyncio.Task[Played]


@dataclass
class World:
    """One case. `marks` are those that have resolved, `left` the cursors whose samples left."""

    monkeypatch: pytest.MonkeyPatch
    plays: list[Play] = field(default_factory=list)
    named: int = 0
    numbered: int = 0
    marks: list[Mark] = field(default_factory=list)
    futures: list[asyncio.Future[Mark]] = field(default_factory=list)
    flushes: list[tuple[int, asyncio.Future[Flushed]]] = field(default_factory=list)
    left: list[tuple[int, int]] = field(default_factory=list)
    datagrams: list[bytes] = field(default_factory=list)
    stalled: bool = False
    rung: bool = False
    position: int = 0
    heard: int = 0

    def __post_init__(self) -> None:
        self.monkeypatch.setattr(opus, "encoder", PlainEncoder)
        self.clock = ManualClock()
        self.loop = ManualLoop(self.clock)  # type: ignore[abstract]  # the rest is for sockets
        rope: Any = self  # the world is the rope of their bell
        rings = Rings(SPEC, "", rope)
        assert rings.bot_end is not None, "they lie in private memory"
        self.worker = rings.ring
        self.media = Media(rings.bot_end)
        self.sender = Sender(self.clock)
        packet = RtpPacket(1, 96)
        self.sender.start(packet, self, self, codec="opus", clock_hz=48_000, cname="w")
        self.sender.ring = self.worker
        no_mux: Any = None  # there is no network
        worker = WorkerSession("s_1", self.clock, lambda _message: None, no_mux)
        worker.leg = Leg(self.sender)  # type: ignore[assignment]  # stand-ins
        worker.rings = rings
        self.pacer = Pacer(self.clock.now_ns(), slots=4, stride=1, on_fault=self._fault)
        self.pacer.add(worker)
        self._worker = worker

    def begin(self) -> None:
        self.session = Session("s_1", Line(), None, clock=self.clock)
        self.session.attach(self.media)
        # Not `append` itself: to find out what a builtin takes would cost a fifth of a case.
        self.session.on("mark", lambda mark: self.marks.append(mark))

    # -- the wire ---------------------------------------------------------------------------

    def protect(self, length: int) -> int:
        return length

    def protect_rtcp(self, packet: bytes) -> bytes:
        return packet

    def send(self, data: bytes | memoryview) -> bool:
        self.datagrams.append(bytes(data))
        return True

    def pull(self) -> None:
        self.rung = True

    pull_later = pull

    def let_go(self) -> None:
        pass

    def _fault(self, _paced: object) -> None:
        raise

    # -- what may happen ----------------------------------------------------------------------

    def play(self, count: int, *, marked: bool, interruptible: bool) -> None:
        samples = list(range(self.numbered + 1, self.numbered + 1 + count))
        self.numbered += count
        name = self._name() if marked else None
        pcm = np.array(samples, np.int16)
        coroutine = self.session.play(pcm, mark=name, interruptible=interruptible)
        self.plays.append(Play(samples, name, interruptible, self.loop.create_task(coroutine)))

    def mark(self) -> None:
        self.futures.append(self.session.mark(self._name()))

    def _name(self) -> str:
        self.named += 1
        return str(self.named)

    def flush(self, fade_ms: int) -> None:
        future = self.session.flush(fade_ms)
        self.flushes.append((self.media.ring.speaker_written, future))

    def run_bot(self) -> None:
        if self.stalled:
            return
        if self.rung:
            self.rung = False
            self.session.look()
        self.loop.run()
        self._look()

    def pass_slots(self, slots: int) -> None:
        for _ in range(slots):
            self.clock.advance_ms(SLOT_NS / NS_PER_MS)
            self._run_worker()
            self.run_bot()

    def stall_worker(self, slots: int) -> None:
        for _ in range(slots):
            self.clock.advance_ms(SLOT_NS / NS_PER_MS)
            self.run_bot()
        self._run_worker()
        self.run_bot()

    def _run_worker(self) -> None:
        before = self.media.ring.playback()
        now_ns = self.clock.now_ns()
        while self.pacer.due_ns <= now_ns:
            # Slot by slot, so that no more than one packet leaves between two looks.
            self.pacer.run(min(self.pacer.due_ns, now_ns))
            after = self.media.ring.playback()
            self._check_packet(before.cursor, after.cursor)
            before = after

    # -- what must hold -----------------------------------------------------------------------

    def _check_packet(self, before: int, until: int) -> None:
        """Samples left: they are those that were written there, in order, or faded ones."""
        datagrams, self.datagrams = self.datagrams, []
        packets = [data[12:] for data in datagrams if data[1] & 0x7F == 96]
        assert len(packets) <= 1
        if until == before:
            return
        assert len(packets) == 1
        heard = np.frombuffer(packets[0], np.int16)
        # A packet begins where a flush let it begin, or where the last one ended. What a flush
        # has moved lies in two places: it is the later one that leaves.
        starts = [to for to, _ in reversed(self.flushes) if before < to < until]
        start = next(at for at in [*starts, before] if self.media.written[at] == heard[0])
        assert 0 < until - start <= FRAME
        self.left.append((start, until))
        written = np.array(self.media.written[start:until])
        count = until - start
        assert not heard[count:].any(), "silence follows"
        fading = self.sender.underruns or count < FRAME or self._flushed_at(until)
        sure = 0 if fading else count
        assert (heard[:sure] == written[:sure]).all()
        assert (np.abs(heard[:count]) <= written).all()

    def _flushed_at(self, until: int) -> bool:
        return self.worker.flush_sent == until

    def _look(self) -> None:
        position = self.session.position
        assert self.position <= position <= (self.left[-1][1] if self.left else 0)
        self.position = position

    def gone(self, cursor: int) -> bool:
        """Whether the sample before `cursor` has left."""
        return cursor == 0 or any(start < cursor <= until for start, until in self.left)

    def finish(self) -> None:
        """Everybody works again, until nothing is left to do."""
        self.stalled = False
        if not self.session.closed:
            self.session.end_of_speech()
        for _ in range(2 + self.numbered // FRAME):
            self.pass_slots(SETTLE_SLOTS)
            if self.session.closed or not self.session.queued:
                break
        self.pass_slots(SETTLE_SLOTS)
        self.check()

    def check(self) -> None:
        assert self.loop.errors == []
        assert all(play.task.done() for play in self.plays), "no play hangs"
        self._check_marks()
        self._check_flushes()
        self._check_plays()

    def _check_marks(self) -> None:
        names = [mark.name for mark in self.marks]
        assert len(names) == len(set(names)), "each resolves once"
        # A play that began after the end has raised, and made none.
        late = {play.mark for play in self.plays if play.task.exception()}
        assert late.union(names) - {None} == {str(n + 1) for n in range(self.named)}
        assert all(future.done() for future in self.futures)
        cut = {play.mark for play in self.plays if play.task.exception() or play.task.result().cut}
        # Of a play of nothing one cannot tell whether it was queued, or cut while it waited.
        of_nothing = {play.mark for play in self.plays if not play.samples}
        for mark in self.marks:
            if mark.name in of_nothing and not mark.played:
                continue
            if mark.name in cut:
                assert not mark.played, "its end was never queued"
                continue
            assert mark.played == self.gone(mark.cursor), mark

    def _check_flushes(self) -> None:
        heard = 0
        for flush_to, future in self.flushes:
            flushed = future.result()
            # One fade may take in what two flushes, of which nothing came between, have cut.
            left = [min(until, flush_to) for start, until in self.left if start < flush_to]
            sent = max(left, default=0)
            assert flushed.cursor == sent if flushed.exact else flushed.cursor <= sent
            assert heard <= flushed.heard <= flushed.cursor
            heard = flushed.heard

    def _check_plays(self) -> None:
        values = [value for start, until in self.left for value in self.media.written[start:until]]
        assert values == sorted(set(values)), "in order, nothing twice"
        gone = set(values)
        for play in self.plays:
            if play.task.exception() is not None:
                assert self.session.closed
                continue
            played = play.task.result()
            if not play.interruptible:
                assert played.cut == 0
                assert self.session.closed or gone.issuperset(play.samples), "it survives"
                continue
            queued = played.end - played.start
            assert self.media.written[played.start : played.end] == play.samples[:queued]
            left = sum(sample in gone for sample in play.samples)
            if played.cut:
                assert played.cut >= len(play.samples) - left if self._inexact() else True
                assert self._inexact() or played.cut == len(play.samples) - left
        if not self.flushes and not self.session.closed:
            assert len(values) == self.numbered, "nothing is lost without a flush"

    def _inexact(self) -> bool:
        return any(not future.result().exact for _, future in self.flushes)

    def end(self) -> None:
        """The session ends, for the bot and for the worker."""
        self.pacer.remove(self._worker)
        self.session.ended("closed")
        self.loop.run()

    def close(self) -> None:
        self.end()
        self.sender.stop()


def run_case(script: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Play a script: two bytes for each thing that happens."""
    world = World(monkeypatch)
    with world.loop:
        world.begin()
        for op, argument in zip(script[::2], script[1::2], strict=False):
            step(world, op % 16, argument)
            if op & 0x80:  # the bot gets its turn at once
                world.run_bot()
        world.finish()
        world.close()
        world.check()


def step(world: World, op: int, argument: int) -> None:
    """One thing that happens."""
    if world.session.closed:
        world.pass_slots(1)
    elif op <= 3:
        count = argument * 3 if op & 1 else argument // 2
        if world.numbered + count < 32_000:
            world.play(count, marked=op >= 2, interruptible=argument % 4 != 0)
    elif op == 4:
        world.mark()
    elif op <= 6:
        world.flush(0 if op == 5 else argument % 21)
    elif op == 7:
        world.session.end_of_speech()
    elif op == 8:
        world.stall_worker(argument % 24)
    elif op == 9:
        world.stalled = not world.stalled
    elif op == 10 and argument < 40:
        world.end()
    else:
        world.pass_slots(1 + argument % 8)
