"""A bot's session over rings in memory: events, order, and the ends of waiting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from engine.sdk.session import MAX_MESSAGES, Session
from ipc.audio_ring import NEVER, BotRing, RingSpec, WorkerRing, size_bytes
from ipc.errors import ConfigError, SessionClosed, WorkerError
from ipc.messages import GetStats, Message, Ok, SendMessage, Stats
from ipc.stats import WorkerPort
from tests.support import pcm, until

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakeLine:
    def __init__(self) -> None:
        self.notified: list[Message] = []
        self.asked: list[Message] = []

    async def request(self, message: Message, *, timeout_s: float) -> Message:
        self.asked.append(message)
        return Ok()

    def notify(self, message: Message) -> bool:
        self.notified.append(message)
        return True


class MemoryMedia:
    """Rings without a worker: the test plays it."""

    def __init__(self, speaker_ms: int = 100) -> None:
        spec = RingSpec(
            key=bytes(16), epoch=1, mic_hz=16_000, speaker_hz=16_000, speaker_ms=speaker_ms
        )
        memory = memoryview(bytearray(size_bytes(spec)))
        self.worker = WorkerRing.format(memory, spec, 1)
        self.ring = BotRing(memory)
        self.write, self.flush, self.end = (
            self.ring.write_speaker,
            self.ring.flush,
            self.ring.end,
        )

    def close(self) -> None:
        self.worker.release()
        self.ring.release()

    def hear(self, samples: int) -> None:
        self.worker.write_mic(memoryview(bytes(2 * samples)))

    def sends(self, samples: int) -> None:
        while samples:
            count = min(samples, 320, self.worker.speaker_waiting())
            self.worker.take(count)
            self.worker.commit(self.worker.taken, 1, 0, 0, 0)
            samples -= count


@pytest.fixture
def line() -> FakeLine:
    return FakeLine()


@pytest.fixture
def media() -> MemoryMedia:
    return MemoryMedia()


@pytest.fixture
def session(line: FakeLine, media: MemoryMedia) -> Iterator[Session]:
    session = Session("s_1", line, {"from": "test"})
    session.attach(media)
    yield session
    session.detach()


async def run_all(session: Session) -> None:
    await session.settle(1)


@pytest.mark.parametrize(
    "make",
    [
        lambda seen: lambda data: seen.append(data),
        lambda seen: lambda *data: seen.extend(data),
        lambda seen: seen.append,
        lambda seen: lambda data, extra=None: seen.append(data),
    ],
)
async def test_handlers_get_what_they_can_take(session: Session, make: Any) -> None:
    seen: list[object] = []
    session.on("message", make(seen))
    session.message_arrived("hi", 0)
    await run_all(session)
    assert seen == ["hi"]


async def test_handlers_may_take_nothing_be_async_or_builtin(session: Session) -> None:
    seen: list[str] = []
    kept: dict[str, int] = {}

    async def later(data: object) -> None:
        seen.append(f"async {data}")

    session.on("message", lambda: seen.append("nothing"))
    session.on("message", later)
    session.on("message", kept.update)
    session.message_arrived({"n": 1}, 0)
    await run_all(session)
    assert seen == ["nothing", "async {'n': 1}"]
    assert kept == {"n": 1}


async def test_an_event_that_does_not_exist_is_refused(session: Session) -> None:
    with pytest.raises(ConfigError, match="connected"):
        session.on("conected", lambda: None)


async def test_closed_is_told_once_and_ends_every_wait(
    session: Session, media: MemoryMedia
) -> None:
    reasons: list[str] = []
    session.on("closed", reasons.append)

    async def listen() -> list[object]:
        return [frame async for frame in session.audio()]

    async def read() -> list[object]:
        return [message async for message in session.messages()]

    tasks = [asyncio.create_task(work) for work in (listen(), read(), session.wait_closed())]
    playing = asyncio.create_task(session.play(bytes(2 * 16_000)))
    await until(lambda: media.ring.room() == 0)
    flushing = session.flush()
    waiting = asyncio.create_task(session.wait_played())
    session.ended("first")
    session.ended("second")
    async with asyncio.timeout(30):
        await asyncio.gather(*tasks, waiting)
        assert not (await flushing).exact
        await asyncio.gather(playing, return_exceptions=True)
    await run_all(session)
    assert reasons == ["first"]
    with pytest.raises(SessionClosed):
        session.send("late")


async def test_a_play_that_waits_for_room_fails_when_the_session_ends(
    session: Session, media: MemoryMedia
) -> None:
    playing = asyncio.create_task(session.play(bytes(2 * 16_000)))
    await until(lambda: media.ring.room() == 0)
    session.ended("gone")
    with pytest.raises(SessionClosed, match="gone"):
        await playing


async def test_a_message_is_delivered_where_it_happened_in_the_speech(
    session: Session, media: MemoryMedia
) -> None:
    order: list[object] = []
    session.on("message", order.append)
    media.hear(960)
    session.message_arrived("late", 640)

    async def listen() -> None:
        async for frame in session.audio():
            await run_all(session)
            order.append(frame.cursor)

    listening = asyncio.create_task(listen())
    await until(lambda: len(order) >= 3)
    session.message_arrived("after 640", 640)
    session.ended("end")
    await listening
    await run_all(session)
    assert order.index(320) < order.index("late") or order[0] == "late"
    assert order.count("late") == 1


async def test_frames_that_wait_may_come_as_one_but_for_what_happened_between_them(
    session: Session, media: MemoryMedia
) -> None:
    order: list[object] = []
    session.on("message", order.append)

    async def listen() -> None:
        async for frame in session.audio(most_ms=60):
            await run_all(session)
            order.append((frame.cursor, len(frame.pcm) // 2, frame.lost))

    media.worker.write_mic(pcm(0, 320 * 5))
    listening = asyncio.create_task(listen())
    await until(lambda: len(order) == 2)
    assert order == [(0, 960, 0), (960, 640, 0)]
    media.hear(320 * 4)
    session.message_arrived("between", 1600 + 320)
    session.look()
    await until(lambda: len(order) == 5)
    assert order[2:] == [(1600, 320, 0), "between", (1920, 960, 0)]
    media.hear(90_000)
    session.look()
    await until(lambda: media.ring.mic_waiting() < 320)
    session.ended("end")
    await listening
    heard = [entry for entry in order if isinstance(entry, tuple)]
    ends = [cursor + count for cursor, count, _ in heard]
    starts = [cursor - lost for cursor, _, lost in heard]
    assert starts[1:] == ends[:-1]


async def test_messages_beyond_the_limit_drop_the_oldest_and_are_counted(session: Session) -> None:
    for number in range(MAX_MESSAGES + 3):
        session.message_arrived(number, 0)
    assert session.dropped_messages == 3
    session.ended("end")
    assert [message async for message in session.messages()] == list(range(3, MAX_MESSAGES + 3))


async def test_a_flush_is_exact_when_the_worker_answers_in_time(
    session: Session, media: MemoryMedia
) -> None:
    await session.play(bytes(2 * 960))
    media.sends(320)
    result = session.flush()
    media.worker.apply_flush()
    session.look()
    assert await result == (320, 320, True)


async def test_a_flush_without_an_answer_is_an_estimate(
    session: Session, media: MemoryMedia
) -> None:
    await session.play(bytes(2 * 960))
    media.sends(640)
    assert await session.flush() == (640, 640, False)


async def test_a_reader_that_lags_skips_to_the_newest_when_it_asks_to(
    session: Session, media: MemoryMedia
) -> None:
    media.hear(16_000)
    async for frame in session.audio(max_lag_ms=100):
        assert (frame.cursor, frame.lost) == (16_000 - 320, 16_000 - 320)
        break


@pytest.mark.parametrize("frame_ms", [0, -1, 21])
async def test_a_frame_of_another_length_is_refused(session: Session, frame_ms: int) -> None:
    with pytest.raises(ConfigError):
        async for _ in session.audio(frame_ms=frame_ms):
            pass


async def test_what_is_sent_goes_to_the_engine_with_its_cursor(
    session: Session, line: FakeLine
) -> None:
    session.send({"a": 1})
    session.send("later", at=480)
    assert line.notified == [
        SendMessage(session="s_1", data={"a": 1}),
        SendMessage(session="s_1", data="later", at=480),
    ]


async def test_a_bell_for_the_mic_is_asked_for_only_while_somebody_waits(
    session: Session, media: MemoryMedia
) -> None:
    assert media.worker.mic_want == NEVER
    frames = session.audio()
    waiting = asyncio.ensure_future(anext(frames))
    await until(lambda: media.worker.mic_want == 320, what="the wish")
    media.hear(320)
    session.look()
    assert (await waiting).cursor == 0
    await frames.aclose()  # type: ignore[attr-defined]  # a generator behind its interface
    assert media.worker.mic_want == NEVER


async def test_who_waits_for_the_end_is_not_woken_by_every_word(
    session: Session, media: MemoryMedia
) -> None:
    heard: list[int] = []

    async def hear() -> None:
        heard.extend([frame.cursor async for frame in session.audio()])

    ending, hearing = asyncio.ensure_future(session.wait_closed()), asyncio.ensure_future(hear())
    await until(lambda: media.worker.mic_want == 320, what="the wish")
    (waiter,) = session._waiters._waiting
    media.hear(640)
    session.look()
    await until(lambda: media.worker.mic_want == 960, what="the next wish")
    assert session._waiters._waiting == [waiter]
    session.ended("over")
    await asyncio.gather(ending, hearing)
    assert heard == [0, 320]


# -- statistics -----------------------------------------------------------------------------


class CountingLine(FakeLine):
    """An engine that answers every request with what the test wants."""

    answer: Message = Stats(records=[])

    async def request(self, message: Message, *, timeout_s: float) -> Message:
        self.asked.append(message)
        return self.answer


async def test_statistics_are_asked_of_the_engine_and_come_by_their_ids() -> None:
    line = CountingLine()
    port = WorkerPort(id="w", timestamp=1.0, datagrams_received=3, datagrams_dropped={"empty": 1})
    line.answer = Stats(records=[port])
    session = Session("s_1", line, None)
    assert await session.stats() == {
        "w": {
            "type": "backbeat-worker",
            "id": "w",
            "timestamp": 1.0,
            "datagramsReceived": 3,
            "datagramsDropped": {"empty": 1},
        }
    }
    assert line.asked == [GetStats(session="s_1")]
    line.answer = Ok()
    with pytest.raises(WorkerError):
        await session.stats()
    session.ended("over")
    with pytest.raises(SessionClosed):
        await session.stats()
