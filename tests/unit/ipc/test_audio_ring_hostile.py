"""Whatever the bot stores in its line, the worker neither raises nor reads outside its ring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc import ring_layout
from ipc.audio_ring import NEVER
from tests.support import pattern, pcm
from tests.unit.ipc.conftest import TINY, make_ends

if TYPE_CHECKING:
    from ipc.audio_ring import WorkerRing
    from tests.unit.ipc.conftest import Ends

BOT_WORDS = list(range(0x080 // 8, 0x100 // 8))
HUGE = [2**63, NEVER - 1, NEVER]


def poke(ends: Ends, word: int, value: int) -> None:
    with ends.buffer[:0x400].cast("Q") as words:
        words[word] = value


def tick(worker: WorkerRing, now_ns: int) -> int:
    """What a worker does in 20 ms; returns the samples that it sent."""
    worker.beat(now_ns)
    worker.apply_flush()
    waiting = worker.speaker_waiting()
    assert 0 <= waiting <= worker.speaker.capacity
    count = min(waiting, worker.speaker.slack)
    if count:
        assert len(worker.take(count)) == count * worker.speaker.stride
        worker.commit(worker.taken, now_ns, 960, 0, 0)
    worker.write_mic(pcm(worker.mic_written, worker.mic.slack))
    worker.set_capture(now_ns, 960)
    for wish in (worker.speaker_want, worker.speaker_mark, worker.speaker_end):
        assert 0 <= wish <= NEVER
    return count


@pytest.mark.parametrize("value", [321, 2**32, *HUGE])
def test_a_write_cursor_beyond_the_ring_gives_no_audio(ends: Ends, value: int) -> None:
    poke(ends, ring_layout.SPEAKER_WRITE, value)

    assert ends.worker.speaker_waiting() == 0


def test_a_write_cursor_that_goes_back_gives_no_audio(ends: Ends) -> None:
    ends.bot.write_speaker(pcm(0, 200, ends.spec.speaker_channels))
    ends.worker.take(160)
    poke(ends, ring_layout.SPEAKER_WRITE, 10)

    assert ends.worker.speaker_waiting() == 0


@pytest.mark.parametrize("value", [101, *HUGE])
def test_a_flush_beyond_what_was_written_drops_only_what_was(ends: Ends, value: int) -> None:
    channels = ends.spec.speaker_channels
    ends.bot.write_speaker(pcm(0, 100, channels))
    poke(ends, ring_layout.SPEAKER_FLUSH_TO, value)

    assert ends.worker.apply_flush()

    assert ends.bot.flushed().flush_to == 100
    poke(ends, ring_layout.SPEAKER_FLUSH_TO, 100)
    ends.bot.write_speaker(pcm(100, 50, channels))
    assert not ends.worker.apply_flush()
    assert ends.worker.take(50) == pattern(100, 50, channels)


def test_a_flush_cursor_that_goes_back_is_not_a_flush(ends: Ends) -> None:
    ends.bot.write_speaker(pcm(0, 100, ends.spec.speaker_channels))
    ends.bot.flush()
    ends.worker.apply_flush()
    poke(ends, ring_layout.SPEAKER_FLUSH_TO, 40)

    assert not ends.worker.apply_flush()
    assert ends.bot.flushed().flush_to == 100


@pytest.mark.parametrize("value", [5, 1000, *HUGE])
def test_a_wrong_read_cursor_of_the_bot_does_not_disturb_the_mic(ends: Ends, value: int) -> None:
    channels = ends.spec.mic_channels
    poke(ends, ring_layout.MIC_READ, value)

    for _ in range(10):
        ends.worker.write_mic(pcm(ends.worker.mic_written, 77, channels))

    read = ends.bot.read_mic(160)
    assert read == (450, pattern(450, 160, channels), 450)
    assert ends.bot.mic_dropped <= 450


@settings(max_examples=150)
@given(
    pokes=st.lists(
        st.tuples(
            st.sampled_from(BOT_WORDS),
            st.one_of(st.integers(0, 1000), st.integers(0, NEVER), st.sampled_from(HUGE)),
        ),
        max_size=30,
    )
)
def test_a_worker_ticks_on_whatever_the_bot_stores(pokes: list[tuple[int, int]]) -> None:
    ends = make_ends(TINY)
    mic_written = 0
    for number, (word, value) in enumerate(pokes):
        poke(ends, word, value)

        tick(ends.worker, number)

        mic_written += 160
        assert ends.worker.mic_written == mic_written
        assert ends.worker.mic.view(mic_written - 160, 160) == pattern(mic_written - 160, 160)
        assert ends.bot.mic_dropped <= mic_written


@settings(max_examples=100)
@given(words=st.lists(st.integers(0, NEVER), min_size=8, max_size=8))
def test_acknowledgements_never_go_back(words: list[int]) -> None:
    ends = make_ends(TINY)
    acknowledged = sent = 0
    for value in words:
        poke(ends, ring_layout.SPEAKER_WRITE, value)
        poke(ends, ring_layout.SPEAKER_FLUSH_TO, NEVER)

        ends.worker.apply_flush()

        assert ends.worker.flush_ack >= acknowledged
        assert ends.worker.speaker_sent >= sent
        acknowledged, sent = ends.worker.flush_ack, ends.worker.speaker_sent
