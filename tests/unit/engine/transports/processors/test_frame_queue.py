"""The frames that wait for a processor: order, room, and what goes when there is none."""

from __future__ import annotations

import asyncio

import pytest

from engine.transports.processors.frame_queue import FrameQueue, Item
from ipc.errors import LimitError
from ipc.frames import (
    DataFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    TextFrame,
    UserStartedSpeakingFrame,
)
from tests.support import until


def item(frame: Frame, number: int = 0) -> Item:
    return (frame, None, None, number)


def text(word: str) -> Item:
    return item(TextFrame(word))


def audio(size: int) -> Item:
    return item(OutputAudioRawFrame(bytes(size), 8_000, 1))


async def take(queue: FrameQueue, count: int) -> list[Frame]:
    return [(await queue.get())[0] for _ in range(count)]


async def test_frames_come_out_in_the_order_in_which_they_went_in() -> None:
    queue, items = FrameQueue(), [text("a"), text("b"), text("c")]
    for one in items:
        await queue.put(one)

    assert await take(queue, 3) == [one[0] for one in items]


async def test_a_reader_waits_for_a_frame() -> None:
    queue, one = FrameQueue(), text("a")
    reading = asyncio.ensure_future(queue.get())

    await queue.put(one)

    assert await reading is one


async def test_a_writer_waits_for_room_and_keeps_its_turn() -> None:
    queue, items = FrameQueue(max_frames=1), [text("a"), text("b"), text("c")]
    await queue.put(items[0])
    writers = [asyncio.ensure_future(queue.put(one)) for one in items[1:]]
    await until(lambda: len(queue._waiting) == 2)

    assert await take(queue, 3) == [one[0] for one in items]
    await asyncio.gather(*writers)


async def test_a_writer_that_found_no_room_in_time_is_refused() -> None:
    queue = FrameQueue(max_frames=1)
    await queue.put(text("a"))

    with pytest.raises(LimitError, match="no room among 1 frames") as error:
        await queue.put(text("b"), wait_s=0)

    assert error.value.code == "queue_full"
    assert len(queue) == 1
    await queue.get()
    assert len(queue) == 0


async def test_a_writer_that_is_cancelled_leaves_nothing_behind() -> None:
    queue = FrameQueue(max_frames=1)
    await queue.put(text("a"))
    writer = asyncio.ensure_future(queue.put(text("b")))
    await until(lambda: queue._waiting)
    writer.cancel()
    await asyncio.wait({writer})

    await queue.get()

    assert len(queue) == 0


async def test_bytes_count_as_well_as_frames() -> None:
    queue = FrameQueue(max_bytes=100)
    await queue.put(audio(60))

    with pytest.raises(LimitError):
        await queue.put(audio(60), wait_s=0)
    await queue.put(audio(40), wait_s=0)
    await take(queue, 2)
    # One that is larger than the whole queue goes when nothing else is there.
    await queue.put(audio(200), wait_s=0)

    assert len(queue) == 1


async def test_a_frame_that_cannot_wait_takes_the_place_of_the_oldest_audio() -> None:
    queue = FrameQueue(max_frames=3)
    word, first, second = (
        UserStartedSpeakingFrame(),
        *(InputAudioRawFrame(bytes(2), 8_000, 1) for _ in range(2)),
    )
    for frame in (word, first, second):
        queue.put_now(item(frame))
    new = UserStartedSpeakingFrame()

    queue.put_now(item(new))

    assert queue.displaced == 1
    assert await take(queue, 3) == [word, second, new]


async def test_frames_that_are_lost_are_logged_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = FrameQueue(max_frames=1, owner="the slow one")
    for _ in range(10):
        queue.put_now(item(UserStartedSpeakingFrame()))

    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "the slow one is full: 1 frames lost"
    assert (queue.displaced, len(messages)) == (9, 4)


async def test_without_audio_it_takes_the_place_of_the_oldest() -> None:
    queue = FrameQueue(max_frames=2)
    frames = [UserStartedSpeakingFrame() for _ in range(3)]
    for frame in frames:
        queue.put_now(item(frame))

    assert await take(queue, 2) == frames[1:]


async def test_an_interruption_drops_what_waits_except_the_uninterruptible() -> None:
    class Kept(DataFrame):
        interruptible = False

    queue = FrameQueue(max_frames=3)
    end, kept = EndFrame(), TextFrame("kept")
    kept.interruptible = False
    for one in (text("a"), item(kept), audio(10)):
        await queue.put(one)
    dropped = asyncio.ensure_future(queue.put(text("b")))
    stays = asyncio.ensure_future(queue.put(item(end)))
    await until(lambda: len(queue._waiting) == 2)

    queue.drop_interruptible(before=1)

    await asyncio.gather(dropped, stays)
    assert await take(queue, 2) == [kept, end]
    assert len(queue) == 0


async def test_an_interruption_spares_what_came_after_it() -> None:
    queue = FrameQueue()
    old, new = TextFrame("old"), TextFrame("new")
    await queue.put(item(old, 1))
    await queue.put(item(new, 3))

    queue.drop_interruptible(before=2)

    assert queue.oldest == 3
    assert await take(queue, 1) == [new]


async def test_clearing_lets_writers_go() -> None:
    queue = FrameQueue(max_frames=1)
    await queue.put(text("a"))
    writer = asyncio.ensure_future(queue.put(text("b")))
    await until(lambda: queue._waiting)

    queue.clear()

    await writer
    assert len(queue) == 0


async def test_it_knows_which_kinds_wait() -> None:
    queue = FrameQueue()
    await queue.put(text("a"))

    assert queue.has(TextFrame)
    assert queue.has(DataFrame)
    assert not queue.has(EndFrame)
