"""Reports to the byte, read back by aiortc; round-trip time by the RFC's own example."""

from __future__ import annotations

import pytest
from aiortc.rtp import RtcpByePacket, RtcpPacket, RtcpRrPacket, RtcpSdesPacket, RtcpSrPacket
from hypothesis import given
from hypothesis import strategies as st

from workers.webrtc import rtcp
from workers.webrtc.rtcp import NS_PER_S, NTP_EPOCH_S

SSRC = 0xDEADBEEF
NOW_NS = 1_700_000_000 * NS_PER_S
MS = NS_PER_S // 1_000
UNITS_PER_S = 1 << 16


def report(
    cname: str = "me", *, unix_ns: int = NOW_NS, rtp: int = 1, n: int = 2, o: int = 3
) -> bytes:
    return rtcp.sender_report(SSRC, cname, unix_ns=unix_ns, rtp_timestamp=rtp, packets=n, octets=o)


def sender_info(data: bytes) -> tuple[int, int, int, int]:
    packet = RtcpPacket.parse(data)[0]
    assert isinstance(packet, RtcpSrPacket)
    info = packet.sender_info
    return info.ntp_timestamp, info.rtp_timestamp, info.packet_count, info.octet_count


def middle(unix_ns: int) -> int:
    """What a receiver keeps of a sender report: LSR."""
    return rtcp.ntp_time(unix_ns) >> 16 & 0xFFFFFFFF


# -- NTP time -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unix_ns", "ntp"),
    [
        (0, 2_208_988_800 << 32),
        (NS_PER_S // 2, 2_208_988_800 << 32 | 1 << 31),
        (NS_PER_S // 4, 2_208_988_800 << 32 | 1 << 30),
        (NS_PER_S - 1, 2_208_988_800 << 32 | 0xFFFFFFFB),
        (NOW_NS, 0xE8FE6F80 << 32),
        # 7 February 2036, 06:28:16 UTC: era 1 begins at zero (RFC 5905 section 6).
        (2_085_978_496 * NS_PER_S, 0),
        (2_085_978_496 * NS_PER_S + NS_PER_S // 2, 1 << 31),
    ],
)
def test_ntp_counts_from_1900_in_binary_fractions(unix_ns: int, ntp: int) -> None:
    assert rtcp.ntp_time(unix_ns) == ntp


@given(st.integers(0, (1 << 32) - NTP_EPOCH_S - 2), st.integers(0, NS_PER_S - 1))
def test_ntp_time_grows_with_the_clock_and_keeps_its_nanoseconds(second: int, ns: int) -> None:
    unix_ns = second * NS_PER_S + ns
    ntp = rtcp.ntp_time(unix_ns)
    assert 0 <= ntp < 1 << 64
    assert abs((ntp - (NTP_EPOCH_S << 32)) * NS_PER_S // (1 << 32) - unix_ns) <= 1
    assert rtcp.ntp_time(unix_ns + 1) > ntp


# -- reports ------------------------------------------------------------------------------


def test_a_report_is_sender_information_and_a_name() -> None:
    data = report("me", unix_ns=NOW_NS + NS_PER_S // 2, rtp=0x11223344, n=50, o=6_000)
    assert data.hex() == (
        "80c80006deadbeefe8fe6f808000000011223344000000320000177081ca0003deadbeef01026d6500000000"
    )


def test_aiortc_reads_back_every_field() -> None:
    data = report("abcd", rtp=0xFFFFFFFF, n=123, o=45_678)
    first, second = RtcpPacket.parse(data)
    assert isinstance(first, RtcpSrPacket)
    assert (first.ssrc, first.reports) == (SSRC, [])
    assert sender_info(data) == (rtcp.ntp_time(NOW_NS), 0xFFFFFFFF, 123, 45_678)
    assert isinstance(second, RtcpSdesPacket)
    assert [(chunk.ssrc, chunk.items) for chunk in second.chunks] == [(SSRC, [(1, b"abcd")])]


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 36, 254, 255, 300])
def test_a_name_of_any_length_fills_whole_words(length: int) -> None:
    data = report("x" * length)
    assert len(data) % 4 == 0
    packets = RtcpPacket.parse(data)
    assert len(packets) == 2
    assert isinstance(packets[1], RtcpSdesPacket)
    assert packets[1].chunks[0].items == [(1, b"x" * min(length, 255))]
    # RFC 3550 section 6.5: at least one null octet ends the list of a chunk.
    assert data[-1] == 0


def test_counters_wrap_where_their_fields_end() -> None:
    data = report(rtp=(1 << 32) + 7, n=(1 << 32) + 8, o=(1 << 40) + 9)
    assert sender_info(data)[1:] == (7, 8, 9)


def test_a_report_can_be_made_after_ntps_era_has_turned() -> None:
    data = report(unix_ns=(2_085_978_496 + 5) * NS_PER_S)
    assert sender_info(data)[0] == 5 << 32


def test_bye_names_its_stream_in_a_compound_packet() -> None:
    report, description, packet = RtcpPacket.parse(rtcp.bye(SSRC, "us"))
    assert isinstance(report, RtcpRrPacket)
    assert isinstance(description, RtcpSdesPacket)
    assert isinstance(packet, RtcpByePacket)
    assert (report.ssrc, report.reports) == (SSRC, [])
    assert packet.sources == [SSRC]


# -- round-trip time ----------------------------------------------------------------------


def test_the_example_of_rfc_3550_figure_2() -> None:
    heard_ns = (0xB44DB710 - NTP_EPOCH_S) * NS_PER_S + NS_PER_S // 2
    assert middle(heard_ns) == 0xB7108000
    assert rtcp.round_trip_us(heard_ns, 0xB7052000, 0x00054000) == 6_125_000


def test_before_the_first_sender_report_there_is_none() -> None:
    assert rtcp.round_trip_us(NOW_NS, 0, 0) is None
    assert rtcp.round_trip_us(NOW_NS, 0, UNITS_PER_S) is None


@given(
    st.integers(0, 1 << 33),
    st.integers(0, 10_000),
    st.integers(0, 60_000),
)
def test_any_delay_and_any_time_of_the_clock(second: int, rtt_ms: int, held_ms: int) -> None:
    sent_ns = second * NS_PER_S
    if not middle(sent_ns):
        return
    heard_ns = sent_ns + (rtt_ms + held_ms) * MS
    delay = held_ms * UNITS_PER_S // 1_000
    measured = rtcp.round_trip_us(heard_ns, middle(sent_ns), delay)
    assert measured is not None
    # Three values of 1/65536 s, each cut.
    assert abs(measured - rtt_ms * 1_000) <= 48


def test_the_middle_word_wraps_every_eighteen_hours() -> None:
    boundary_s = -(-(NOW_NS // NS_PER_S + NTP_EPOCH_S) // 65_536) * 65_536 - NTP_EPOCH_S
    sent_ns = boundary_s * NS_PER_S - 100 * MS
    heard_ns = boundary_s * NS_PER_S + 150 * MS
    assert middle(heard_ns) < middle(sent_ns)
    measured = rtcp.round_trip_us(heard_ns, middle(sent_ns), 0)
    assert measured == pytest.approx(250_000, abs=32)


@pytest.mark.parametrize("early_ms", [1, 100, 5_000])
def test_a_receiver_that_held_it_longer_than_it_was_away_gives_zero(early_ms: int) -> None:
    delay = (50 + early_ms) * UNITS_PER_S // 1_000
    assert rtcp.round_trip_us(NOW_NS + 50 * MS, middle(NOW_NS), delay) == 0


def test_nothing_is_known_of_a_receiver_that_has_not_reported() -> None:
    fresh = rtcp.Reception()
    assert (fresh.fraction_lost, fresh.packets_lost, fresh.jitter_us, fresh.rtt_us) == (0, 0, 0, 0)
