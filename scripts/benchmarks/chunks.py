"""What a far end was sent over WebSockets, as numbers: audio messages, their times, their pace.

Pure functions. Times of arrival are CLOCK_REALTIME in ns. Messages are protobuf (schema: Pipecat's
`Frame`); of each only the first bytes are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scripts.benchmarks import wire
from scripts.benchmarks.wire import NS_PER_MS, Floats, Ints

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Fields of `Frame`, and of its audio message the one that holds the samples.
AUDIO, MESSAGE, INTERRUPTION = 2, 4, 5
SAMPLES_FIELD = 3
BYTES_PER_SAMPLE = 2
LATE_MS = 5.0
PPM = 1e6
LEAST_MESSAGES = 10
"""Fewer say nothing of a rate."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The audio messages of one connection, in order, with the samples that each holds."""

    link: int
    arrival_ns: Ints
    samples: Ints

    def __len__(self) -> int:
        return len(self.arrival_ns)


@dataclass(frozen=True, slots=True)
class Pace:
    """How even streams were. Errors are |interval - length of the chunk| of neighbours, in ms.

    `frozen` intervals fell into moments in which the machine stood still; they are left out of
    the errors and the gaps. `slow` is the share of real time that the streams were short of in
    the mean, `drift_ppm` the clock error of each (positive: fast).
    """

    messages: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    gaps: int
    frozen: int
    slow: float
    drift_ppm: Floats


def read_head(head: bytes) -> tuple[int, int]:
    """Which kind of message begins so, and how many bytes of audio it holds."""
    if not head:
        return 0, 0
    kind = head[0] >> 3
    if kind != AUDIO:
        return kind, 0
    try:
        _, at = _varint(head, 1)
        while at < len(head):
            tag, at = _varint(head, at)
            value, at = _varint(head, at)
            if tag & 7 == 2:
                if tag >> 3 == SAMPLES_FIELD:
                    return kind, value
                at += value
    except IndexError:
        pass
    return kind, 0


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def streams(rows: Ints) -> list[Stream]:
    """Sort notes (n, 4) of link, kind, bytes of audio and arrival by link."""
    audio = rows[(rows[:, 1] == AUDIO) & (rows[:, 2] > 0)]
    found = []
    for link in np.unique(audio[:, 0]):
        own = audio[audio[:, 0] == link]
        found.append(Stream(int(link), own[:, 3], own[:, 2] // BYTES_PER_SAMPLE))
    return found


def interval_errors_ms(stream: Stream, hz: int, frozen: Ints) -> tuple[Floats, NDArray[np.bool_]]:
    """|interval - length of the chunk before| in ms, and which of them a freeze explains."""
    intervals = np.diff(stream.arrival_ns) / NS_PER_MS
    errors = np.abs(intervals - stream.samples[:-1] * 1000 / hz)
    still = wire.explained(stream.arrival_ns[:-1], stream.arrival_ns[1:], errors, frozen)
    return np.asarray(errors), still


def slow(stream: Stream, hz: int) -> float:
    """The share of real time for which there was no audio; negative: it ran fast."""
    if len(stream) < LEAST_MESSAGES:
        return 1.0
    took_s = (stream.arrival_ns[-1] - stream.arrival_ns[0]) / 1e9
    return float(1 - stream.samples[:-1].sum() / hz / took_s) if took_s > 0 else 1.0


def drift_ppm(stream: Stream, hz: int) -> float:
    """How fast its clock is, by the line that fits all its messages best."""
    if len(stream) < LEAST_MESSAGES:
        return 0.0
    arrival_s = (stream.arrival_ns - stream.arrival_ns[0]) / 1e9
    position_s = (np.cumsum(stream.samples) - stream.samples) / hz
    return float((np.polyfit(arrival_s, position_s, 1)[0] - 1) * PPM)


def pace(all_streams: list[Stream], hz: int, frozen: Ints | None = None) -> Pace:
    """The evenness of many streams together; `frozen` are spans (n, 2) of CLOCK_REALTIME."""
    spans = np.zeros((0, 2), np.int64) if frozen is None else frozen
    counted: list[Floats] = []
    gaps = excused = 0
    for stream in all_streams:
        if len(stream) < 2:
            continue
        errors, still = interval_errors_ms(stream, hz, spans)
        counted.append(errors[~still])
        late = np.diff(stream.arrival_ns) / NS_PER_MS - stream.samples[:-1] * 1000 / hz
        gaps += int(np.count_nonzero((late > LATE_MS) & ~still))
        excused += int(np.count_nonzero(still))
    joined = np.concatenate(counted) if counted else np.zeros(0)
    p50, p99, worst = np.percentile(joined, (50, 99, 100)) if len(joined) else (0.0, 0.0, 0.0)
    return Pace(
        messages=sum(map(len, all_streams)),
        p50_ms=float(p50),
        p99_ms=float(p99),
        max_ms=float(worst),
        gaps=gaps,
        frozen=excused,
        slow=float(np.mean([slow(stream, hz) for stream in all_streams])) if all_streams else 1.0,
        drift_ppm=np.array([drift_ppm(stream, hz) for stream in all_streams]),
    )


def shares(all_streams: list[Stream], links: int, hz: int, seconds: float) -> tuple[float, float]:
    """The least and the mean share of the audio due in a window that a link got (at most 1).

    What is due is one chunk less than the window's length.
    """
    got = [
        min(1.0, stream.samples.sum() / hz / (seconds - stream.samples.max() / hz))
        for stream in all_streams
    ]
    got += [0.0] * (links - len(got))
    return (float(min(got)), float(sum(got) / len(got))) if got else (0.0, 0.0)
