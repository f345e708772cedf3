"""How the rings of one session lie in memory: header, cursors, anchors, samples.

The control block is cut into 128-byte lines with one writer each; cursors are 64-bit counts
of samples per channel since the session began, each an aligned 8-byte word. Works over any
writable buffer: a shared segment, or private memory. The two ends are in `ipc.audio_ring`.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass
from typing import NamedTuple

from ipc.errors import ConfigError, LayoutMismatch, StaleEpoch

MAGIC = 0x42424541  # "BBEA"
VERSION = 2
RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
FRAME_MS = 20
NEVER = 2**64 - 1
SAMPLE_BYTES = 2

# Line 0, the creator, once: sizes and names.
HEADER = struct.Struct("<IHHQQ16sIIIIIIHHHHQQ")
# Line 1 (0x080), written by the bot only. Indices count 8-byte words.
SPEAKER_WRITE = 0x080 // 8
SPEAKER_FLUSH_TO = 0x088 // 8
MIC_READ = 0x090 // 8
BOT_BEAT = 0x098 // 8
SPEAKER_END = 0x0A0 // 8
SPEAKER_WANT = 0x0A8 // 8
SPEAKER_MARK = 0x0B0 // 8
BOT_PID = 0x0B8 // 8
SPEAKER_FADE = 0x0C0 // 8
MIC_WANT = 0x0C8 // 8
FLUSH_NS = 0x0D0 // 8
# Line 2 (0x100), written by the worker only.
SPEAKER_READ = 0x100 // 8
MIC_WRITE = 0x118 // 8
MIC_TAIL = 0x120 // 8
WORKER_BEAT = 0x128 // 8
SPEAKER_UNDERRUN = 0x130 // 8
MIC_DROPPED = 0x138 // 8
MIC_CONCEALED = 0x140 // 8
MIC_FILLED = 0x148 // 8
WORKER_PID = 0x150 // 8
# The answers to the last two flushes, under a sequence lock: the newest, then the one before.
FLUSHES = 0x158 // 8
SPEAKER_FLUSH_ACK = FLUSHES + 1
SPEAKER_FLUSH_SENT = FLUSHES + 2
# Lines 3 and 4, written by the worker under a sequence lock: the anchors.
PLAYBACK = 0x180 // 8
CAPTURE = 0x200 // 8
# 0x280-0x3FF is kept for the latency ledger; samples begin here.
DATA_OFFSET = 0x400
LINE_BYTES = 128


class Playback(NamedTuple):
    """When the newest packet left: samples before `cursor` are on the wire."""

    cursor: int
    ns: int
    rtp_timestamp: int
    rtt_us: int
    jitter_us: int


class Capture(NamedTuple):
    """When the newest microphone samples arrived: those before `cursor`, at `ns`."""

    cursor: int
    ns: int
    rtp_timestamp: int


class Flushed(NamedTuple):
    """The worker's answer to a flush up to `flush_to`: samples before `sent` left, faded or not."""

    flush_to: int
    sent: int


class MicRead(NamedTuple):
    """Samples from `cursor` on, and how many before them were lost to a slow reader."""

    cursor: int
    pcm: bytes | memoryview
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RingSpec:
    """What a session's rings hold. Rates in Hz, capacities in ms, cursors in samples."""

    key: bytes
    epoch: int
    mic_hz: int = 48_000
    speaker_hz: int = 48_000
    mic_channels: int = 1
    speaker_channels: int = 1
    mic_ms: int = 5_000
    speaker_ms: int = 1_000
    mic_base: int = 0
    speaker_base: int = 0

    def __post_init__(self) -> None:
        """Refuse what the codec or the layout cannot carry."""
        for rate in (self.mic_hz, self.speaker_hz):
            if rate not in RATES_HZ:
                known = ", ".join(map(str, RATES_HZ))
                raise ConfigError(f"a ring's rate is one of {known} Hz, not {rate}")
        for channels in (self.mic_channels, self.speaker_channels):
            if channels not in (1, 2):
                raise ConfigError(f"a ring has 1 or 2 channels, not {channels}")
        for capacity_ms in (self.mic_ms, self.speaker_ms):
            if not 2 * FRAME_MS <= capacity_ms <= 60_000:
                raise ConfigError(f"a ring holds 40 ms to 60 s, not {capacity_ms} ms")
        if len(self.key) != 16:
            raise ConfigError("a session key has 16 bytes")


def size_bytes(spec: RingSpec) -> int:
    """Bytes that a buffer needs for the rings of `spec`."""
    return plan(spec)[1]


def plan(spec: RingSpec) -> tuple[int, int]:
    """Where the speaker's samples begin, and the size of all of it, in bytes."""
    mic = spec.mic_hz * (spec.mic_ms + FRAME_MS) // 1000 * spec.mic_channels * SAMPLE_BYTES
    speaker = (
        spec.speaker_hz
        * (spec.speaker_ms + FRAME_MS)
        // 1000
        * spec.speaker_channels
        * SAMPLE_BYTES
    )
    speaker_offset = -(-(DATA_OFFSET + mic) // LINE_BYTES) * LINE_BYTES
    return speaker_offset, speaker_offset + speaker


def write_header(buffer: memoryview, spec: RingSpec, pid: int) -> None:
    """Write line 0, by which the ends know the buffer for formatted."""
    HEADER.pack_into(
        buffer,
        0,
        MAGIC,
        VERSION,
        0,
        spec.epoch,
        pid,
        spec.key,
        spec.mic_hz,
        spec.speaker_hz,
        spec.mic_hz * spec.mic_ms // 1000,
        spec.speaker_hz * spec.speaker_ms // 1000,
        DATA_OFFSET,
        plan(spec)[0],
        spec.mic_hz * FRAME_MS // 1000,
        spec.speaker_hz * FRAME_MS // 1000,
        spec.mic_channels,
        spec.speaker_channels,
        spec.mic_base,
        spec.speaker_base,
    )


class Samples:
    """The PCM bytes of one direction: `capacity` samples plus a mirror of the first 20 ms.

    The mirror behind the end lets a reader have any 20 ms as one contiguous view.
    """

    __slots__ = (
        "_address",
        "_bytes",
        "_end",
        "_mirror",
        "capacity",
        "channels",
        "hz",
        "slack",
        "stride",
    )

    def __init__(self, data: memoryview, capacity: int, slack: int, hz: int, channels: int) -> None:
        self.capacity = capacity
        self.slack = slack
        self.hz = hz
        self.channels = channels
        self.stride = channels * SAMPLE_BYTES
        self._end = capacity * self.stride
        self._mirror = slack * self.stride
        self._bytes = data
        # Only the number is kept: a ctypes object would pin the mapping.
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(data))

    def put(self, cursor: int, pcm: memoryview) -> None:
        """Store whole samples from `cursor` on; at most `capacity` of them."""
        count = len(pcm)
        start = cursor % self.capacity * self.stride
        end = self._end
        if start >= self._mirror and start + count <= end:  # neither wraps nor is mirrored
            self._bytes[start : start + count] = pcm
            return
        first = min(count, end - start)
        self._bytes[start : start + first] = pcm[:first]
        if start < self._mirror:
            mirrored = min(first, self._mirror - start)
            self._bytes[end + start : end + start + mirrored] = pcm[:mirrored]
        if count > first:
            rest = count - first
            self._bytes[:rest] = pcm[first:]
            mirrored = min(rest, self._mirror)
            self._bytes[end : end + mirrored] = pcm[first : first + mirrored]

    def view(self, cursor: int, count: int) -> memoryview:
        """`count` samples from `cursor` on, at most `slack`, as one contiguous view."""
        start = cursor % self.capacity * self.stride
        return self._bytes[start : start + count * self.stride]

    def address(self, cursor: int) -> int:
        """Where in memory the sample lies; 20 ms from there on are contiguous."""
        return self._address + cursor % self.capacity * self.stride

    def release(self) -> None:
        """Let go of the buffer."""
        self._bytes.release()


class AudioRing:
    """The rings and their control block over a buffer. The two ends are its subclasses."""

    def __init__(self, buffer: memoryview) -> None:
        """Read the layout of a formatted buffer. Raises LayoutMismatch."""
        if len(buffer) < DATA_OFFSET:
            raise LayoutMismatch(f"a segment of {len(buffer)} bytes holds no rings")
        (
            magic,
            version,
            _flags,
            self.epoch,
            self.creator_pid,
            self.key,
            mic_hz,
            speaker_hz,
            mic_capacity,
            speaker_capacity,
            mic_offset,
            speaker_offset,
            mic_slack,
            speaker_slack,
            mic_channels,
            speaker_channels,
            self.mic_base,
            self.speaker_base,
        ) = HEADER.unpack_from(buffer)
        if magic != MAGIC or version != VERSION:
            raise LayoutMismatch("not a Backbeat segment of this version")
        self._buffer = buffer
        self.mic = _samples(buffer, mic_offset, mic_capacity, mic_slack, mic_hz, mic_channels)
        self.speaker = _samples(
            buffer, speaker_offset, speaker_capacity, speaker_slack, speaker_hz, speaker_channels
        )
        self._head = buffer[:DATA_OFFSET]
        # "Q" items are read and written by one aligned 8-byte access; struct.pack_into is not.
        self._words = self._head.cast("Q")

    def check(self, key: bytes, epoch: int) -> None:
        """Refuse rings of another session or an earlier epoch."""
        if self.key != key:
            raise LayoutMismatch("the segment belongs to another session")
        if self.epoch != epoch:
            raise StaleEpoch(f"the segment is of epoch {self.epoch}, not {epoch}")

    def release(self) -> None:
        """Release every view of the buffer, so that the segment can be unmapped."""
        self._words.release()
        self._head.release()
        self.mic.release()
        self.speaker.release()

    @property
    def speaker_sent(self) -> int:
        """Samples before this cursor have left, or were flushed."""
        return self._words[SPEAKER_READ]

    @property
    def speaker_written(self) -> int:
        """Samples before this cursor were written by the bot."""
        return self._words[SPEAKER_WRITE]

    @property
    def mic_written(self) -> int:
        """Samples before this cursor have arrived from the caller."""
        return self._words[MIC_WRITE]

    @property
    def mic_read(self) -> int:
        """Samples before this cursor were read by the bot; never beyond what has arrived."""
        return min(self._words[MIC_READ], self._words[MIC_WRITE])

    @property
    def mic_dropped(self) -> int:
        """Samples that were overwritten before the bot read them."""
        return self._words[MIC_DROPPED]

    @property
    def mic_concealed(self) -> int:
        """Samples that were made up for lost packets."""
        return self._words[MIC_CONCEALED]

    @property
    def mic_filled(self) -> int:
        """Samples of silence, or comfort noise, that were put in because nothing came."""
        return self._words[MIC_FILLED]


def _samples(
    buffer: memoryview, offset: int, capacity: int, slack: int, hz: int, channels: int
) -> Samples:
    size = (capacity + slack) * channels * SAMPLE_BYTES
    if (
        hz not in RATES_HZ
        or channels not in (1, 2)
        or slack != hz * FRAME_MS // 1000
        or capacity < 2 * slack
        or offset < DATA_OFFSET
        or offset + size > len(buffer)
    ):
        raise LayoutMismatch("the segment is truncated or its sizes do not fit")
    return Samples(buffer[offset : offset + size], capacity, slack, hz, channels)
