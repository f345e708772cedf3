"""Which packets of SCTP are too much to look at."""

from __future__ import annotations

from struct import pack

import pytest
from aiortc.rtcsctptransport import (
    CookieEchoChunk,
    DataChunk,
    ForwardTsnChunk,
    HeartbeatChunk,
    InitChunk,
    ReconfigChunk,
    SackChunk,
    StreamResetOutgoingParam,
)

from workers.webrtc.sctp_packet import (
    HEADER_BYTES,
    MAX_CONTROL,
    MAX_PARAMETERS,
    MAX_SEARCHES,
    MAX_SKIPPED,
    SLACK,
    is_affordable,
)

pytestmark = pytest.mark.unit
HEADER = bytes(HEADER_BYTES)
ON_THE_WAY = 100


def affordable(*chunks: object) -> bool:
    body = b"".join(bytes(chunk) for chunk in chunks)  # type: ignore[call-overload]  # aiortc's are
    return is_affordable(HEADER + body, ON_THE_WAY)


def data(text: bytes = b"x") -> DataChunk:
    chunk = DataChunk(flags=3)
    chunk.tsn, chunk.stream_id, chunk.stream_seq, chunk.protocol = 1, 0, 0, 51
    chunk.user_data = text
    return chunk


def sack(*gaps: tuple[int, int]) -> SackChunk:
    chunk = SackChunk()
    chunk.gaps = [*gaps]
    chunk.duplicates = [5, 6]
    return chunk


def beginning(parameters: int) -> InitChunk:
    chunk = InitChunk()
    chunk.outbound_streams = chunk.inbound_streams = chunk.initial_tsn = 1
    chunk.params = [(0x8008, b"abc")] * parameters
    return chunk


def heartbeat(parameters: int) -> HeartbeatChunk:
    chunk = HeartbeatChunk()
    chunk.params = [(1, b"when")] * parameters
    return chunk


def forward(streams: int) -> ForwardTsnChunk:
    chunk = ForwardTsnChunk()
    chunk.streams = [(number, 1) for number in range(streams)]
    return chunk


def test_what_peers_send_is() -> None:
    reset = ReconfigChunk()
    reset.params = [(13, bytes(StreamResetOutgoingParam(1, 1, 1, [1, 3])))]
    echo = CookieEchoChunk()
    echo.body = bytes(24)
    assert affordable(*(data() for _ in range(70)))
    assert affordable(echo, data(b"first words"))
    assert affordable(sack((2, 90), (92, 93)), data())
    assert affordable(beginning(8))
    assert affordable(reset)
    assert affordable(heartbeat(1), sack(), forward(3))


@pytest.mark.parametrize("chunk", [heartbeat(1), beginning(2)], ids=["heartbeat", "beginning"])
@pytest.mark.parametrize("length", [0, 3])
def test_a_parameter_that_leads_nowhere_is_not(chunk: object, length: int) -> None:
    whole = bytes(chunk)  # type: ignore[call-overload]  # aiortc's are
    at = len(whole) - 8  # the last parameter
    assert affordable(whole)
    assert not affordable(data(), whole[: at + 2] + pack("!H", length) + whole[at + 4 :])


def test_an_acknowledgement_covers_about_what_is_on_its_way() -> None:
    assert affordable(sack((1, ON_THE_WAY + SLACK)))
    assert not affordable(sack((1, ON_THE_WAY + SLACK + 1)))
    assert not affordable(sack(*[(1, 60)] * 20))
    assert affordable(sack(*[(9, 1)] * 20))
    # More blocks announced than there are.
    assert affordable(bytes(sack((1, 5)))[:12] + pack("!HHHH", 65_535, 0, 1, 5))


def test_everything_but_data_is_bounded_by_number() -> None:
    assert affordable(*[heartbeat(0)] * MAX_CONTROL, data())
    assert not affordable(*[heartbeat(0)] * (MAX_CONTROL + 1))
    assert affordable(heartbeat(MAX_PARAMETERS))
    assert not affordable(heartbeat(MAX_PARAMETERS // 2), heartbeat(MAX_PARAMETERS // 2 + 1))
    assert not affordable(*[sack()] * MAX_SEARCHES, forward(0))
    assert affordable(forward(MAX_SKIPPED))
    assert not affordable(forward(MAX_SKIPPED + 1))


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        HEADER,
        HEADER + b"\x04\x00",
        HEADER + pack("!BBH", 4, 0, 3),
        HEADER + pack("!BBH", 4, 0, 9),
    ],
    ids=["nothing", "header", "half", "short", "long"],
)
def test_what_does_not_fit_its_own_lengths_is_left_to_aiortc(packet: bytes) -> None:
    assert is_affordable(packet, 0)
