"""What a peer asks for by RTCP (RFC 4585, RFC 5104, REMB): read, counted, and never a fault."""

from __future__ import annotations

import struct

import pytest
from aiortc.rtp import RtcpPsfbPacket, RtcpRtpfbPacket, pack_remb_fci
from hypothesis import given
from hypothesis import strategies as st

from workers.webrtc import rtcp
from workers.webrtc.rtcp import Feedback, Reception

SSRC, THEIRS, OTHER = 0xDEADBEEF, 0x01020304, 0x0A0B0C0D
NACK = bytes(RtcpRtpfbPacket(fmt=1, ssrc=THEIRS, media_ssrc=SSRC, lost=[7, 8, 9, 60]))
PLI = bytes(RtcpPsfbPacket(fmt=1, ssrc=THEIRS, media_ssrc=SSRC))
FIR = bytes(RtcpPsfbPacket(fmt=4, ssrc=THEIRS, media_ssrc=0, fci=struct.pack("!IB3x", SSRC, 9)))
REMB = bytes(
    RtcpPsfbPacket(
        fmt=15, ssrc=THEIRS, media_ssrc=0, fci=pack_remb_fci(bitrate=4_160_000, ssrcs=[OTHER, SSRC])
    )
)
RR = struct.pack("!BBHI", 0x80, rtcp.RECEIVER_REPORT, 1, THEIRS)


def asked(data: bytes) -> list[Feedback | None]:
    return [report.feedback for report in rtcp.parse(data)]


@pytest.mark.parametrize(
    ("data", "feedback"),
    [
        (NACK, Feedback("nack", (SSRC,))),
        (PLI, Feedback("pli", (SSRC,))),
        (FIR, Feedback("fir", (SSRC,))),
        (REMB, Feedback("remb", (OTHER, SSRC), 4_160_000)),
    ],
)
def test_each_kind_is_read_alone_and_behind_a_report(data: bytes, feedback: Feedback) -> None:
    assert asked(data) == [feedback]
    assert asked(RR + data + data) == [None, feedback, feedback]
    assert rtcp.parse(data)[0].ssrc == THEIRS
    assert rtcp.parse(data)[0].reports == ()


def test_padding_is_no_request() -> None:
    padded = bytearray(FIR + bytes([0, 0, 0, 0, 0, 0, 0, 8]))
    padded[0] |= 0x20
    padded[3] += 2
    assert asked(bytes(padded)) == [Feedback("fir", (SSRC,))]
    padded[-1] = 255
    assert asked(bytes(padded)) == []


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!BBHII", 0x81, 205, 2, THEIRS, SSRC),  # a NACK of nothing
        struct.pack("!BBHI", 0x81, 206, 1, THEIRS),  # about nobody
        struct.pack("!BBHIII", 0x84, 206, 3, THEIRS, 0, SSRC),  # half a FIR
        struct.pack("!BBHII4s", 0x8F, 206, 3, THEIRS, 0, b"REMB"),
        struct.pack("!BBHII4sI", 0x8F, 206, 4, THEIRS, 0, b"else", 0),
        struct.pack("!BBHII4sI", 0x8F, 206, 4, THEIRS, 0, b"REMB", 0xFF000000),
        struct.pack("!BBHIII", 0x8F, 205, 3, THEIRS, SSRC, 0),  # transport-wide feedback
    ],
)
def test_what_is_cut_short_or_unknown_asks_for_nothing(data: bytes) -> None:
    assert asked(data) == []
    assert asked(data + PLI) == [Feedback("pli", (SSRC,))]


def test_a_bitrate_beyond_all_measure_is_none() -> None:
    data = struct.pack("!BBHII4sII", 0x8F, 206, 5, THEIRS, 0, b"REMB", 0x01FFFFFF, SSRC)
    assert asked(data) == [Feedback("remb", (SSRC,), (1 << 63) - 1)]


@given(st.binary(max_size=120), st.sampled_from([205, 206]), st.integers(0, 31))
def test_any_bytes_are_read_without_a_fault(body: bytes, kind: int, form: int) -> None:
    data = bytes([0x80 | form, kind]) + struct.pack("!H", len(body) // 4) + body
    for report in rtcp.parse(data):
        assert report.feedback is None or len(report.feedback.streams) <= len(body) // 4
    for cut in range(len(data)):
        rtcp.parse(data[:cut])


def test_only_what_is_about_our_stream_is_counted() -> None:
    reception = Reception()
    for data in (NACK, PLI, PLI, FIR, FIR, FIR, REMB):
        (report,) = rtcp.parse(data)
        assert report.feedback is not None
        reception.asked(report.feedback, SSRC)
        reception.asked(report.feedback, THEIRS)
    assert (reception.nacks, reception.plis, reception.firs) == (1, 2, 3)
    assert reception.limit_bps == 4_160_000
