"""The worker's end of a session's rings: it writes the mic, reads the speaker, says what left.

Each word of the control block that it stores is its own (`ipc.ring_layout`); what the bot
stores is read with care, for it may be anything.
"""

from __future__ import annotations

from ipc.errors import LayoutMismatch
from ipc.fence import fence
from ipc.ring_layout import (
    BOT_BEAT,
    BOT_PID,
    CAPTURE,
    DATA_OFFSET,
    FLUSH_NS,
    FLUSHES,
    MIC_CONCEALED,
    MIC_DROPPED,
    MIC_FILLED,
    MIC_READ,
    MIC_TAIL,
    MIC_WANT,
    MIC_WRITE,
    NEVER,
    PLAYBACK,
    SPEAKER_END,
    SPEAKER_FADE,
    SPEAKER_FLUSH_ACK,
    SPEAKER_FLUSH_SENT,
    SPEAKER_FLUSH_TO,
    SPEAKER_MARK,
    SPEAKER_READ,
    SPEAKER_UNDERRUN,
    SPEAKER_WANT,
    SPEAKER_WRITE,
    WORKER_BEAT,
    WORKER_PID,
    AudioRing,
    RingSpec,
    size_bytes,
    write_header,
)


class WorkerRing(AudioRing):
    """The worker's end: writes the mic, reads the speaker, tells what left and when."""

    def __init__(self, buffer: memoryview) -> None:
        super().__init__(buffer)
        self._taken = self._words[SPEAKER_READ]

    @classmethod
    def format(cls, buffer: memoryview, spec: RingSpec, pid: int) -> WorkerRing:
        """Lay out empty rings over a zeroed buffer of `size_bytes(spec)`."""
        size = size_bytes(spec)
        if len(buffer) < size:
            raise LayoutMismatch(f"{size} bytes are needed, the buffer has {len(buffer)}")
        words = buffer[:DATA_OFFSET].cast("Q")
        for word in (SPEAKER_WRITE, SPEAKER_READ, SPEAKER_FLUSH_TO, PLAYBACK + 1):
            words[word] = spec.speaker_base
        for word in range(FLUSHES + 1, FLUSHES + 5):
            words[word] = spec.speaker_base
        for word in (MIC_READ, MIC_WRITE, MIC_TAIL):
            words[word] = spec.mic_base
        words[CAPTURE + 1] = spec.mic_base
        for word in (SPEAKER_WANT, SPEAKER_MARK, SPEAKER_END):
            words[word] = NEVER
        words[WORKER_PID] = pid
        words.release()
        fence()
        write_header(buffer, spec, pid)
        return cls(buffer)

    def fits(self, spec: RingSpec) -> bool:
        """Whether samples of these rings can go on in rings of `spec`."""
        mic, speaker = self.mic, self.speaker
        return (mic.hz, mic.channels, speaker.hz, speaker.channels) == (
            spec.mic_hz,
            spec.mic_channels,
            spec.speaker_hz,
            spec.speaker_channels,
        )

    def mirror_written(self, cursor: int) -> None:
        """Samples before `cursor` are in the original of this mirror already."""
        self._words[SPEAKER_WRITE] = cursor

    def preload(self, old: WorkerRing) -> None:
        """Take over the speech that an earlier bot queued; before the next one attaches.

        These rings begin at `old`'s cursors: mic_base its mic_read, speaker_base its taken.
        """
        cursor = old.taken
        end = cursor + old.speaker_waiting()
        while cursor < end:
            count = min(end - cursor, old.speaker.slack)
            self.speaker.put(cursor, old.speaker.view(cursor, count))
            cursor += count
        self._words[SPEAKER_WRITE] = cursor

    def continue_from(self, old: WorkerRing) -> None:
        """Go on where `old` is now: the next bot has attached and hears what the last did not."""
        self._taken = max(self._taken, old.taken)
        self.open_room(old.speaker_sent)
        words = self._words
        end = old.mic_written
        start = max(old.mic_read, old._words[MIC_TAIL], words[MIC_WRITE])
        # The bot that is gone may have spoiled any of these words.
        start = max(start, end - old.mic.capacity)
        if start > words[MIC_WRITE]:
            self.skip_mic(start)
        while start < end:
            count = min(end - start, old.mic.slack)
            self.write_mic(old.mic.view(start, count))
            start += count

    def write_mic(self, pcm: memoryview) -> None:
        """Append whole samples; a full ring loses its oldest ones, which is counted."""
        words = self._words
        mic = self.mic
        count = len(pcm) // mic.stride
        if len(pcm) != count * mic.stride:
            pcm = pcm[: count * mic.stride]
        write = words[MIC_WRITE]
        if count > mic.capacity:
            skipped = count - mic.capacity
            pcm = pcm[skipped * mic.stride :]
            write += skipped
            count = mic.capacity
        tail = words[MIC_TAIL]
        new_tail = write + count - mic.capacity
        if new_tail > tail:
            # Before the tail moves: a bot that reads on meanwhile, and loses what lies before
            # the tail, then finds no less counted than it lost.
            read = words[MIC_READ]
            fence()
            # The tail moves before the bytes change: a reader that copied them meanwhile
            # sees that it did.
            words[MIC_TAIL] = new_tail
            if new_tail > read:
                unread = max(tail, min(read, words[MIC_WRITE]))
                words[MIC_DROPPED] += new_tail - unread
            fence()
        mic.put(write, pcm)
        fence()
        words[MIC_WRITE] = write + count

    def skip_mic(self, cursor: int) -> None:
        """Leave out the samples before `cursor`, which lies ahead: they are lost."""
        words = self._words
        words[MIC_TAIL] = cursor
        fence()
        words[MIC_WRITE] = cursor

    def set_capture(self, ns: int, rtp_timestamp: int) -> None:
        """Anchor the newest mic sample to its arrival time."""
        words = self._words
        words[CAPTURE] += 1
        fence()
        words[CAPTURE + 1] = words[MIC_WRITE]
        words[CAPTURE + 2] = ns
        words[CAPTURE + 3] = rtp_timestamp
        fence()
        words[CAPTURE] += 1

    def speaker_waiting(self) -> int:
        """Samples that can be taken now; never more than the ring holds."""
        waiting = self._words[SPEAKER_WRITE] - self._taken
        # The bot owns that word. Whatever it stores there, reads stay inside the ring.
        return waiting if 0 <= waiting <= self.speaker.capacity else 0

    def take(self, count: int) -> memoryview:
        """Look at the next `count` samples (at most 20 ms) and step a private cursor past them.

        The view is good until `commit`: the bot cannot overwrite what is not committed.
        """
        fence()
        view = self.speaker.view(self._taken, count)
        self._taken += count
        return view

    def rewind(self) -> None:
        """What was taken and has not left will be taken again: its sender is gone."""
        self._taken = self._words[SPEAKER_READ]

    @property
    def taken(self) -> int:
        """The private cursor: samples before it were handed to the encoder."""
        return self._taken

    def commit(self, cursor: int, ns: int, rtp_timestamp: int, rtt_us: int, jitter_us: int) -> None:
        """Samples before `cursor` left at `ns`: open that room and move the playback anchor."""
        words = self._words
        fence()
        if cursor > words[SPEAKER_READ]:  # a flush may have opened more already
            words[SPEAKER_READ] = cursor
        words[PLAYBACK] += 1
        fence()
        words[PLAYBACK + 1] = cursor
        words[PLAYBACK + 2] = ns
        words[PLAYBACK + 3] = rtp_timestamp
        words[PLAYBACK + 4] = rtt_us
        words[PLAYBACK + 5] = jitter_us
        fence()
        words[PLAYBACK] += 1

    def flush_due(self) -> int | None:
        """The cursor of a flush that was asked for and not applied yet."""
        words = self._words
        flush_to: int = words[SPEAKER_FLUSH_TO]
        if flush_to <= words[SPEAKER_FLUSH_ACK]:  # nearly always, and asked twice a frame
            return None
        # The bot owns both words: one that lies about them flushes at most a full ring.
        newest = words[SPEAKER_READ] + self.speaker.capacity
        flush_to = min(flush_to, words[SPEAKER_WRITE], newest)
        return flush_to if flush_to > words[SPEAKER_FLUSH_ACK] else None

    def flush_fade(self) -> int:
        """How many samples that flush wants faded out instead of cut; at most 20 ms."""
        fence()
        return min(self._words[SPEAKER_FADE], self.speaker.slack)

    def apply_flush(self) -> bool:
        """Skip what the bot has flushed and say what had left; False when nothing is asked."""
        flush_to = self.flush_due()
        if flush_to is None:
            return False
        words = self._words
        self.open_room(flush_to)
        # Samples that were taken and have not left may be taken again from the flush on.
        self._taken = words[SPEAKER_READ]
        self._answer(flush_to, words[PLAYBACK + 1])
        return True

    def _answer(self, flush_to: int, sent: int) -> None:
        # Also the answer before this one: a bot that stalls between two flushes still learns
        # what each of them cut.
        words = self._words
        words[FLUSHES] += 1
        fence()
        words[FLUSHES + 3] = words[SPEAKER_FLUSH_ACK]
        words[FLUSHES + 4] = words[SPEAKER_FLUSH_SENT]
        words[SPEAKER_FLUSH_SENT] = sent
        words[SPEAKER_FLUSH_ACK] = flush_to
        fence()
        words[FLUSHES] += 1

    def open_room(self, cursor: int) -> None:
        """Samples before `cursor` are gone from the ring (a mirror follows its original)."""
        if cursor > self._words[SPEAKER_READ]:
            self._words[SPEAKER_READ] = cursor

    def acknowledge(self, flush_to: int, sent: int) -> None:
        """Report a flush that was applied elsewhere (a mirror follows its original)."""
        self.open_room(flush_to)
        self._answer(flush_to, sent)

    @property
    def flush_asked_ns(self) -> int:
        """When the bot asked for its newest flush, by its word; 0 when it does not say."""
        return self._words[FLUSH_NS]

    @property
    def flush_ack(self) -> int:
        """The newest flush that was applied."""
        return self._words[SPEAKER_FLUSH_ACK]

    @property
    def flush_sent(self) -> int:
        """The last sample that had left when that flush was applied."""
        return self._words[SPEAKER_FLUSH_SENT]

    @property
    def speaker_want(self) -> int:
        """The bot waits until samples before this cursor have left (NEVER: it does not)."""
        return self._words[SPEAKER_WANT]

    @property
    def speaker_mark(self) -> int:
        """The earliest cursor whose passing the bot wants to hear of (NEVER: none)."""
        return self._words[SPEAKER_MARK]

    @property
    def mic_want(self) -> int:
        """The bot waits for the mic to reach this cursor (0: for anything, NEVER: for nothing)."""
        return self._words[MIC_WANT]

    @property
    def speaker_end(self) -> int:
        """Where the bot's utterance ends (NEVER: still open)."""
        return self._words[SPEAKER_END]

    @property
    def bot_pid(self) -> int:
        """The process that has mapped the rings; 0 while none has."""
        return self._words[BOT_PID]

    @property
    def bot_beat_ns(self) -> int:
        """When the bot's loop last turned."""
        return self._words[BOT_BEAT]

    def beat(self, now_ns: int) -> None:
        """Say that the worker is alive."""
        self._words[WORKER_BEAT] = now_ns

    def count_concealed(self, samples: int) -> None:
        """Add mic samples that were made up for lost packets."""
        self._words[MIC_CONCEALED] += samples

    def count_filled(self, samples: int) -> None:
        """Add mic samples that were put in because nothing came."""
        self._words[MIC_FILLED] += samples

    def count_underrun(self, samples: int) -> None:
        """Add samples of silence that were sent because the ring ran dry mid-utterance."""
        self._words[SPEAKER_UNDERRUN] += samples
