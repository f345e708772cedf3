"""What was seen on the wire, as numbers: pure functions from notes of packets to statistics.

A note is 32 bytes: the RTP header, the size, the caller's number and the kernel's time of
arrival. Times of arrival are CLOCK_REALTIME in ns; sizes are those of the SRTP packet.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NOTE = struct.Struct("<12sHH16s")
NOTE_DTYPE = np.dtype(
    [("head", "u1", (12,)), ("size", "<u2"), ("caller", "<u2"), ("s", "<i8"), ("ns", "<i8")]
)
FRAME_MS = 20.0
FRAME_TICKS = 960
TICKS_PER_MS = 48
LATE_MS = 5.0
"""A packet that comes later than this against its schedule is late (the design's budget)."""
VOID_MS = 5.0
"""A run in which the callers' own p99 of lateness is above this says nothing."""
STEP_NS = 2_000_000
FREEZE_ACTS_NS = 25_000_000
FREEZE_SLACK_MS = 3.0
NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Stream:
    """The packets of one caller in the order of their sequence numbers."""

    caller: int
    sequence: Ints
    timestamp: Ints
    arrival_ns: Ints
    size: Ints

    def __len__(self) -> int:
        return len(self.sequence)


@dataclass(frozen=True, slots=True)
class Pace:
    """How even streams were. Errors are |interval - 20 ms| of neighbours, in ms.

    `frozen` packets came while the machine itself stood still; they are in `packets`, `lost`
    and `skipped_ms` only.
    """

    packets: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    late: int
    gaps: int
    lost: int
    skipped_ms: float
    frozen: int

    @property
    def late_share(self) -> float:
        """Share of the packets that count which were more than 5 ms behind their schedule."""
        counted = self.packets - self.frozen
        return self.late / counted if counted else 0.0


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """CLOCK_REALTIME minus CLOCK_MONOTONIC, in ns, at one moment, and how sure that is."""

    monotonic_ns: int
    offset_ns: int
    error_ns: int


def streams(notes: NDArray[np.void]) -> list[Stream]:
    """Sort notes by caller and sequence number; the most frequent SSRC of a caller counts."""
    head = notes["head"].astype(np.int64)
    sequence = head[:, 2] << 8 | head[:, 3]
    timestamp = head[:, 4] << 24 | head[:, 5] << 16 | head[:, 6] << 8 | head[:, 7]
    ssrc = head[:, 8] << 24 | head[:, 9] << 16 | head[:, 10] << 8 | head[:, 11]
    arrival = notes["s"] * 1_000_000_000 + notes["ns"]
    found = []
    for caller in np.unique(notes["caller"]):
        own = np.flatnonzero(notes["caller"] == caller)
        values, counts = np.unique(ssrc[own], return_counts=True)
        own = own[ssrc[own] == values[np.argmax(counts)]]
        unwrapped = unwrap(sequence[own], 16)
        _, first = np.unique(unwrapped, return_index=True)  # sorted, a repeat counts once
        own = own[first]
        found.append(
            Stream(
                caller=int(caller),
                sequence=unwrapped[first],
                timestamp=unwrap(timestamp[own], 32),
                arrival_ns=arrival[own],
                size=notes["size"][own].astype(np.int64),
            )
        )
    return found


def unwrap(values: Ints, bits: int) -> Ints:
    """Numbers that count on where an unsigned counter of `bits` wrapped."""
    if not len(values):
        return values
    half, whole = 1 << (bits - 1), 1 << bits
    steps = (np.diff(values) + half) % whole - half
    return np.asarray(np.concatenate(([values[0]], values[0] + np.cumsum(steps))), np.int64)


def clip(stream: Stream, from_ns: int, to_ns: int) -> Stream:
    """The packets that arrived in a window (CLOCK_REALTIME)."""
    inside = (stream.arrival_ns >= from_ns) & (stream.arrival_ns < to_ns)
    return Stream(
        stream.caller,
        stream.sequence[inside],
        stream.timestamp[inside],
        stream.arrival_ns[inside],
        stream.size[inside],
    )


def interval_errors_ms(stream: Stream, frozen: Ints | None = None) -> Floats:
    """|interval - 20 ms| of packets with neighbouring sequence numbers, in ms.

    Those that a freeze explains are left out.
    """
    intervals = np.diff(stream.arrival_ns) / NS_PER_MS
    errors = np.abs(intervals - FRAME_MS)
    counted = np.diff(stream.sequence) == 1
    if frozen is not None:
        counted &= ~explained(stream.arrival_ns[:-1], stream.arrival_ns[1:], errors, frozen)
    return np.asarray(errors[counted])


def explained(from_ns: Ints, to_ns: Ints, late_ms: Floats, spans: Ints) -> NDArray[np.bool_]:
    """Which stretches [from, to] a freeze can have touched and explains.

    A freeze acts from its begin until 25 ms after its end (what piled up must first be sent, and
    the interval after a late packet is a short one). It explains no more than its own length and
    3 ms: it leaves out what it may have held up, late or not, but never a hole of 200 ms.
    """
    merged = merge(spans)
    if not len(merged) or not len(from_ns):
        return np.zeros(len(from_ns), np.bool_)
    total = np.concatenate(([0], np.cumsum(merged[:, 1] - merged[:, 0])))
    first = np.searchsorted(merged[:, 1], from_ns - FREEZE_ACTS_NS)
    last = np.searchsorted(merged[:, 0], to_ns, side="right")
    stood_ms = (total[np.maximum(first, last)] - total[first]) / NS_PER_MS
    return np.asarray((last > first) & (late_ms <= stood_ms + FREEZE_SLACK_MS))


def merge(spans: Ints) -> Ints:
    """The union of spans (n, 2), in order."""
    merged: list[list[int]] = []
    for begin, end in sorted(map(tuple, spans.tolist())):
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    return np.array(merged, np.int64).reshape(-1, 2)


def behind_ms(stream: Stream) -> Floats:
    """How late each packet is against the stream's own schedule, in ms.

    The schedule is the RTP clock, set by the stream's punctual packets: the 10th percentile
    of (arrival - RTP time).
    """
    if not len(stream):
        return np.zeros(0)
    transit = (stream.arrival_ns - stream.arrival_ns[0]) / NS_PER_MS - (
        stream.timestamp - stream.timestamp[0]
    ) / TICKS_PER_MS
    return np.asarray(transit - np.percentile(transit, 10))


def pace(all_streams: list[Stream], frozen: Ints | None = None) -> Pace:
    """The evenness of many streams together; `frozen` are spans (n, 2) of CLOCK_REALTIME."""
    spans = np.zeros((0, 2), np.int64) if frozen is None else frozen
    errors = [interval_errors_ms(stream, spans) for stream in all_streams]
    joined = np.concatenate(errors) if errors else np.zeros(0)
    p50, p99, worst = (
        (float(np.percentile(joined, 50)), float(np.percentile(joined, 99)), float(joined.max()))
        if len(joined)
        else (0.0, 0.0, 0.0)
    )
    late = gaps = lost = excused = 0
    skipped_ms = 0.0
    for stream in all_streams:
        if len(stream) < 2:
            continue
        before, after = stream.arrival_ns[:-1], stream.arrival_ns[1:]
        behind = behind_ms(stream)[1:]
        late += int(np.count_nonzero((behind > LATE_MS) & ~explained(before, after, behind, spans)))
        off = np.abs(np.diff(stream.arrival_ns) / NS_PER_MS - FRAME_MS)
        still = explained(before, after, off, spans)
        excused += int(np.count_nonzero(still))
        steps = np.diff(stream.sequence)
        lost += int((steps - 1).sum())
        intervals = np.diff(stream.arrival_ns) / NS_PER_MS
        gaps += int(np.count_nonzero((intervals > FRAME_MS + LATE_MS) & ~still))
        jumps = np.diff(stream.timestamp) - steps * FRAME_TICKS
        skipped_ms += float(jumps[jumps > 0].sum()) / TICKS_PER_MS
    packets = sum(map(len, all_streams))
    return Pace(packets, p50, p99, worst, late, gaps, lost, skipped_ms, excused)


def own_lateness_ns(lateness_ns: Ints, due_ns: Ints, frozen: Ints) -> Ints:
    """The callers' lateness outside freezes (spans of the same clock as `due_ns`)."""
    late_ms = lateness_ns / NS_PER_MS
    return np.asarray(lateness_ns[~explained(due_ns, due_ns + lateness_ns, late_ms, frozen)])


def is_void(lateness_ns: Ints, threshold_ms: float = VOID_MS) -> bool:
    """Whether the callers themselves were too late for the run to count."""
    return not len(lateness_ns) or float(np.percentile(lateness_ns, 99)) > threshold_ms * NS_PER_MS


def shares(all_streams: list[Stream], callers: int, expected: float) -> tuple[float, float]:
    """The least and the mean share of `expected` packets that a caller got (at most 1)."""
    got = [min(1.0, len(stream) / expected) for stream in all_streams]
    got += [0.0] * (callers - len(got))
    return (min(got), sum(got) / len(got)) if got else (0.0, 0.0)


def measure_offset(rounds: int = 32) -> ClockOffset:
    """Read both clocks closely together; the tightest of some rounds counts."""
    best: ClockOffset | None = None
    for _ in range(rounds):
        before = time.monotonic_ns()
        real = time.time_ns()
        after = time.monotonic_ns()
        middle = (before + after) // 2
        if best is None or after - before < best.error_ns:
            best = ClockOffset(middle, real - middle, after - before)
    assert best is not None
    return best


def to_monotonic(real_ns: Ints, start: ClockOffset, end: ClockOffset) -> Ints:
    """CLOCK_REALTIME to CLOCK_MONOTONIC, with the slew between two measured offsets.

    Raises ValueError when the clock was set meanwhile (more than 2 ms): repeat the run.
    """
    if abs(end.offset_ns - start.offset_ns) > STEP_NS:
        raise ValueError("the system's clock was set during the run; repeat it")
    span = max(1, end.monotonic_ns - start.monotonic_ns)
    rough = real_ns - start.offset_ns - start.monotonic_ns
    drift = rough * ((end.offset_ns - start.offset_ns) / span)
    return np.asarray(real_ns - start.offset_ns - np.round(drift).astype(np.int64), np.int64)
