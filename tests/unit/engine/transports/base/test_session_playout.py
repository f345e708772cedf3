"""Writes to a session: the lead, what was played, what was cut, and a caller who is away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine.sdk import Session
from engine.transports.base import session_playout
from engine.transports.base.session_playout import SessionPlayout
from engine.transports.base.sum import Sum
from tests.fakes.manual_loop import ManualLoop
from tests.support import turn
from tests.unit.engine.sdk.test_session import FakeLine, MemoryMedia

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from ipc.clock import ManualClock

HZ = 16_000
MS = 16
LEAD_MS = 100
HOLD_S = 3


def pcm(value: int, ms: float) -> bytes:
    return value.to_bytes(2, "little", signed=True) * round(ms * MS)


class World:
    """A session on rings in memory, and its playout."""

    def __init__(self, clock: ManualClock, loop: ManualLoop) -> None:
        self.clock = clock
        self.loop = loop
        self.media = MemoryMedia(1000)
        self.session = Session("s_1", FakeLine(), None, clock=clock)
        self.session.attach(self.media)
        self.present = True
        self.playout = SessionPlayout(
            self.session, hz=HZ, lead_ms=LEAD_MS, hold_s=HOLD_S, present=lambda: self.present
        )

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(coroutine)
        self.loop.run()
        return task

    def sends(self, ms: float) -> list[int]:
        """So much leaves; its values."""
        ring = self.media.ring
        self.media.worker.apply_flush()
        self.look()
        count = round(ms * MS)
        at = ring.speaker_sent
        pieces = [
            np.frombuffer(bytes(ring.speaker.view(start, min(320, at + count - start))), np.int16)
            for start in range(at, at + count, 320)
        ]
        self.media.sends(count)
        self.look()
        return list(np.concatenate(pieces)) if pieces else []

    def look(self) -> None:
        self.session.look()
        self.loop.run()

    def passes(self, ms: float) -> None:
        for _ in range(round(ms / 10)):
            self.clock.advance_ms(10)
            self.loop.run()


@pytest.fixture
def world(clock: ManualClock) -> Iterator[World]:
    with ManualLoop(clock) as loop:  # type: ignore[abstract]  # the rest is for sockets
        world = World(clock, loop)
        yield world
        world.session.ended("test over")
        world.loop.run()
        world.session.detach()
        assert not loop.errors


def test_a_write_returns_when_the_lead_is_kept(world: World) -> None:
    writing = world.begin(world.playout.write(pcm(1, 180)))
    assert not writing.done()
    assert world.playout.written == 180 * MS
    world.sends(60)
    assert not writing.done()
    world.sends(20)
    assert writing.result() is True


async def test_a_write_that_may_not_hold_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_playout, "LOOK_S", 60)
    session = Session("s_1", FakeLine(), None)
    session.attach(MemoryMedia(1000))
    looks: list[bool] = []

    def present() -> bool:
        looks.append(True)
        return True

    playout = SessionPlayout(session, hz=HZ, lead_ms=LEAD_MS, hold_s=0, present=present)
    writing = asyncio.create_task(playout.write(pcm(1, 300)))
    for _ in range(100):
        await turn()
    assert len(looks) == 1
    session.ended("test over")
    assert await writing is False
    session.detach()


def test_what_has_left_is_told_piece_by_piece(world: World) -> None:
    world.begin(world.playout.write(pcm(1, 80)))
    first = world.begin(world.playout.wait(1))
    all_ = world.begin(world.playout.wait(80 * MS))
    world.sends(20)
    assert not first.done()
    world.sends(20)
    assert first.result() is True
    assert not all_.done()
    world.sends(40)
    assert all_.result() is True
    assert world.begin(world.playout.wait(80 * MS)).result() is True
    assert world.begin(world.playout.wait(0)).result() is True


def test_what_is_known_to_have_left_is_told_at_once(world: World) -> None:
    playout = world.playout
    world.begin(playout.write(pcm(1, 80)))
    assert not playout.has_left(1)
    world.sends(40)
    assert playout.has_left(40 * MS)
    assert not playout.has_left(40 * MS + 1)
    playout.flush()
    world.sends(0)
    assert playout.has_left(40 * MS)
    assert not playout.has_left(80 * MS)


def test_a_flush_ends_the_write_and_the_waits(world: World) -> None:
    writing = world.begin(world.playout.write(pcm(1, 400)))
    waiting = world.begin(world.playout.wait(400 * MS))
    world.sends(40)
    world.playout.flush()
    world.loop.run()
    assert writing.result() is False
    assert world.playout.unsent == 0
    world.sends(0)
    assert waiting.result() is False
    assert world.begin(world.playout.wait(40 * MS)).result() is True


def test_speech_behind_a_flush_is_told_by_itself(world: World) -> None:
    world.begin(world.playout.write(pcm(1, 80)))
    world.playout.flush()
    world.sends(0)
    world.begin(world.playout.write(pcm(2, 40)))
    waiting = world.begin(world.playout.wait(world.playout.written))
    assert world.sends(40) == [2] * 40 * MS
    assert waiting.result() is True


def test_uninterruptible_audio_is_told_where_it_then_stands(world: World) -> None:
    world.begin(world.playout.write(pcm(1, 40)))
    kept = world.begin(world.playout.write(pcm(2, 120), interruptible=False))
    cut = world.begin(world.playout.wait(40 * MS))
    waiting = world.begin(world.playout.wait(160 * MS))
    world.playout.flush()
    world.loop.run()
    assert not kept.done()
    world.sends(0)
    assert cut.result() is False
    assert set(world.sends(100)) == {2}
    assert kept.result() is True
    assert not waiting.done()
    world.sends(20)
    assert waiting.result() is True


def test_a_caller_who_is_away_is_waited_for_and_then_not_any_more(world: World) -> None:
    world.present = False
    writing = world.begin(world.playout.write(pcm(1, 200)))
    world.passes(HOLD_S * 1000 - 100)
    assert not writing.done()
    world.passes(200)
    assert writing.result() is False
    world.sends(0)
    assert world.session.queued == 0
    paced = world.begin(world.playout.write(pcm(1, 40)))
    world.passes(30)
    assert not paced.done()
    world.passes(10)
    assert paced.result() is False
    world.present = True
    assert world.begin(world.playout.write(pcm(3, 40))).result() is True
    assert world.sends(40) == [3] * 40 * MS


def test_a_write_that_no_ring_could_hold_waits_for_a_caller_no_longer(world: World) -> None:
    world.present = False
    writing = world.begin(world.playout.write(pcm(1, 2500)))
    world.passes(HOLD_S * 1000 - 100)
    assert not writing.done()
    world.passes(200)
    assert writing.result() is False
    world.sends(0)
    assert world.session.queued == 0


def test_a_write_that_no_ring_could_hold_is_heard_whole(world: World) -> None:
    writing = world.begin(world.playout.write(pcm(1, 2500)))
    heard = [sample for _ in range(25) for sample in world.sends(100)]
    assert heard == [1] * 2500 * MS
    assert writing.result() is True


def test_a_caller_who_comes_back_in_time_hears_everything(world: World) -> None:
    world.present = False
    writing = world.begin(world.playout.write(pcm(1, 200)))
    world.passes(HOLD_S * 1000 - 100)
    world.present = True
    world.playout.changed()
    world.passes(500)
    assert world.sends(120) == [1] * 120 * MS
    assert writing.result() is True


def test_after_the_end_writes_and_waits_say_no(world: World) -> None:
    writing = world.begin(world.playout.write(pcm(1, 200)))
    waiting = world.begin(world.playout.wait(200 * MS))
    world.session.ended("gone")
    world.loop.run()
    assert writing.result() is False
    assert waiting.result() is False
    assert world.begin(world.playout.write(pcm(1, 40))).result() is False
    world.playout.flush()
    world.playout.end()


# -- several destinations ---------------------------------------------------------------------


@pytest.fixture
def sum_(world: World) -> Iterator[Sum]:
    made = Sum(world.playout, HZ, 1)
    yield made
    closing = world.begin(made.close())
    world.loop.run()
    assert closing.done()


def test_lines_are_summed_sample_by_sample(world: World, sum_: Sum) -> None:
    one, two = sum_.line(None), sum_.line("stage")
    a = world.loop.create_task(one.write(pcm(1, 40)))
    b = world.loop.create_task(two.write(pcm(10, 60)))
    world.loop.run()
    assert a.result() is b.result() is True
    assert world.sends(60) == [11] * 40 * MS + [10] * 20 * MS


def test_each_line_knows_when_its_own_audio_has_left(world: World, sum_: Sum) -> None:
    one, two = sum_.line(None), sum_.line("stage")
    world.loop.create_task(one.write(pcm(1, 20)))
    world.loop.create_task(two.write(pcm(10, 60)))
    world.loop.run()
    first = world.begin(one.wait(20 * MS))
    second = world.begin(two.wait(60 * MS))
    world.sends(20)
    assert first.result() is True
    assert not second.done()
    world.sends(40)
    assert second.result() is True


def test_a_flush_of_one_line_leaves_the_other_whole(world: World, sum_: Sum) -> None:
    one, two = sum_.line(None), sum_.line("stage")
    world.loop.create_task(one.write(pcm(100, 90)))
    other = world.loop.create_task(two.write(np.arange(90 * MS, dtype=np.int16).tobytes()))
    world.loop.run()
    waits = [world.begin(one.wait(90 * MS)), world.begin(two.wait(90 * MS))]
    before = world.sends(20)
    assert before == [100 + value for value in range(20 * MS)]
    one.flush()
    world.loop.run()
    assert waits[0].result() is False
    heard: list[int] = []
    for _ in range(10):
        heard += world.sends(min(20, world.session.queued / MS))
    assert heard == list(range(20 * MS, 90 * MS))
    assert waits[1].result() is True
    assert other.result() is True


def test_what_a_line_may_not_lose_survives_its_flush(world: World, sum_: Sum) -> None:
    line = sum_.line(None)
    world.loop.create_task(line.write(pcm(1, 20)))
    world.loop.create_task(line.write(pcm(2, 40), interruptible=False))
    world.loop.run()
    line.flush()
    world.loop.run()
    world.sends(0)
    assert world.sends(40) == [2] * 40 * MS


def test_a_line_is_held_back_like_a_single_one(world: World, sum_: Sum) -> None:
    writing = world.begin(sum_.line(None).write(pcm(1, 500)))
    assert not writing.done()
    assert world.session.queued <= (LEAD_MS + 20) * MS
    for _ in range(20):
        world.sends(20)
    assert writing.result() is True


def test_the_end_of_the_sum_is_the_end_of_its_lines(world: World, sum_: Sum) -> None:
    line = sum_.line(None)
    writing = world.begin(line.write(pcm(1, 500)))
    waiting = world.begin(line.wait(500 * MS))
    world.begin(sum_.close())
    assert writing.result() is waiting.result() is False
    assert world.begin(line.write(pcm(1, 20))).result() is False
