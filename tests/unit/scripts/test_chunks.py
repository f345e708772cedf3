"""What the benchmarks make of WebSocket messages: their kind, intervals, rate, drift, shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.frames import InterruptionFrame, OutputAudioRawFrame, OutputTransportMessageFrame
from ipc.serializers import ProtobufFrameSerializer
from scripts.benchmarks import chunks, flush_log, light_link, websocket, wire
from scripts.benchmarks.far_ends import Seen

MS = 1_000_000
BEGIN_NS = 10**12
OFFSET_NS = 1_800_000_000_000_000_000
HZ = 24_000
CHUNK = 960


def stream(
    count: int = 100, *, scale: float = 1.0, late: dict[int, float] | None = None
) -> chunks.Stream:
    """Chunks of 40 ms, each `scale` times 40 ms after the one before; some are late, in ms."""
    arrival = OFFSET_NS + BEGIN_NS + np.round(np.arange(count) * 40 * MS * scale).astype(np.int64)
    for number, ms in (late or {}).items():
        arrival[number] += round(ms * MS)
    return chunks.Stream(3, arrival, np.full(count, CHUNK, np.int64))


def test_the_kind_and_the_audio_of_a_message_are_in_its_first_bytes() -> None:
    serializer = ProtobufFrameSerializer()
    audio = serializer.encode(OutputAudioRawFrame(bytes(1920), HZ, 1))
    interruption = serializer.encode(InterruptionFrame())
    message = serializer.encode(OutputTransportMessageFrame(message={"a": 1}))
    assert audio is not None
    assert interruption is not None
    assert message is not None
    assert chunks.read_head(audio[: light_link.HEAD_BYTES]) == (chunks.AUDIO, 1920)
    assert chunks.read_head(interruption) == (chunks.INTERRUPTION, 0)
    assert chunks.read_head(message) == (chunks.MESSAGE, 0)


@given(st.binary(max_size=128))
def test_any_bytes_are_some_message(data: bytes) -> None:
    kind, size = chunks.read_head(data)
    assert kind >= 0
    assert size >= 0


def test_only_audio_of_each_link_makes_a_stream() -> None:
    rows = np.array(
        [
            [1, chunks.AUDIO, 1920, 10],
            [2, chunks.AUDIO, 640, 11],
            [1, chunks.MESSAGE, 0, 12],
            [1, chunks.AUDIO, 1920, 13],
        ],
        np.int64,
    )
    one, two = chunks.streams(rows)
    assert (one.link, one.arrival_ns.tolist(), one.samples.tolist()) == (1, [10, 13], [960, 960])
    assert (two.link, len(two)) == (2, 1)


def test_a_late_chunk_is_two_errors_and_one_gap() -> None:
    pace = chunks.pace([stream(late={50: 9.0})], HZ)
    assert pace.max_ms == pytest.approx(9.0)
    assert (pace.p50_ms, pace.gaps, pace.messages) == (0.0, 1, 100)
    assert pace.slow == pytest.approx(0.0, abs=1e-9)


def test_what_a_freeze_explains_is_left_out() -> None:
    at = OFFSET_NS + BEGIN_NS + 50 * 40 * MS
    pace = chunks.pace([stream(late={50: 9.0})], HZ, np.array([[at - MS, at + 8 * MS]]))
    assert (pace.gaps, pace.max_ms) == (0, 0.0)
    assert pace.frozen == 2


def test_a_stream_that_takes_longer_than_it_plays_is_slow() -> None:
    slow = chunks.pace([stream(scale=1 / 0.84)], HZ)
    assert slow.slow == pytest.approx(0.16)
    assert chunks.pace([], HZ).slow == 1.0


def test_the_drift_is_the_error_of_its_clock() -> None:
    pace = chunks.pace([stream(scale=1 / (1 + 50e-6))], HZ)
    assert pace.drift_ppm == pytest.approx([50], abs=0.1)


def test_who_gets_nothing_has_the_least_share() -> None:
    assert chunks.shares([stream()], 2, HZ, 4.04) == pytest.approx((0.0, 0.5))
    assert chunks.shares([stream()], 1, HZ, 4.04) == (1.0, 1.0)


@pytest.mark.parametrize("last_ms", [0, 35])
def test_the_last_chunk_after_a_flush_is_its_latency(last_ms: int) -> None:
    flushed_ns = BEGIN_NS + 1000 * MS
    before = [flushed_ns - (25 - number) * 40 * MS for number in range(25)]
    after = [flushed_ns + 300 * MS + number * 40 * MS for number in range(10)]
    times = [*before, flushed_ns + last_ms * MS, *after]
    samples = np.full(len(times), CHUNK, np.int64)
    heard = chunks.Stream(7, np.array(times, np.int64) + OFFSET_NS, samples)
    ends = [wire.ClockOffset(BEGIN_NS + at, OFFSET_NS, 0) for at in (0, 2400 * MS)]
    none = np.zeros(0, np.int64)
    seen = Seen([heard], 1, none, none, ends[0], ends[1], {})
    timings = [
        flush_log.Timings(7, 980.0, flushed_ns, flushed_ns, flushed_ns + 290 * MS),
        flush_log.Timings(8, 980.0, flushed_ns, flushed_ns, flushed_ns + 290 * MS),  # unknown
    ]
    (cut,) = websocket.cuts(seen, timings)
    assert cut.latency_ms == pytest.approx(last_ms)
    assert cut.whole
