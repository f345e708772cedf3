"""What one end sees when the other moves between two of its looks, at the worst moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipc import ring_layout
from ipc.audio_ring import MicRead
from ipc.ring_layout import CAPTURE, PLAYBACK
from tests.support import pattern, pcm

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipc.audio_ring import Samples
    from tests.unit.ipc.conftest import Ends


class Racing:
    """The words of a ring whose bot reads on between two looks at its read cursor."""

    def __init__(self, words: memoryview, looks: list[int]) -> None:
        self._words = words
        self._looks = looks

    def __getitem__(self, at: int) -> int:
        if at == ring_layout.MIC_READ and self._looks:
            return self._looks.pop(0)
        return int(self._words[at])

    def __setitem__(self, at: int, value: int) -> None:
        self._words[at] = value


def test_a_bot_that_reads_on_while_the_worker_counts_what_it_lost_does_no_harm(
    ends: Ends,
) -> None:
    ends.worker.write_mic(pcm(0, 320, ends.spec.mic_channels))
    words = ends.worker._words
    ends.worker._words = Racing(words, [40, 320])  # type: ignore[assignment]  # a stand-in

    ends.worker.write_mic(pcm(320, 50, ends.spec.mic_channels))

    ends.worker._words = words
    assert ends.bot.mic_written == 370
    assert ends.bot.mic_dropped == 10


class ReadingAtTheTail:
    """The words of a ring whose bot reads just after the worker has moved the tail."""

    def __init__(self, words: memoryview, read: Callable[[], None]) -> None:
        self._words = words
        self._read = read

    def __getitem__(self, at: int) -> int:
        return int(self._words[at])

    def __setitem__(self, at: int, value: int) -> None:
        self._words[at] = value
        if at == ring_layout.MIC_TAIL:
            self._read()


def test_what_a_reader_loses_at_that_moment_is_counted_as_dropped(ends: Ends) -> None:
    ends.worker.write_mic(pcm(0, 320, ends.spec.mic_channels))
    reads: list[MicRead | None] = []
    words = ends.worker._words
    ends.worker._words = ReadingAtTheTail(  # type: ignore[assignment]  # a stand-in
        words, lambda: reads.append(ends.bot.read_mic(100))
    )

    ends.worker.write_mic(pcm(320, 50, ends.spec.mic_channels))

    ends.worker._words = words
    assert reads == [MicRead(50, pattern(50, 100, ends.spec.mic_channels), 50)]
    assert ends.bot.mic_dropped >= 50


class Overtaken:
    """Samples whose bytes the worker overwrites while the bot copies them."""

    def __init__(self, samples: Samples, overwrite: list[Callable[[], None]]) -> None:
        self._samples = samples
        self._overwrite = overwrite

    def view(self, cursor: int, count: int) -> memoryview:
        if self._overwrite:
            self._overwrite.pop(0)()
        return self._samples.view(cursor, count)


def test_a_read_that_the_worker_overtakes_is_taken_again_further_on(ends: Ends) -> None:
    channels = ends.spec.mic_channels

    def write_on() -> None:
        ends.worker.write_mic(pcm(ends.worker.mic_written, 100, channels))

    for _ in range(3):
        write_on()
    mic = ends.bot.mic
    ends.bot.mic = Overtaken(mic, [write_on, write_on])  # type: ignore[assignment]  # a stand-in

    read = ends.bot.read_mic(160)

    ends.bot.mic = mic
    assert read == MicRead(180, pattern(180, 160, channels), 180)


def test_a_read_that_is_overtaken_again_and_again_ends_when_too_little_is_left(
    ends: Ends,
) -> None:
    channels = ends.spec.mic_channels
    ends.worker.write_mic(pcm(0, 320, channels))
    mic = ends.bot.mic

    def leave_out() -> None:
        ends.worker.skip_mic(ends.worker.mic_written + 200)

    ends.bot.mic = Overtaken(mic, [leave_out])  # type: ignore[assignment]  # a stand-in

    assert ends.bot.read_mic(160) is None

    ends.bot.mic = mic
    ends.worker.write_mic(pcm(520, 160, channels))
    assert ends.bot.read_mic(160) == MicRead(520, pattern(520, 160, channels), 520)


def test_anchors_tell_when_samples_left_and_arrived(ends: Ends) -> None:
    ends.bot.write_speaker(pcm(0, 100, ends.spec.speaker_channels))
    ends.worker.write_mic(pcm(0, 50, ends.spec.mic_channels))
    ends.worker.take(100)

    ends.worker.commit(100, 2**63 + 1, 2**32 - 1, 30_000, 4_000)
    ends.worker.set_capture(77, 960)

    assert ends.bot.playback() == (100, 2**63 + 1, 2**32 - 1, 30_000, 4_000)
    assert ends.bot.capture() == (50, 77, 960)


def test_an_anchor_left_half_written_by_a_dead_worker_is_still_readable(ends: Ends) -> None:
    ends.worker.commit(0, 1, 2, 3, 4)
    ends.buffer[0x180] += 1

    assert ends.bot.playback() == (0, 1, 2, 3, 4)


class Moving:
    """The words of a ring whose worker moves an anchor between two looks at its sequence."""

    def __init__(self, words: memoryview, sequence: int, moves: list[Callable[[], None]]) -> None:
        self._words = words
        self._sequence = sequence
        self._moves = moves

    def __getitem__(self, at: int | slice) -> int | memoryview:
        found = self._words[at]
        if isinstance(at, int) and at == self._sequence and self._moves:
            self._moves.pop(0)()
        return found

    def release(self) -> None:
        self._words.release()


def test_an_anchor_that_moves_while_it_is_read_is_read_again(ends: Ends) -> None:
    worker, bot = ends.worker, ends.bot
    worker.commit(0, 1, 1, 1, 1)
    words = bot._words
    moves: list[Callable[[], None]] = [
        lambda: worker.commit(0, 2, 2, 2, 2),
        lambda: None,
        lambda: worker.commit(0, 3, 3, 3, 3),
    ]
    bot._words = Moving(words, PLAYBACK, moves)  # type: ignore[assignment]  # a stand-in

    anchor = bot.playback()

    bot._words = words
    assert anchor[1:] in ((2, 2, 2, 2), (3, 3, 3, 3))
    assert bot.playback() == (0, 3, 3, 3, 3)


def test_the_sequence_of_an_anchor_is_odd_while_it_changes(ends: Ends) -> None:
    seen: list[tuple[int, int]] = []

    class Watched:
        def __getitem__(self, at: int) -> int:
            return int(words[at])

        def __setitem__(self, at: int, value: int) -> None:
            words[at] = value
            if CAPTURE < at < CAPTURE + 4:
                seen.append((at, int(words[CAPTURE]) % 2))

    words = ends.worker._words
    ends.worker._words = Watched()  # type: ignore[assignment]  # a stand-in

    ends.worker.set_capture(5, 6)

    ends.worker._words = words
    assert seen == [(CAPTURE + 1, 1), (CAPTURE + 2, 1), (CAPTURE + 3, 1)]
    assert ends.worker._words[CAPTURE] % 2 == 0
