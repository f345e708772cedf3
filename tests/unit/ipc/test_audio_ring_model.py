"""The rings against a model that has no ring: every sample is a function of its cursor."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ipc.audio_ring import NEVER, BotRing, RingSpec, WorkerRing
from tests.support import pattern, pcm
from tests.unit.ipc.conftest import KEY, Ends, make_ends

BASES = st.sampled_from([0, 1, 319, 2**32 - 100, 2**53 + 1, 2**62])


@dataclass
class Model:
    """What the rings should say: cursors only, no bytes and no wrapping."""

    mic_capacity: int
    speaker_capacity: int
    mic_written: int
    mic_read: int
    mic_tail: int
    speaker_written: int
    speaker_read: int
    taken: int
    played: int
    flush_to: int
    flush_ack: int
    flush_sent: int
    dropped: int = 0
    want: int = NEVER
    mark: int = NEVER
    end: int = NEVER


class Rings(RuleBasedStateMachine):
    """Random interleavings of all that a worker and a bot may do to their rings."""

    ends: Ends
    model: Model

    @initialize(
        mic_base=BASES,
        speaker_base=BASES,
        mic_channels=st.sampled_from([1, 2]),
        speaker_channels=st.sampled_from([1, 2]),
        mic_hz=st.sampled_from([8_000, 12_000]),
        mic_ms=st.integers(40, 61),
        speaker_ms=st.integers(40, 61),
    )
    def make(
        self,
        mic_base: int,
        speaker_base: int,
        mic_channels: int,
        speaker_channels: int,
        mic_hz: int,
        mic_ms: int,
        speaker_ms: int,
    ) -> None:
        spec = RingSpec(
            key=KEY,
            epoch=1,
            mic_hz=mic_hz,
            speaker_hz=8_000,
            mic_channels=mic_channels,
            speaker_channels=speaker_channels,
            mic_ms=mic_ms,
            speaker_ms=speaker_ms,
            mic_base=mic_base,
            speaker_base=speaker_base,
        )
        self.ends = make_ends(spec)
        self.model = Model(
            mic_capacity=mic_hz * mic_ms // 1000,
            speaker_capacity=8 * speaker_ms,
            mic_written=mic_base,
            mic_read=mic_base,
            mic_tail=mic_base,
            speaker_written=speaker_base,
            speaker_read=speaker_base,
            taken=speaker_base,
            played=speaker_base,
            flush_to=speaker_base,
            flush_ack=speaker_base,
            flush_sent=speaker_base,
        )
        self.view: tuple[int, memoryview] | None = None
        self.before: list[int] = []

    # -- speaker ----------------------------------------------------------------------------

    @rule(count=st.integers(0, 1000))
    def write_speaker(self, count: int) -> None:
        model, bot = self.model, self.ends.bot
        room = model.speaker_capacity - (model.speaker_written - model.speaker_read)

        taken = bot.write_speaker(pcm(model.speaker_written, count, bot.speaker.channels))

        assert taken == min(count, room)
        model.speaker_written += taken

    @rule(count=st.integers(1, 160))
    def take(self, count: int) -> None:
        model, worker = self.model, self.ends.worker
        count = min(count, model.speaker_written - model.taken)
        if count == 0:
            return
        view = worker.take(count)

        assert view == pattern(model.taken, count, worker.speaker.channels)
        self.view = (model.taken, view)
        model.taken += count

    @rule(held_back=st.integers(0, 200))
    def commit(self, held_back: int) -> None:
        model = self.model
        cursor = max(model.taken - held_back, model.played)
        self.ends.worker.commit(cursor, cursor % 1000, 1, 2, 3)

        model.speaker_read = max(model.speaker_read, cursor)
        model.played = cursor
        if self.view is not None and cursor > self.view[0]:
            self.view = None

    @rule()
    def flush(self) -> None:
        assert self.ends.bot.flush() == self.model.speaker_written
        self.model.flush_to = self.model.speaker_written

    @rule()
    def apply_flush(self) -> None:
        model = self.model
        asked = model.flush_to > model.flush_ack

        assert self.ends.worker.apply_flush() == asked
        if asked:
            model.flush_sent = model.played
            model.flush_ack = model.flush_to
            model.speaker_read = max(model.speaker_read, model.flush_to)
            model.taken = max(model.taken, model.flush_to)
            self.view = None  # its room is open to the bot again

    @rule(cursor=st.one_of(st.just(NEVER), st.integers(0, 2**63)))
    def want(self, cursor: int) -> None:
        self.ends.bot.want(cursor)
        self.model.want = cursor

    @rule(cursor=st.one_of(st.just(NEVER), st.integers(0, 2**63)))
    def mark(self, cursor: int) -> None:
        self.ends.bot.mark(cursor)
        self.model.mark = cursor

    @rule()
    def end(self) -> None:
        self.ends.bot.end()
        self.model.end = self.model.speaker_written

    # -- mic --------------------------------------------------------------------------------

    @rule(count=st.integers(0, 1500))
    def write_mic(self, count: int) -> None:
        model, worker = self.model, self.ends.worker
        worker.write_mic(pcm(model.mic_written, count, worker.mic.channels))

        unread = max(model.mic_tail, min(model.mic_read, model.mic_written))
        model.mic_written += count
        model.mic_tail = max(model.mic_tail, model.mic_written - model.mic_capacity)
        model.dropped += max(0, model.mic_tail - unread)
        worker.set_capture(count, 7)
        assert self.ends.bot.capture() == (model.mic_written, count, 7)

    @rule(count=st.integers(1, 160), copied=st.booleans())
    def read_mic(self, count: int, copied: bool) -> None:
        model, bot = self.model, self.ends.bot
        start = max(model.mic_read, model.mic_tail)
        lost = start - model.mic_read
        read = bot.read_mic(count) if copied else bot.mic_view(count)

        if model.mic_written - start < count:
            assert read is None
        else:
            assert read == (start, pattern(start, count, bot.mic.channels), lost)
            model.mic_read = start + count

    @rule(ahead=st.integers(-50, 400))
    def skip_mic(self, ahead: int) -> None:
        model = self.model
        cursor = max(0, min(model.mic_read + ahead, model.mic_written))
        self.ends.bot.skip_mic(cursor)
        model.mic_read = max(model.mic_read, cursor)

    @rule(gap=st.integers(0, 700))
    def leave_out(self, gap: int) -> None:
        model = self.model
        model.mic_written += gap
        model.mic_tail = model.mic_written
        self.ends.worker.skip_mic(model.mic_written)

    # -- both -------------------------------------------------------------------------------

    @precondition(lambda self: self.model.taken == self.model.speaker_read)
    @rule()
    def attach_again(self) -> None:
        self.ends.worker = WorkerRing(self.ends.buffer)
        self.ends.bot = BotRing(self.ends.buffer)

    @invariant()
    def cursors_are_those_of_the_model(self) -> None:
        model, worker, bot = self.model, self.ends.worker, self.ends.bot
        assert bot.mic_written == worker.mic_written == model.mic_written
        assert bot.mic_read == model.mic_read
        assert bot.mic_waiting() == model.mic_written - max(model.mic_read, model.mic_tail)
        assert bot.mic_lag() == model.mic_written - model.mic_read
        assert bot.speaker_written == model.speaker_written
        assert bot.speaker_sent == model.speaker_read
        assert worker.taken == model.taken
        assert worker.speaker_waiting() == model.speaker_written - model.taken
        assert bot.room() == model.speaker_capacity - (model.speaker_written - model.speaker_read)
        assert bot.flushed() == (model.flush_ack, model.flush_sent)
        assert bot.playback().cursor == model.played
        assert (worker.speaker_want, worker.speaker_mark) == (model.want, model.mark)
        assert worker.speaker_end == model.end
        assert bot.mic_dropped == model.dropped

    @invariant()
    def cursors_never_go_back(self) -> None:
        bot, worker = self.ends.bot, self.ends.worker
        flushed = bot.flushed()
        now = [
            bot.mic_written,
            bot.mic_read,
            bot.mic_dropped,
            bot.speaker_written,
            bot.speaker_sent,
            bot.playback().cursor,
            worker.taken,
            *flushed,
        ]
        assert not self.before or all(b <= n for b, n in zip(self.before, now, strict=True))
        self.before = now

    @invariant()
    def what_is_held_is_whole_and_contiguous(self) -> None:
        model, bot = self.model, self.ends.bot
        for samples, start, end in (
            (bot.mic, max(model.mic_tail, model.mic_written - model.mic_capacity), None),
            (bot.speaker, model.speaker_read, model.speaker_written),
        ):
            last = model.mic_written if end is None else end
            for cursor in {start, (start + last) // 2, max(start, last - samples.slack)}:
                count = min(samples.slack, last - cursor)
                assert samples.view(cursor, count) == pattern(cursor, count, samples.channels)

    @invariant()
    def what_was_taken_is_not_overwritten(self) -> None:
        if self.view is not None:
            cursor, view = self.view
            speaker = self.ends.worker.speaker
            assert view == pattern(cursor, len(view) // speaker.stride, speaker.channels)


@pytest.mark.usefixtures("fence")
def test_rings_behave_like_their_model() -> None:
    run_state_machine_as_test(
        Rings,
        settings=settings(
            max_examples=80,
            stateful_step_count=60,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
