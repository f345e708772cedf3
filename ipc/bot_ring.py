"""The bot's end of a session's rings: it writes the speaker, reads the mic, flushes by one store.

Each word of the control block that it stores is its own (`ipc.ring_layout`). A bot that is
stopped anywhere in here has stored nothing that the worker could trip over.
"""

from __future__ import annotations

from ipc.fence import fence
from ipc.ring_layout import (
    BOT_BEAT,
    BOT_PID,
    CAPTURE,
    FLUSH_NS,
    FLUSHES,
    MIC_READ,
    MIC_TAIL,
    MIC_WANT,
    MIC_WRITE,
    PLAYBACK,
    SPEAKER_END,
    SPEAKER_FADE,
    SPEAKER_FLUSH_TO,
    SPEAKER_MARK,
    SPEAKER_READ,
    SPEAKER_UNDERRUN,
    SPEAKER_WANT,
    SPEAKER_WRITE,
    WORKER_BEAT,
    AudioRing,
    Capture,
    Flushed,
    MicRead,
    Playback,
)


class BotRing(AudioRing):
    """The bot's end: writes the speaker, reads the mic, flushes by one store."""

    def __init__(self, buffer: memoryview) -> None:
        super().__init__(buffer)
        self._read = self._words[MIC_READ]

    def hello(self, pid: int) -> None:
        """Leave the bot's process id in the control block."""
        self._words[BOT_PID] = pid

    def room(self) -> int:
        """Samples that fit into the speaker ring now."""
        words = self._words
        return self.speaker.capacity - (words[SPEAKER_WRITE] - words[SPEAKER_READ])

    def write_speaker(self, pcm: memoryview) -> int:
        """Append as many whole samples as fit; returns how many were taken."""
        words = self._words
        speaker = self.speaker
        write = words[SPEAKER_WRITE]
        count = len(pcm) // speaker.stride
        room = speaker.capacity - (write - words[SPEAKER_READ])
        if room < count or len(pcm) % speaker.stride:
            count = min(count, room)
            if count <= 0:
                return 0
            pcm = pcm[: count * speaker.stride]
        fence()
        speaker.put(write, pcm)
        fence()
        words[SPEAKER_WRITE] = write + count
        return count

    def flush(self, fade: int = 0) -> int:
        """Drop everything written and not yet sent: one store. Returns the flush cursor.

        `fade` samples (at most 20 ms) of that may leave in one more packet that fades out.
        """
        words = self._words
        flush_to: int = words[SPEAKER_WRITE]
        words[SPEAKER_FADE] = fade
        fence()
        words[SPEAKER_FLUSH_TO] = flush_to
        return flush_to

    def flushing(self, now_ns: int) -> None:
        """Say when the flush that follows was asked for; for statistics only."""
        self._words[FLUSH_NS] = now_ns

    def flushed(self) -> Flushed:
        """The worker's newest answer to a flush."""
        return self.flushes()[1]

    def flushes(self) -> tuple[Flushed, Flushed]:
        """The worker's last two answers, the newest last.

        They are enough for every flush: those that are unanswered at one look are answered
        together, so whoever looks before each flush misses none.
        """
        ack, sent, ack_before, sent_before = self._anchor(FLUSHES, 4)
        return Flushed(ack_before, sent_before), Flushed(ack, sent)

    def want(self, cursor: int) -> None:
        """Ask for a bell once samples before `cursor` have left; NEVER takes it back."""
        self._words[SPEAKER_WANT] = cursor

    def mark(self, cursor: int) -> None:
        """Ask for a bell once the playback passes `cursor`; NEVER takes it back."""
        self._words[SPEAKER_MARK] = cursor

    def end(self) -> None:
        """Say that the utterance ends with what has been written."""
        self._words[SPEAKER_END] = self._words[SPEAKER_WRITE]

    def want_mic(self, cursor: int) -> None:
        """Ask for a bell once the mic reaches `cursor`; NEVER takes it back."""
        self._words[MIC_WANT] = cursor

    def mic_waiting(self) -> int:
        """Samples that can be read now."""
        return self._words[MIC_WRITE] - max(self._read, self._words[MIC_TAIL])

    def mic_lag(self) -> int:
        """Samples between the reader and the newest one, lost ones included."""
        return self._words[MIC_WRITE] - self._read

    def skip_mic(self, cursor: int) -> None:
        """Go on reading from `cursor`, which lies ahead."""
        self._read = max(self._read, cursor)
        self._words[MIC_READ] = self._read

    def read_mic(self, count: int) -> MicRead | None:
        """Copy exactly `count` samples (at most 20 ms), or None while fewer have arrived."""
        words = self._words
        mic = self.mic
        while True:
            start = self._read
            tail = words[MIC_TAIL]
            if start < tail:
                start = tail
            if words[MIC_WRITE] - start < count:
                return None
            fence()
            pcm = bytes(mic.view(start, count))
            fence()
            if words[MIC_TAIL] <= start:
                break
            # The worker overwrote these bytes during the copy; what follows is still whole.
        lost = start - self._read
        self._read = start + count
        words[MIC_READ] = self._read
        # What MicRead(...) does, without the Python call that its constructor is.
        return tuple.__new__(MicRead, (start, pcm, lost))

    def mic_view(self, count: int) -> MicRead | None:
        """Like `read_mic` without the copy: the view holds until the caller awaits."""
        start = max(self._read, self._words[MIC_TAIL])
        if self._words[MIC_WRITE] - start < count:
            return None
        fence()
        lost = start - self._read
        self._read = start + count
        self._words[MIC_READ] = self._read
        return MicRead(start, self.mic.view(start, count), lost)

    def playback(self) -> Playback:
        """The playback anchor."""
        return Playback(*self._anchor(PLAYBACK, 5))

    def capture(self) -> Capture:
        """The capture anchor."""
        return Capture(*self._anchor(CAPTURE, 3))

    def _anchor(self, at: int, count: int) -> list[int]:
        words = self._words
        values: list[int] = []
        # A worker killed between the two sequence stores leaves an odd one; 64 looks are
        # far more than a live writer needs, and the values are then the last attempt's.
        for _ in range(64):
            sequence = words[at]
            fence()
            values = words[at + 1 : at + 1 + count].tolist()
            fence()
            if sequence % 2 == 0 and words[at] == sequence:
                break
        return values

    @property
    def worker_beat_ns(self) -> int:
        """When the worker last turned."""
        return self._words[WORKER_BEAT]

    @property
    def underrun(self) -> int:
        """Samples of silence sent because the ring ran dry in the middle of an utterance."""
        return self._words[SPEAKER_UNDERRUN]

    def beat(self, now_ns: int) -> None:
        """Say that the bot's loop is alive."""
        self._words[BOT_BEAT] = now_ns
