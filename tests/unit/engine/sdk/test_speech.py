"""Marks, resampled speech, what survives a flush, and the estimate of what was heard."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from engine.sdk.marks import MAX_MARKS, Mark
from engine.sdk.session import Session
from ipc.audio_ring import BotRing, RingSpec, WorkerRing, size_bytes
from ipc.errors import ConfigError, LimitError, SessionClosed
from ipc.samples import AudioFrame
from tests.fakes.audio import level_db, pitch_hz, tone
from tests.support import until
from tests.unit.engine.sdk.test_session import FakeLine, MemoryMedia

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipc.clock import ManualClock

MS = 16  # samples at 16 kHz


@pytest.fixture
def media() -> MemoryMedia:
    return MemoryMedia()


@pytest.fixture
def session(media: MemoryMedia, clock: ManualClock) -> Iterator[Session]:
    session = Session("s_1", FakeLine(), None, clock=clock)
    session.attach(media)
    yield session
    session.detach()


def written(media: MemoryMedia) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    ring = media.ring
    pieces = [
        np.frombuffer(bytes(ring.speaker.view(at, min(320, ring.speaker_written - at))), np.int16)
        for at in range(ring.speaker_sent, ring.speaker_written, 320)
    ]
    return np.concatenate(pieces)


async def test_a_mark_is_played_once_its_last_sample_has_left(
    session: Session, media: MemoryMedia
) -> None:
    seen: list[Mark] = []
    session.on("mark", seen.append)
    played = await session.play(bytes(2 * 320), mark="word")
    assert played.mark is not None
    assert media.worker.speaker_mark == 320
    media.sends(319)
    session.look()
    assert not played.mark.done()
    media.sends(1)
    session.look()
    assert await played.mark == ("word", 320, True)
    await session.settle(1)
    assert seen == [Mark("word", 320, True)]


async def test_a_flush_decides_its_marks_by_its_answer_however_late_the_bot_looks(
    session: Session, media: MemoryMedia
) -> None:
    marks = [(await session.play(bytes(2 * 320), mark=name)).mark for name in "abc"]
    session.flush()
    media.sends(320)  # it was on its way
    media.worker.apply_flush()
    await session.play(bytes(2 * 1280))
    media.sends(1280)  # the anchor is far behind all of them now
    session.look()
    resolved = [mark.result().played for mark in marks if mark is not None]
    assert resolved == [True, False, False]


async def test_two_flushes_between_two_looks_are_answered_apart(
    session: Session, media: MemoryMedia
) -> None:
    first = (await session.play(bytes(2 * 960), mark="first")).mark
    one = session.flush()
    media.worker.apply_flush()
    await session.play(bytes(2 * 640))
    media.sends(320)
    two = session.flush()
    media.worker.apply_flush()
    session.look()
    assert ((await one).cursor, (await two).cursor) == (0, 1280)
    assert first is not None
    assert not first.result().played


async def test_open_marks_are_cut_when_the_session_ends_and_passed_ones_played(
    session: Session, media: MemoryMedia
) -> None:
    one = (await session.play(bytes(2 * 320), mark="one")).mark
    two = (await session.play(bytes(2 * 320), mark="two")).mark
    media.sends(320)
    session.ended("end")
    assert one is not None
    assert two is not None
    assert (one.result().played, two.result().played) == (True, False)
    with pytest.raises(SessionClosed):
        session.mark("late")
    await session.settle(1)


async def test_a_mark_too_many_is_refused_for_that_call_alone(
    session: Session, media: MemoryMedia
) -> None:
    await session.play(bytes(2))
    marks = [session.mark(str(number)) for number in range(MAX_MARKS)]
    with pytest.raises(LimitError) as caught:
        session.mark("one more")
    assert caught.value.code == "too_many_marks"
    with pytest.raises(LimitError):
        await session.play(bytes(2), mark="one more")
    await session.play(bytes(2))
    media.sends(2)
    session.look()
    assert all(mark.result().played for mark in marks)
    session.mark("again")


async def test_what_is_not_interruptible_is_written_again_with_its_marks(
    session: Session, media: MemoryMedia
) -> None:
    await session.play(np.full(320, 1, np.int16))
    last = np.arange(1000, 1640, dtype=np.int16)
    played = await session.play(last, mark="legal", interruptible=False)
    await session.play(np.full(320, 2, np.int16))
    flush = session.flush()
    new = asyncio.create_task(session.play(np.full(320, 3, np.int16)))
    await until(lambda: not new.done())
    media.sends(480)  # all of the first, and a quarter of the second
    media.worker.apply_flush()
    session.look()
    assert (await flush).cursor == 480
    await new
    assert written(media).tolist() == [*range(1160, 1640), *[3] * 320]
    assert played.mark is not None
    assert not played.mark.done()
    media.sends(480)
    session.look()
    assert played.mark.result() == ("legal", 1280 + 480, True)


@pytest.mark.parametrize("hz", [8_000, 22_050, 32_000, 44_100, 48_000])
async def test_other_rates_are_heard_at_their_pitch(
    session: Session, media: MemoryMedia, hz: int
) -> None:
    await session.play(tone(440, hz // 20, hz=hz), hz=hz)
    session.end_of_speech()
    heard = written(media)
    assert len(heard) == 16_000 // 20
    assert abs(pitch_hz(heard, hz=16_000) - 440) < 20
    assert abs(level_db(heard) + 12) < 1
    assert media.worker.speaker_end == 16_000 // 20


async def test_a_frame_of_another_rate_is_resampled_and_silence_stays_silence(
    session: Session, media: MemoryMedia
) -> None:
    for _ in range(4):
        await session.play(AudioFrame(bytes(2 * 441), 22_050, 1, 0))
    session.end_of_speech()
    assert len(written(media)) == 80 * MS
    assert not written(media).any()


async def test_the_tail_comes_out_before_samples_of_another_rate(
    session: Session, media: MemoryMedia
) -> None:
    await session.play(tone(440, 882, hz=44_100), hz=44_100)
    await session.play(np.full(160, 7, np.int16))
    assert written(media)[-160:].tolist() == [7] * 160
    assert len(written(media)) == 20 * MS + 160


async def test_a_flush_clears_what_the_resampler_holds_and_cuts_its_marks(
    session: Session, media: MemoryMedia
) -> None:
    played = await session.play(tone(440, 882, hz=44_100), hz=44_100, mark="end")
    flush = session.flush()
    media.worker.apply_flush()
    session.look()
    await flush
    session.end_of_speech()
    assert media.ring.speaker_written == media.ring.speaker_sent
    assert played.mark is not None
    assert not played.mark.result().played


async def test_a_mark_in_the_tail_needs_no_end_of_speech(
    session: Session, media: MemoryMedia
) -> None:
    played = await session.play(tone(440, 2205, hz=44_100), hz=44_100, mark="end")
    assert played.mark is not None
    media.sends(media.ring.speaker_written)
    session.look()
    assert not played.mark.done()
    media.sends(media.ring.speaker_written - media.ring.speaker_sent)
    session.look()
    assert played.mark.result() == ("end", 50 * MS, True)


@pytest.mark.parametrize(("hz", "why"), [(11_025, "220.5"), (7_999, "8000"), (400_000, "192000")])
async def test_a_rate_that_cannot_be_played_is_refused_with_the_reason(
    session: Session, hz: int, why: str
) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        await session.play(bytes(20), hz=hz)
    assert caught.value.code == "rate"


@pytest.mark.parametrize("fade_ms", [-1, 21])
async def test_a_fade_of_another_length_is_refused(session: Session, fade_ms: int) -> None:
    with pytest.raises(ConfigError) as caught:
        session.flush(fade_ms)
    assert caught.value.code == "fade"


async def test_a_fade_is_asked_for_in_samples(session: Session, media: MemoryMedia) -> None:
    await session.play(bytes(2 * 320))
    session.flush(10)
    assert media.worker.flush_fade() == 160
    session.ended("end")


@pytest.mark.parametrize(
    ("rtt_ms", "jitter_ms", "behind_ms"),
    [(0, 0, 40), (30, 0, 55), (30, 5, 75), (0, 1000, 200)],
)
async def test_what_was_heard_lies_behind_by_the_way_and_the_peers_buffer(
    clock: ManualClock, rtt_ms: int, jitter_ms: int, behind_ms: int
) -> None:
    spec = RingSpec(key=bytes(16), epoch=1, mic_hz=16_000, speaker_hz=16_000)
    memory = memoryview(bytearray(size_bytes(spec)))
    worker = WorkerRing.format(memory, spec, 1)
    media = MemoryMedia()
    media.worker, media.ring = worker, BotRing(memory)
    media.write, media.flush = media.ring.write_speaker, media.ring.flush
    session = Session("s_1", FakeLine(), None, clock=clock)
    session.attach(media)
    await session.play(bytes(2 * 600 * MS))
    while worker.taken < 500 * MS:
        worker.take(20 * MS)
    worker.commit(worker.taken, clock.now_ns(), 0, rtt_ms * 1000, jitter_ms * 1000)
    clock.advance_ms(20)
    flush = session.flush()
    worker.apply_flush()
    session.look()
    assert await flush == (500 * MS, (500 - behind_ms) * MS, True)
    clock.advance_ms(1000)
    assert (await session.flush()).heard == 500 * MS, "by now all of it"
    session.detach()


async def test_a_flush_that_is_answered_just_before_the_next_one_keeps_its_own_answer(
    session: Session, media: MemoryMedia
) -> None:
    mark = (await session.play(bytes(2 * 640), mark="cut")).mark
    one = session.flush()
    await session.play(bytes(2 * 640))
    flush = media.flush

    def late(fade: int) -> int:
        # Between the bot's look and its store the worker has answered, and gone on.
        media.worker.apply_flush()
        media.sends(640)
        return flush(fade)

    media.flush = late  # type: ignore[assignment]  # a stand-in
    two = session.flush()
    media.worker.apply_flush()
    session.look()
    assert ((await one).cursor, (await two).cursor) == (0, 1280)
    assert mark is not None
    assert not mark.result().played
