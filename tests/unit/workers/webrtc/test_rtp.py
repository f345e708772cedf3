"""The header to the byte, read back by aiortc; numbers wrap where RFC 3550 lets them."""

from __future__ import annotations

import random

import pytest
from aiortc import RTCRtpParameters
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters
from aiortc.rtp import HeaderExtensionsMap
from aiortc.rtp import RtpPacket as AiortcPacket

from workers.audio.opus import MAX_PACKET_BYTES
from workers.webrtc.rtp import BUFFER_BYTES, TRAILER_BYTES, RtpPacket

MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid"
SSRC = 0x01020304


def new(mid_id: int | None = None, mid: str = "") -> RtpPacket:
    return RtpPacket(SSRC, 111, mid_id=mid_id, mid=mid, rng=random.Random(1))


def read(packet: RtpPacket, payload: bytes = b"", mid_id: int = 1) -> AiortcPacket:
    """What aiortc makes of the buffer."""
    end = packet.header_bytes + len(payload)
    packet.buffer[packet.header_bytes : end] = payload
    extensions = HeaderExtensionsMap()
    extensions.configure(
        RTCRtpParameters(headerExtensions=[RTCRtpHeaderExtensionParameters(mid_id, MID_URI)])
    )
    return AiortcPacket.parse(bytes(packet.buffer[:end]), extensions)


def test_a_plain_header_is_twelve_bytes() -> None:
    packet = new()
    packet.sequence, packet.timestamp = 0x1122, 0x33445566
    packet.patch(marker=False)
    assert packet.header_bytes == 12
    assert packet.buffer[:12].hex() == "806f11223344556601020304"


def test_the_media_id_is_a_one_byte_extension() -> None:
    packet = new(3, "0")
    packet.sequence, packet.timestamp = 0x1122, 0x33445566
    packet.patch(marker=True)
    assert packet.header_bytes == 20
    assert packet.buffer[:20].hex() == "90ef11223344556601020304" + "bede0001" + "30300000"


@pytest.mark.parametrize(
    ("mid", "header_bytes"),
    [("0", 20), ("abc", 20), ("abcd", 24), ("audio-1", 24), ("0123456789abcdef", 36)],
)
@pytest.mark.parametrize("mid_id", [1, 14])
def test_aiortc_reads_every_media_id(mid: str, header_bytes: int, mid_id: int) -> None:
    packet = new(mid_id, mid)
    packet.patch(marker=False)
    assert packet.header_bytes == header_bytes
    seen = read(packet, b"opus", mid_id)
    assert seen.extensions.mid == mid
    assert seen.payload == b"opus"


def test_a_media_id_longer_than_an_element_is_cut() -> None:
    packet = new(1, "0123456789abcdefgh")
    packet.patch(marker=False)
    assert read(packet).extensions.mid == "0123456789abcdef"


@pytest.mark.parametrize(("mid_id", "mid"), [(None, "0"), (1, "")])
def test_without_a_number_or_a_name_there_is_no_extension(mid_id: int | None, mid: str) -> None:
    packet = new(mid_id, mid)
    packet.patch(marker=False)
    assert packet.header_bytes == 12
    assert read(packet).extensions.mid is None


def test_aiortc_reads_back_every_field() -> None:
    packet = new(1, "0")
    sequence, timestamp = packet.sequence, packet.timestamp
    packet.patch(marker=True)
    seen = read(packet, bytes(range(200)))
    assert (seen.version, seen.marker, seen.payload_type) == (2, 1, 111)
    assert (seen.sequence_number, seen.timestamp, seen.ssrc) == (sequence, timestamp, SSRC)
    assert (seen.csrc, seen.padding_size, seen.payload) == ([], 0, bytes(range(200)))


def test_the_marker_goes_away_with_the_next_packet() -> None:
    packet = new()
    markers = []
    for marker in (True, False, True, False):
        packet.patch(marker=marker)
        markers.append(read(packet).marker)
        assert read(packet).payload_type == 111
    assert markers == [1, 0, 1, 0]


def test_sequence_numbers_go_up_by_one_and_wrap() -> None:
    packet = new()
    packet.sequence = 0xFFFE
    seen = []
    for _ in range(4):
        packet.patch(marker=False)
        seen.append(read(packet).sequence_number)
    assert seen == [0xFFFE, 0xFFFF, 0, 1]


def test_timestamps_go_up_by_the_ticks_and_wrap() -> None:
    packet = new()
    packet.timestamp = (1 << 32) - 960
    seen = []
    for _ in range(3):
        packet.patch(marker=False)
        seen.append(read(packet).timestamp)
        packet.advance(960)
    assert seen == [(1 << 32) - 960, 0, 960]


def test_time_passes_without_a_packet_and_no_sequence_number_is_skipped() -> None:
    packet = new()
    packet.patch(marker=False)
    first = read(packet)
    for _ in range(5):
        packet.advance(960)
    packet.patch(marker=True)
    second = read(packet)
    assert (second.timestamp - first.timestamp) % (1 << 32) == 4_800
    assert (second.sequence_number - first.sequence_number) % (1 << 16) == 1


def test_patching_touches_neither_extension_nor_payload() -> None:
    packet = new(1, "audio")
    packet.patch(marker=False)
    read(packet, b"payload")
    before = bytes(packet.buffer[8:])
    packet.advance(960)
    packet.patch(marker=True)
    assert bytes(packet.buffer[8:]) == before


def test_a_stream_begins_at_random_and_in_the_lower_half_of_the_sequence() -> None:
    starts = [RtpPacket(SSRC, 111, rng=random.Random(seed)) for seed in range(200)]
    sequences = [packet.sequence for packet in starts]
    assert max(sequences) < 1 << 15
    assert max(sequences) > 1 << 14
    assert len(set(sequences)) > 190
    assert max(packet.timestamp for packet in starts) > 1 << 31
    assert RtpPacket(SSRC, 111).timestamp != RtpPacket(SSRC, 111).timestamp


def test_the_longest_opus_packet_fits_with_srtps_trailer() -> None:
    packet = new(1, "0123456789abcdef")
    assert len(packet.buffer) == BUFFER_BYTES
    assert packet.header_bytes + MAX_PACKET_BYTES + TRAILER_BYTES <= BUFFER_BYTES
