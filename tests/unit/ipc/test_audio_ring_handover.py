"""The next bot's rings take over from the last one's; mirrors begin where the original is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc import ring_layout
from ipc.audio_ring import NEVER, BotRing, MicRead, RingSpec, WorkerRing, size_bytes
from tests.support import pattern, pcm
from tests.unit.ipc.conftest import TINY, Ends, make_ends

if TYPE_CHECKING:
    from collections.abc import Iterator


def poke(ends: Ends, word: int, value: int) -> None:
    with ends.buffer[:0x400].cast("Q") as words:
        words[word] = value


def hand_over(old: Ends, **changed: Any) -> Ends:
    """What a worker does when the next bot is offered the session."""
    spec = replace(old.spec, mic_base=old.worker.mic_read, speaker_base=old.worker.taken, **changed)
    buffer = memoryview(bytearray(size_bytes(spec)))
    worker = WorkerRing.format(buffer, spec, 12)
    worker.preload(old.worker)
    return Ends(spec, buffer, worker, BotRing(buffer))


def read_all(bot: BotRing) -> Iterator[MicRead]:
    while (count := min(bot.mic_waiting(), bot.mic.slack)) > 0:
        read = bot.read_mic(count)
        assert read is not None
        yield read


def test_speech_that_a_dead_bot_queued_plays_out_in_the_next_ones_rings(ends: Ends) -> None:
    channels = ends.spec.speaker_channels
    ends.bot.write_speaker(pcm(0, 300, channels))
    ends.worker.take(40)
    ends.worker.commit(40, 0, 0, 0, 0)

    new = hand_over(ends)
    new.worker.continue_from(ends.worker)

    assert new.bot.speaker_written == 300
    assert new.worker.take(160) == pattern(40, 160, channels)
    assert new.worker.take(100) == pattern(200, 100, channels)


def test_what_left_while_the_next_bot_was_asked_is_not_sent_twice(ends: Ends) -> None:
    channels = ends.spec.speaker_channels
    ends.bot.write_speaker(pcm(0, 300, channels))
    new = hand_over(ends)
    ends.worker.take(160)
    ends.worker.commit(160, 0, 0, 0, 0)

    new.worker.continue_from(ends.worker)

    assert new.bot.speaker_sent == new.worker.taken == 160
    assert new.worker.take(140) == pattern(160, 140, channels)


def test_the_next_bot_hears_what_the_last_one_did_not_read(ends: Ends) -> None:
    channels = ends.spec.mic_channels
    ends.worker.write_mic(pcm(0, 200, channels))
    ends.bot.read_mic(50)
    new = hand_over(ends)
    ends.worker.write_mic(pcm(200, 60, channels))

    new.worker.continue_from(ends.worker)
    new.worker.write_mic(pcm(260, 10, channels))

    reads = list(read_all(new.bot))
    assert reads[0].cursor == 50
    assert b"".join(read.pcm for read in reads) == pattern(50, 220, channels)
    assert not any(read.lost for read in reads)


def test_what_the_ring_lost_between_two_bots_is_told_to_the_next_one(ends: Ends) -> None:
    channels = ends.spec.mic_channels
    ends.worker.write_mic(pcm(0, 100, channels))
    new = hand_over(ends)
    ends.worker.write_mic(pcm(100, 500, channels))

    new.worker.continue_from(ends.worker)

    reads = list(read_all(new.bot))
    assert [read.lost for read in reads] == [280, 0]
    assert b"".join(read.pcm for read in reads) == pattern(280, 320, channels)


def test_rings_go_on_only_at_the_same_rates_and_channels(ends: Ends) -> None:
    same = replace(ends.spec, epoch=9, mic_ms=100, speaker_ms=100)
    others: list[RingSpec] = [
        replace(ends.spec, mic_hz=16_000),
        replace(ends.spec, speaker_hz=16_000),
        replace(ends.spec, mic_channels=3 - ends.spec.mic_channels),
        replace(ends.spec, speaker_channels=3 - ends.spec.speaker_channels),
    ]

    assert ends.worker.fits(same)
    assert not any(ends.worker.fits(other) for other in others)


def test_a_mirror_of_rings_with_queued_speech_writes_behind_it(ends: Ends) -> None:
    ends.worker.mirror_written(120)

    assert ends.bot.speaker_written == 120
    assert ends.bot.room() == ends.bot.speaker.capacity - 120


@pytest.mark.parametrize("value", [1000, 2**63, NEVER])
def test_a_read_cursor_beyond_the_mic_does_not_follow_into_the_next_rings(
    ends: Ends, value: int
) -> None:
    channels = ends.spec.mic_channels
    ends.worker.write_mic(pcm(0, 200, channels))
    poke(ends, ring_layout.MIC_READ, value)

    new = hand_over(ends)
    poke(ends, ring_layout.MIC_READ, value)
    new.worker.continue_from(ends.worker)
    new.worker.write_mic(pcm(200, 160, channels))

    assert new.worker.mic_written == 360
    assert new.bot.read_mic(160) == MicRead(200, pattern(200, 160, channels), 0)


@settings(max_examples=200)
@given(
    values=st.lists(
        st.tuples(
            st.sampled_from(range(0x080 // 8, 0x100 // 8)),
            st.one_of(st.integers(0, 700), st.integers(0, NEVER), st.just(NEVER)),
        ),
        max_size=8,
    ),
    later=st.lists(
        st.tuples(
            st.sampled_from(range(0x080 // 8, 0x100 // 8)),
            st.one_of(st.integers(0, 700), st.integers(0, NEVER), st.just(NEVER)),
        ),
        max_size=4,
    ),
)
def test_a_worker_hands_over_whatever_the_last_bot_stored(
    values: list[tuple[int, int]], later: list[tuple[int, int]]
) -> None:
    old = make_ends(TINY)
    old.bot.write_speaker(pcm(0, 200))
    old.worker.write_mic(pcm(0, 400))
    for word, value in values:
        poke(old, word, value)

    new = hand_over(old)
    for word, value in later:
        poke(old, word, value)
    new.worker.continue_from(old.worker)
    new.worker.write_mic(pcm(new.worker.mic_written, 160))

    assert new.worker.mic_written == 560
    assert 0 <= new.worker.speaker_waiting() <= new.worker.speaker.capacity


@pytest.mark.parametrize("value", [2**40, 2**63])
def test_a_bot_that_spoiled_the_workers_words_leaves_no_more_than_a_ring(
    ends: Ends, value: int
) -> None:
    ends.worker.write_mic(pcm(0, 200, ends.spec.mic_channels))
    new = hand_over(ends)
    poke(ends, ring_layout.MIC_WRITE, value)

    new.worker.continue_from(ends.worker)

    assert new.bot.mic_waiting() == new.bot.mic.capacity


def test_what_was_taken_and_has_not_left_may_be_taken_again(ends: Ends) -> None:
    channels = ends.spec.speaker_channels
    ends.bot.write_speaker(pcm(0, 30, channels))
    ends.worker.take(10)
    ends.worker.commit(10, 1, 2, 3, 4)
    ends.worker.take(5)
    ends.worker.rewind()
    assert ends.worker.taken == 10
    assert bytes(ends.worker.take(5)) == pcm(10, 5, channels)
