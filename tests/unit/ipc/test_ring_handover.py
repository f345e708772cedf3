"""What a bot takes along from rings whose worker is gone, over any state of the old ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipc.audio_ring import NEVER, BotRing, RingSpec, WorkerRing, size_bytes
from ipc.ring_handover import hear_on, unsent
from tests.support import pattern, pcm

MIC, SPEAKER = 800, 480


def ends(mic_base: int = 0, speaker_base: int = 0, mic_ms: int = 100) -> tuple[WorkerRing, BotRing]:
    spec = RingSpec(
        key=bytes(16),
        epoch=1,
        mic_hz=8000,
        speaker_hz=8000,
        mic_ms=mic_ms,
        speaker_ms=60,
        mic_base=mic_base,
        speaker_base=speaker_base,
    )
    memory = memoryview(bytearray(size_bytes(spec)))
    return WorkerRing.format(memory, spec, 1), BotRing(memory)


def heard(ring: BotRing) -> tuple[list[int], bytes, int]:
    cursors, samples, lost = [], b"", 0
    while read := ring.read_mic(1):
        cursors.append(read.cursor)
        samples += bytes(read.pcm)
        lost += read.lost
    return cursors, samples, lost


@given(
    base=st.integers(0, 1 << 40),
    said=st.integers(0, 3 * MIC),
    read=st.integers(0, MIC),
    after=st.integers(0, 300),
)
def test_unread_speech_is_read_in_the_next_rings_as_it_would_have_been(
    base: int, said: int, read: int, after: int
) -> None:
    worker, bot = ends(mic_base=base)
    worker.write_mic(pcm(base, min(said, read)))
    heard_before = sum(bot.read_mic(1) is not None for _ in range(read))
    for at in range(min(said, read), said, 160):
        worker.write_mic(pcm(base + at, min(160, said - at)))
    bot.want_mic(base + said + 5)
    next_worker, next_bot = ends(mic_base=bot.mic_written)
    hear_on(next_bot, bot)
    assert next_worker.mic_want == base + said + 5
    assert next_bot.mic_lag() == bot.mic_lag()
    expected = heard(bot)
    assert next_worker.mic_read == base + heard_before
    assert heard(next_bot) == expected
    next_worker.write_mic(pcm(base + said, after))
    cursors, samples, lost = heard(next_bot)
    assert cursors == [*range(base + said, base + said + after)]
    assert samples == pattern(base + said, after)
    assert lost == 0


def test_a_mic_that_begins_elsewhere_or_has_another_size_is_left_alone() -> None:
    worker, bot = ends()
    worker.write_mic(pcm(0, 500))
    for _, other in (ends(mic_base=499), ends(mic_base=500, mic_ms=200)):
        hear_on(other, bot)
        assert heard(other) == ([], b"", 0)


@given(
    base=st.integers(0, 1 << 40),
    written=st.integers(0, SPEAKER),
    sent=st.integers(0, SPEAKER),
    start=st.integers(-50, SPEAKER + 50),
    end=st.integers(-50, SPEAKER + 50),
)
def test_unsent_speech_is_what_lies_between_and_has_not_left(
    base: int, written: int, sent: int, start: int, end: int
) -> None:
    worker, bot = ends(speaker_base=base)
    bot.write_speaker(pcm(base, written))
    sent = min(sent, written)
    worker.open_room(base + sent)
    first, last = max(start, sent), min(end, written)
    pieces = [*unsent(bot, max(0, base + start), max(0, base + end))]
    assert b"".join(map(bytes, pieces)) == pattern(base + first, max(0, last - first))
    assert all(len(piece) <= 2 * bot.speaker.slack for piece in pieces)


def test_nothing_is_wanted_where_nothing_was() -> None:
    _, bot = ends()
    bot.want_mic(NEVER)
    next_worker, next_bot = ends()
    hear_on(next_bot, bot)
    assert next_worker.mic_want == NEVER
