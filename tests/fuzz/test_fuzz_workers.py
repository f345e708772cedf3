"""Hostile bytes at every place of `workers` that takes datagrams: counted, and nothing raises."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.clock import NS_PER_MS, ManualClock
from tests.fakes.rings import rings
from workers.audio import red
from workers.audio.reorder import MAX_KEPT, NO_SOUND, Reorder
from workers.udp_mux import user_name
from workers.webrtc import rtcp
from workers.webrtc.receiver import Receiver
from workers.webrtc.rtp import RtpPacket

EXAMPLES = settings(max_examples=500)
U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
OPUS, RED, CN, DTMF, PCMU = 111, 63, 13, 126, 0
KINDS = {
    OPUS: ("opus", 48_000),
    RED: ("red", 48_000),
    CN: ("cn", 8_000),
    DTMF: ("telephone-event", 48_000),
    PCMU: ("pcmu", 8_000),
}


# -- parsers ------------------------------------------------------------------------------


def rtcp_packets() -> st.SearchStrategy[bytes]:
    """RTCP with a header that means something and any body and length."""
    return st.builds(
        lambda first, kind, words, body: struct.pack("!BBH", first, kind, words) + body,
        st.sampled_from([0x80, 0x81, 0x9F, 0xA1]) | st.integers(0, 255),
        st.sampled_from([200, 201, 202, 203, 205, 206]) | st.integers(0, 255),
        st.integers(0, 20) | U16,
        st.binary(max_size=120),
    )


@EXAMPLES
@given(data=st.binary(max_size=200) | st.lists(rtcp_packets(), max_size=20).map(b"".join))
def test_any_bytes_are_reports_or_none(data: bytes) -> None:
    found = rtcp.parse(data)
    assert len(found) <= rtcp.MAX_PACKETS
    for report in found:
        reports = (rtcp.SENDER_REPORT, rtcp.RECEIVER_REPORT, rtcp.BYE)
        requests = (rtcp.TRANSPORT_FEEDBACK, rtcp.PAYLOAD_FEEDBACK)
        assert report.kind in (reports if report.feedback is None else requests)
        assert len(report.reports) * rtcp.BLOCK_BYTES <= len(data)
        for block in report.reports:
            assert 0 <= block.fraction_lost <= 255
            assert -(1 << 23) <= block.packets_lost < 1 << 23


@EXAMPLES
@given(data=st.binary(max_size=300))
def test_any_bytes_are_red_blocks_inside_of_them_or_none(data: bytes) -> None:
    blocks = red.parse(data)
    assert len(blocks) <= red.MAX_BLOCKS + 2
    assert sum(len(block.payload) for block in blocks) <= len(data)
    assert b"".join(block.payload for block in blocks) == (
        data[len(data) - sum(len(block.payload) for block in blocks) :] if blocks else b""
    )


@EXAMPLES
@given(head=st.binary(max_size=20), tail=st.binary(max_size=200))
def test_any_bytes_have_a_user_name_or_none(head: bytes, tail: bytes) -> None:
    name = user_name(head + tail)
    assert ":" not in name
    assert len(name) <= len(head + tail)


# -- what we send -------------------------------------------------------------------------


@EXAMPLES
@given(
    ssrc=U32,
    kind=st.integers(0, 127),
    mid_id=st.none() | st.integers(1, 14),
    mid=st.text(max_size=20),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 1 << 33)), min_size=1, max_size=20),
)
def test_our_packets_are_well_formed_whatever_was_negotiated(
    ssrc: int, kind: int, mid_id: int | None, mid: str, steps: list[tuple[bool, int]]
) -> None:
    packet = RtpPacket(ssrc, kind, mid_id=mid_id, mid=mid)
    for marker, ticks in steps:
        sequence, timestamp = packet.sequence, packet.timestamp
        packet.patch(marker=marker)
        first, second, *numbers = struct.unpack_from("!BBHII", packet.buffer)
        assert first & 0xC0 == 0x80
        assert (second & 0x7F, bool(second & 0x80)) == (kind, marker)
        assert numbers == [sequence, timestamp, ssrc]
        has_extension = bool(first & 0x10)
        words = struct.unpack_from("!H", packet.buffer, 14)[0] if has_extension else 0
        assert packet.header_bytes == 12 + (4 + 4 * words if has_extension else 0)
        packet.advance(ticks)
        assert packet.sequence == (sequence + 1) & 0xFFFF
        assert packet.timestamp == (timestamp + ticks) & 0xFFFFFFFF


# -- the order ----------------------------------------------------------------------------


class Sink:
    """Takes what is written and keeps only how much."""

    def __init__(self, answers: list[int]) -> None:
        self._answers = answers
        self._at = 0
        self.written = 0

    def decode(self, kind: int, data: int | bytes, length: int) -> int:
        self._at += 1
        ticks = self._answers[self._at % len(self._answers)]
        self.written += max(0, ticks)
        return ticks

    def recover(self, kind: int, data: int | bytes, length: int, ticks: int) -> bool:
        assert ticks > 0
        return self._at % 2 == 0

    def conceal(self, ticks: int) -> None:
        assert ticks > 0
        self.written += ticks

    def fill(self, ticks: int) -> None:
        assert ticks > 0
        self.written += ticks


NEAR = st.integers(-70, 70)
STEP = st.one_of(
    st.tuples(st.just("arrive"), NEAR | U16, NEAR.map(lambda n: n * 960) | U32),
    st.tuples(st.just("spare"), NEAR | U16, NEAR.map(lambda n: n * 960) | U32),
    st.tuples(st.just("wait"), st.integers(0, 300), st.just(0)),
    st.tuples(st.just("retune"), st.sampled_from([8_000, 48_000]), st.just(0)),
)


@EXAMPLES
@given(
    steps=st.lists(STEP, max_size=60),
    answers=st.lists(st.sampled_from([0, NO_SOUND, 120, 960, 2_880, 5_760]), min_size=1),
    first=U16,
)
def test_no_sequence_of_packets_confuses_the_order(
    steps: list[tuple[str, int, int]], answers: list[int], first: int
) -> None:
    now_ns = 10**10
    sink = Sink(answers)
    reorder = Reorder(sink, 48_000, now_ns)
    data = (ctypes.c_char * 8).from_buffer_copy(b"12345678")
    for step, (what, number, offset) in enumerate(steps):
        sequence, timestamp = (first + step + number) & 0xFFFF, (step * 960 + offset) & 0xFFFFFFFF
        if what == "arrive":
            address: int | bytes = ctypes.addressof(data) if number % 2 else b"12345678"
            reorder.arrive(sequence, timestamp, OPUS, address, 8, now_ns)
        elif what == "spare":
            reorder.spare(sequence, timestamp, OPUS, b"1234", now_ns)
        elif what == "retune":
            reorder.retune(number, now_ns)
        else:
            for _ in range(0, number, 2):
                now_ns += 2 * NS_PER_MS
                reorder.tick(now_ns)
        assert len(reorder._kept) <= MAX_KEPT
        assert len(reorder._given_up) <= 3 * MAX_KEPT
    assert reorder.received == sum(what == "arrive" for what, _, _ in steps)
    # Whatever was claimed, what is kept comes out or is given up in a bounded time.
    for _ in range(500):
        now_ns += 10 * NS_PER_MS
        reorder.tick(now_ns)
    assert not reorder._kept


# -- a receiver -----------------------------------------------------------------------------


class Plain:
    """SRTP that changes nothing: everything is authentic."""

    def unprotect(self, length: int) -> int:
        return length

    unprotect_rtcp = unprotect


def rtp_packets() -> st.SearchStrategy[bytes]:
    """RTP with a header that means something, flags and lengths that may lie, any payload."""
    return st.builds(
        lambda first, kind, sequence, timestamp, ssrc, tail: (
            struct.pack("!BBHII", first, kind, sequence, timestamp, ssrc) + tail
        ),
        st.sampled_from([0x80, 0x80, 0x80, 0x90, 0xA0, 0x8F, 0xBF]),
        st.sampled_from([*KINDS, OPUS | 0x80, RED | 0x80, 5]) | st.integers(0, 255),
        st.integers(0, 80) | U16,
        st.integers(0, 80).map(lambda n: n * 960) | U32,
        st.sampled_from([1, 2]) | U32,
        st.binary(max_size=120) | st.builds(_red, st.binary(max_size=20), st.binary(max_size=20)),
    )


def _red(older: bytes, newest: bytes) -> bytes:
    return red.header([(OPUS, 960, len(older))], OPUS) + older + newest


@settings(max_examples=300)
@given(
    datagrams=st.lists(
        rtp_packets() | rtcp_packets() | st.binary(max_size=60), min_size=1, max_size=40
    ),
    waits=st.lists(st.sampled_from([0, 2, 20, 100]), min_size=1),
    channels=st.sampled_from([1, 2]),
    hz=st.sampled_from([8_000, 16_000, 48_000]),
)
def test_a_receiver_takes_anything_that_is_authentic(
    datagrams: list[bytes], waits: list[int], channels: int, hz: int
) -> None:
    clock = ManualClock()
    reports: list[Any] = []
    buffer = bytearray(2_048)
    receiver = Receiver(clock, lambda: None, reports.append)
    worker, bot = rings(hz, channels)
    receiver.ring = worker
    receiver.start(Plain(), buffer, KINDS)
    try:
        for number, data in enumerate(datagrams):
            buffer[: len(data)] = data
            receiver.media(len(data), clock.now_ns())
            for _ in range(0, waits[number % len(waits)], 2):
                clock.advance_ms(2)
                receiver.tick(clock.now_ns())
        block = receiver.report_block(clock.now_ns())
        assert len(block) in (0, rtcp.BLOCK_BYTES)
        # Each packet says at most 120 ms, each pause at most what passed or was claimed.
        assert worker.mic_written <= hz * (1 + len(datagrams)) * 2
        assert bot.mic_waiting() <= worker.mic.capacity
    finally:
        receiver.stop()
