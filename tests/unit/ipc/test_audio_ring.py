from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ipc.audio_ring import (
    NEVER,
    RATES_HZ,
    AudioRing,
    BotRing,
    MicRead,
    RingSpec,
    WorkerRing,
    size_bytes,
)
from ipc.errors import ConfigError, LayoutMismatch, StaleEpoch
from ipc.ring_layout import DATA_OFFSET
from tests.support import pattern, pcm
from tests.unit.ipc.conftest import KEY, TINY, make_ends

if TYPE_CHECKING:
    from tests.unit.ipc.conftest import Ends

BASE = 2**40 + 12_345


def speak(ends: Ends, count: int) -> int:
    cursor = ends.bot.speaker_written
    return ends.bot.write_speaker(pcm(cursor, count, ends.spec.speaker_channels))


def hear(ends: Ends, count: int) -> None:
    ends.worker.write_mic(pcm(ends.worker.mic_written, count, ends.spec.mic_channels))


def send(ends: Ends, count: int) -> bytes:
    taken = bytes(ends.worker.take(count))
    ends.worker.commit(ends.worker.taken, 0, 0, 0, 0)
    return taken


@pytest.mark.parametrize(
    "wrong",
    [
        {"mic_hz": 44_100},
        {"speaker_hz": 0},
        {"mic_channels": 0},
        {"speaker_channels": 3},
        {"mic_ms": 39},
        {"speaker_ms": 60_001},
        {"key": b"short"},
    ],
)
def test_rings_that_the_layout_cannot_carry_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(TINY, **wrong)


@pytest.mark.parametrize("hz", RATES_HZ)
@pytest.mark.parametrize("channels", [1, 2])
def test_both_sides_read_the_same_layout(hz: int, channels: int) -> None:
    spec = RingSpec(
        key=KEY, epoch=7, mic_hz=hz, speaker_hz=hz, mic_channels=channels, speaker_channels=channels
    )
    ends = make_ends(spec)

    bot = ends.bot
    assert (bot.epoch, bot.key, bot.creator_pid) == (7, KEY, 11)
    assert (bot.mic.hz, bot.mic.channels, bot.mic.capacity) == (hz, channels, 5 * hz)
    assert (bot.speaker.hz, bot.speaker.channels, bot.speaker.capacity) == (hz, channels, hz)
    assert bot.mic.slack == bot.speaker.slack == hz // 50


def test_the_two_directions_do_not_overlap(ends: Ends) -> None:
    channels = ends.spec.mic_channels
    capacity = ends.bot.speaker.capacity
    speak(ends, capacity)
    ends.worker.write_mic(memoryview(b"\xff" * (3 * ends.bot.mic.capacity * 2 * channels)))

    taken = send(ends, 160) + send(ends, 160)

    assert taken == pattern(0, capacity, channels)


def test_a_buffer_that_is_too_small_is_not_formatted() -> None:
    with pytest.raises(LayoutMismatch):
        WorkerRing.format(memoryview(bytearray(size_bytes(TINY) - 1)), TINY, 1)


def test_rings_of_another_session_or_epoch_are_refused(ends: Ends) -> None:
    ends.bot.check(KEY, 3)

    with pytest.raises(LayoutMismatch):
        ends.bot.check(bytes(16), 3)
    with pytest.raises(StaleEpoch):
        ends.bot.check(KEY, 4)


@pytest.mark.parametrize("size", [0, 1, DATA_OFFSET - 1, DATA_OFFSET, size_bytes(TINY) - 1])
def test_a_truncated_segment_is_refused(size: int) -> None:
    whole = make_ends(TINY).buffer

    with pytest.raises(LayoutMismatch):
        BotRing(memoryview(bytearray(whole[:size])))


@pytest.mark.parametrize("content", [b"\0", b"\xff", b"bb"])
def test_a_foreign_segment_is_refused(content: bytes) -> None:
    foreign = memoryview(bytearray(content * size_bytes(TINY)))

    with pytest.raises(LayoutMismatch):
        AudioRing(foreign)


def test_rings_begin_empty_at_their_base_cursors(fence: str) -> None:
    ends = make_ends(replace(TINY, mic_base=BASE, speaker_base=BASE + 1))

    assert ends.bot.mic_base == ends.bot.mic_written == ends.bot.mic_read == BASE
    assert ends.bot.speaker_base == ends.bot.speaker_written == ends.bot.speaker_sent == BASE + 1
    assert ends.bot.playback().cursor == BASE + 1
    assert ends.bot.capture().cursor == BASE
    assert ends.bot.flushed() == (BASE + 1, BASE + 1)
    assert ends.bot.room() == ends.bot.speaker.capacity
    assert ends.bot.mic_waiting() == ends.worker.speaker_waiting() == 0
    assert not ends.worker.apply_flush()


def test_audio_goes_on_at_the_base_cursors_of_a_new_epoch(fence: str) -> None:
    ends = make_ends(replace(TINY, mic_base=BASE, speaker_base=BASE + 1))

    hear(ends, 100)
    speak(ends, 100)

    assert ends.bot.read_mic(100) == MicRead(BASE, pattern(BASE, 100), 0)
    assert send(ends, 100) == pattern(BASE + 1, 100)
    assert ends.bot.speaker_sent == BASE + 101


def test_the_speaker_ring_takes_what_fits_and_overwrites_nothing(ends: Ends) -> None:
    channels = ends.spec.speaker_channels

    accepted = [speak(ends, 250), speak(ends, 250), speak(ends, 1)]

    assert accepted == [250, 70, 0]
    assert ends.bot.room() == 0
    assert send(ends, 160) == pattern(0, 160, channels)
    assert send(ends, 160) == pattern(160, 160, channels)


def test_what_was_taken_stays_untouched_until_it_is_committed(ends: Ends) -> None:
    speak(ends, 320)
    view = ends.worker.take(160)

    assert speak(ends, 160) == 0
    ends.worker.commit(100, 0, 0, 0, 0)
    assert speak(ends, 160) == 100

    rest = view[100 * ends.bot.speaker.stride :]
    assert rest == pattern(100, 60, ends.spec.speaker_channels)


def test_any_20_ms_are_one_contiguous_view_wherever_the_ring_wraps(ends: Ends) -> None:
    channels = ends.spec.speaker_channels
    for turn in range(3 * 320 // 7):
        cursor = turn * 7
        speak(ends, 320)
        view = ends.worker.speaker.view(cursor, 160)

        assert view == pattern(cursor, 160, channels)
        send(ends, 7)


def test_a_slow_reader_loses_exactly_the_oldest_and_is_told_how_many(ends: Ends) -> None:
    hear(ends, 320)
    assert ends.bot.read_mic(20) == MicRead(0, pattern(0, 20, ends.spec.mic_channels), 0)

    hear(ends, 50)
    read = ends.bot.read_mic(160)

    assert read == MicRead(50, pattern(50, 160, ends.spec.mic_channels), 30)
    assert ends.bot.mic_dropped == 30
    again = ends.bot.read_mic(160)
    assert again is not None
    assert again.lost == 0


def test_a_write_larger_than_the_ring_keeps_its_newest_samples(ends: Ends) -> None:
    hear(ends, 10)
    hear(ends, 1000)

    read = ends.bot.read_mic(160)

    assert read == MicRead(690, pattern(690, 160, ends.spec.mic_channels), 690)
    assert ends.bot.mic_written == 1010
    assert ends.bot.mic_dropped == 690


def test_half_a_sample_at_the_end_of_a_write_touches_nothing(ends: Ends) -> None:
    channels = ends.spec.mic_channels
    hear(ends, 320)
    torn = pattern(320, 10, channels) + b"\xee"

    ends.worker.write_mic(memoryview(torn))

    assert ends.bot.mic_written == 330
    assert ends.bot.read_mic(160) == MicRead(10, pattern(10, 160, channels), 10)
    assert ends.bot.write_speaker(memoryview(b"\xee")) == 0


def test_nothing_is_read_before_enough_has_arrived(ends: Ends) -> None:
    hear(ends, 159)
    assert ends.bot.read_mic(160) is None
    assert ends.bot.mic_view(160) is None

    hear(ends, 1)
    read = ends.bot.read_mic(160)

    assert read is not None
    assert (read.cursor, ends.bot.mic_waiting(), ends.bot.mic_lag()) == (0, 0, 0)


def test_a_reader_may_skip_ahead_and_never_back(ends: Ends) -> None:
    hear(ends, 300)

    ends.bot.skip_mic(200)
    ends.bot.skip_mic(100)

    assert ends.bot.mic_read == 200
    assert ends.bot.read_mic(100) == MicRead(200, pattern(200, 100, ends.spec.mic_channels), 0)


def test_samples_that_the_worker_leaves_out_are_reported_as_lost(ends: Ends) -> None:
    hear(ends, 10)
    ends.worker.skip_mic(500)
    hear(ends, 160)

    read = ends.bot.read_mic(160)

    assert read == MicRead(500, pattern(500, 160, ends.spec.mic_channels), 500)


def test_a_view_of_the_mic_is_read_like_a_copy(ends: Ends) -> None:
    channels = ends.spec.mic_channels
    hear(ends, 350)

    assert ends.bot.mic_view(160) == MicRead(30, pattern(30, 160, channels), 30)
    assert ends.bot.mic_view(160) == MicRead(190, pattern(190, 160, channels), 0)
    assert ends.bot.mic_view(1) is None
    assert ends.bot.mic_read == 350


def test_a_flush_drops_what_was_written_and_says_what_had_left(ends: Ends) -> None:
    speak(ends, 300)
    send(ends, 100)

    flush_to = ends.bot.flush()
    assert flush_to == 300
    assert ends.worker.apply_flush()

    assert ends.bot.flushed() == (300, 100)
    assert ends.worker.speaker_waiting() == 0
    assert ends.bot.room() == 320


def test_what_is_written_after_a_flush_is_sent(ends: Ends) -> None:
    speak(ends, 200)
    ends.bot.flush()
    speak(ends, 60)

    ends.worker.apply_flush()

    assert ends.worker.speaker_waiting() == 60
    assert send(ends, 60) == pattern(200, 60, ends.spec.speaker_channels)
    assert ends.bot.playback().cursor == 260


def test_a_flush_is_applied_once(ends: Ends) -> None:
    speak(ends, 10)
    ends.bot.flush()

    assert [ends.worker.apply_flush() for _ in range(3)] == [True, False, False]
    assert ends.bot.flush() == 10
    assert not ends.worker.apply_flush(), "nothing new was written"


def test_room_stays_open_when_a_packet_taken_before_a_flush_leaves_after_it(ends: Ends) -> None:
    speak(ends, 320)
    ends.worker.take(160)
    ends.bot.flush()
    ends.worker.apply_flush()

    ends.worker.commit(160, 5, 6, 0, 0)

    assert ends.bot.room() == 320
    assert ends.bot.playback().cursor == 160


def test_wishes_of_the_bot_reach_the_worker_and_can_be_taken_back(ends: Ends) -> None:
    worker, bot = ends.worker, ends.bot
    assert worker.speaker_want == worker.speaker_mark == worker.speaker_end == NEVER

    speak(ends, 20)
    bot.want(15)
    bot.mark(18)
    bot.end()
    assert (worker.speaker_want, worker.speaker_mark, worker.speaker_end) == (15, 18, 20)

    bot.want(NEVER)
    bot.mark(NEVER)
    assert worker.speaker_want == worker.speaker_mark == NEVER


def test_beats_counters_and_process_ids_cross_over(ends: Ends) -> None:
    ends.worker.beat(5)
    ends.bot.beat(6)
    ends.bot.hello(4242)
    ends.worker.count_underrun(30)
    ends.worker.count_underrun(12)

    assert (ends.bot.worker_beat_ns, ends.worker.bot_beat_ns, ends.bot.underrun) == (5, 6, 42)
    assert int.from_bytes(ends.buffer[0xB8:0xC0], "little") == 4242


def test_a_new_worker_end_takes_up_where_the_last_one_committed(ends: Ends) -> None:
    speak(ends, 300)
    send(ends, 100)
    ends.worker.take(50)

    again = WorkerRing(ends.buffer)

    assert again.taken == 100
    assert again.take(50) == pattern(100, 50, ends.spec.speaker_channels)
    again.release()


def test_a_mirror_follows_its_original(ends: Ends) -> None:
    speak(ends, 320)

    ends.worker.open_room(50)
    ends.worker.open_room(20)
    assert ends.bot.room() == 50

    ends.worker.acknowledge(320, 120)
    assert ends.bot.flushed() == (320, 120)
    assert ends.bot.room() == 320


def test_released_rings_let_go_of_their_buffer() -> None:
    memory = bytearray(size_bytes(TINY))
    buffer = memoryview(memory)
    worker = WorkerRing.format(buffer, TINY, 1)
    bot = BotRing(buffer)

    worker.release()
    bot.release()
    buffer.release()

    memory.clear()  # BufferError while any view is held
    assert not memory


def test_each_line_of_the_control_block_has_one_writer(ends: Ends) -> None:
    def lines() -> list[bytes]:
        return [bytes(ends.buffer[at : at + 128]) for at in range(0, DATA_OFFSET, 128)]

    before = lines()
    speak(ends, 10)
    ends.bot.flush()
    ends.bot.end()
    ends.bot.want(5)
    ends.bot.mark(5)
    ends.bot.hello(1)
    ends.bot.beat(1)
    ends.bot.skip_mic(0)
    after_bot = lines()
    hear(ends, 10)
    ends.worker.beat(1)
    ends.worker.apply_flush()
    ends.worker.commit(10, 1, 1, 1, 1)
    ends.worker.set_capture(1, 1)
    ends.worker.count_underrun(1)
    after_worker = lines()

    changed_by_bot = [i for i in range(8) if before[i] != after_bot[i]]
    changed_by_worker = [i for i in range(8) if after_bot[i] != after_worker[i]]
    assert changed_by_bot == [1]
    assert changed_by_worker == [2, 3, 4]
