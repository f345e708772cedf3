"""A session whose rings give way to those of another worker: everything goes on in them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from engine.sdk.session import Session
from ipc.audio_ring import NEVER, BotRing, RingSpec, WorkerRing, size_bytes
from ipc.codec import Codec
from ipc.errors import BotRejected
from ipc.messages import Configure, Message, Ok, OpenMedia
from ipc.sound_file import SoundFile
from tests.support import pattern, turn, until
from tests.unit.engine.sdk.test_session import FakeLine, MemoryMedia

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.sdk import AudioFrame
    from ipc.clock import ManualClock

CAPACITY = 1600


class NextMedia(MemoryMedia):
    """The rings of the next worker, which begin where those of the last one ended."""

    def __init__(self, old: BotRing, **changes: int) -> None:
        spec = RingSpec(
            key=bytes(16),
            epoch=2,
            mic_hz=16_000,
            speaker_hz=16_000,
            mic_base=old.mic_written,
            speaker_base=old.speaker_sent,
            **{"speaker_ms": 100, **changes},
        )
        memory = memoryview(bytearray(size_bytes(spec)))
        self.worker = WorkerRing.format(memory, spec, 2)
        self.ring = BotRing(memory)
        self.write, self.flush, self.end = (
            self.ring.write_speaker,
            self.ring.flush,
            self.ring.end,
        )

    def takes(self) -> bytes:
        """Everything that waits, as the worker sends it."""
        found = b""
        while count := min(320, self.worker.speaker_waiting()):
            found += bytes(self.worker.take(count))
            self.worker.commit(self.worker.taken, 1, 0, 0, 0)
        return found


@pytest.fixture
def media() -> MemoryMedia:
    return MemoryMedia()


@pytest.fixture
def session(media: MemoryMedia, clock: ManualClock) -> Iterator[Session]:
    session = Session("s_1", FakeLine(), None, clock=clock)
    session.attach(media)
    yield session
    session.detach()


def move(session: Session, media: MemoryMedia) -> NextMedia:
    new = NextMedia(media.ring)
    session.attach(new)
    return new


async def test_what_was_not_heard_yet_is_heard_in_order_and_once(
    session: Session, media: MemoryMedia
) -> None:
    media.worker.write_mic(memoryview(pattern(0, 1000)))
    heard: list[AudioFrame] = []

    async def listen() -> None:
        async for frame in session.audio():
            heard.append(frame)  # noqa: PERF401 - they are looked at meanwhile

    listening = asyncio.create_task(listen())
    await until(lambda: len(heard) == 3)
    media.worker.write_mic(memoryview(pattern(1000, 500)))  # the bot has no turn any more
    new = move(session, media)
    new.worker.write_mic(memoryview(pattern(1500, 1060)))
    session.look()
    await until(lambda: len(heard) == 8)
    session.ended("over")
    await listening
    assert [frame.cursor for frame in heard] == [320 * n for n in range(8)]
    assert b"".join(bytes(frame.pcm) for frame in heard) == pattern(0, 2560)
    assert {frame.lost for frame in heard} == {0}


async def test_a_bot_that_listens_to_nothing_is_rung_for_nothing(
    session: Session, media: MemoryMedia
) -> None:
    new = move(session, media)
    assert new.worker.mic_want == NEVER


async def test_unsent_speech_and_its_marks_go_on(session: Session, media: MemoryMedia) -> None:
    await session.play(pattern(0, 320), mark="sent")
    half = (await session.play(pattern(320, 320), mark="half")).mark
    last = (await session.play(pattern(640, 640), mark="last")).mark
    session.end_of_speech()
    media.sends(480)
    new = move(session, media)
    assert (session.position, session.queued) == (480, 800)
    assert new.worker.speaker_end == 1280
    assert half is not None
    assert last is not None
    assert not half.done()
    assert new.worker.speaker_mark == 640
    assert new.takes() == pattern(480, 800)
    session.look()
    assert (half.result().played, half.result().cursor) == (True, 640)
    assert (last.result().played, last.result().cursor) == (True, 1280)
    assert session.position == 1280


async def test_a_flush_without_an_answer_is_answered_by_the_next_worker(
    session: Session, media: MemoryMedia
) -> None:
    gone = (await session.play(pattern(0, 960), mark="gone")).mark
    media.sends(320)
    flushed = session.flush()
    new_speech = await session.play(pattern(960, 320), mark="new")
    new = move(session, media)
    new.worker.apply_flush()
    session.look()
    assert flushed.result()[::2] == (320, True)
    assert gone is not None
    assert not gone.result().played
    assert new_speech.mark is not None
    assert not new_speech.mark.done()
    assert new.takes() == pattern(960, 320)
    session.look()
    assert new_speech.mark.result().played


async def test_a_flush_of_nothing_is_answered_by_the_move(
    session: Session, media: MemoryMedia
) -> None:
    await session.play(pattern(0, 320))
    media.sends(320)
    flushed = session.flush()
    move(session, media)
    assert flushed.result().cursor == 320


async def test_what_a_flush_may_not_take_survives_it_and_the_move(
    session: Session, media: MemoryMedia
) -> None:
    kept = (await session.play(pattern(0, 640), mark="kept", interruptible=False)).mark
    await session.play(pattern(640, 320))
    media.sends(320)
    session.flush()
    new = move(session, media)
    new.worker.apply_flush()
    session.look()
    assert new.takes() == pattern(320, 320)
    session.look()
    assert kept is not None
    assert kept.result().played


async def test_a_play_that_waits_for_room_goes_on_there(
    session: Session, media: MemoryMedia
) -> None:
    playing = asyncio.create_task(session.play(pattern(0, 3 * CAPACITY), mark="end"))
    await until(lambda: media.ring.speaker_written == CAPACITY)
    media.sends(320)
    new = move(session, media)
    sent = b""
    for _ in range(200):
        sent += new.takes()
        session.look()
        await turn()
        if playing.done():
            break
    played = playing.result()
    sent += new.takes()
    session.look()
    assert (played.start, played.end, played.cut) == (0, 3 * CAPACITY, 0)
    assert sent == pattern(320, 3 * CAPACITY - 320)
    assert played.mark is not None
    assert played.mark.result().played


async def test_rings_that_are_too_small_are_refused(session: Session, media: MemoryMedia) -> None:
    await session.play(pattern(0, CAPACITY))
    with pytest.raises(BotRejected):
        session.attach(NextMedia(media.ring, speaker_ms=40))


async def test_new_rings_are_asked_for_where_the_last_ended_with_the_codec_of_now(
    media: MemoryMedia, clock: ManualClock
) -> None:
    line = FakeLine()
    shape = OpenMedia(session="s_1", mic_hz=16_000, speaker_hz=16_000)
    session = Session("s_1", line, None, clock=clock, shape=shape)
    session.media_moved()  # it has none that could move
    assert line.asked == []
    session.attach(media)
    media.hear(500)
    await session.play(bytes(2 * 960))
    media.sends(320)
    sound = SoundFile(path="/a.wav")
    await session.configure(bitrate_bps=24_000, mixer=sound)
    session.media_moved()
    await until(lambda: len(line.asked) == 3)
    assert line.asked[2] == Configure(session="s_1", mixer=sound)
    assert line.asked[1] == OpenMedia(
        session="s_1",
        mic_hz=16_000,
        speaker_hz=16_000,
        codec=Codec(bitrate_bps=24_000),
        mic_base=500,
        speaker_base=320,
    )
    session.ended("over")
    await session.settle(1)
    session.detach()


async def test_rings_are_awaited_only_while_they_are_asked_for() -> None:
    seen = []

    class Engine(FakeLine):
        async def request(self, message: Message, *, timeout_s: float) -> Message:
            seen.append(placed.awaits_media)
            return Ok()

    placed = Session("s_1", Engine(), None)
    await placed.open_media()
    assert (seen, placed.awaits_media) == ([True], False)
