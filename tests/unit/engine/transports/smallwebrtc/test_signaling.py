"""Requests, candidates and answers for small devices: read in every shape, written in one."""

from __future__ import annotations

import pytest
from aiortc.sdp import candidate_from_sdp, candidate_to_sdp
from pydantic import TypeAdapter

from engine.transports.smallwebrtc.candidates import as_candidate
from engine.transports.smallwebrtc.munging import smallwebrtc_sdp_munging
from engine.transports.smallwebrtc.request_handler import IceCandidate, SmallWebRTCRequest

ANSWER = "\r\n".join(
    [
        "v=0",
        "m=audio 9 UDP/TLS/RTP/SAVPF 96",
        "a=candidate:1 1 udp 2130706431 10.0.0.1 5000 typ host",
        "a=candidate:2 1 udp 2130706431 10.0.0.12 5000 typ host",
        "a=candidate:3 1 udp 1694498815 1.2.3.4 5000 typ srflx raddr 10.0.0.1 rport 5000",
        "a=fingerprint:sha-256 AA:BB",
        "a=fingerprint:sha-384 AA:BB:CC",
        "a=fingerprint:sha-512 AA:BB:CC:DD",
        "a=setup:active",
        "",
    ]
)


def test_long_fingerprints_are_left_out_and_candidates_stay_without_a_host() -> None:
    munged = smallwebrtc_sdp_munging(ANSWER, None)
    assert "sha-256" in munged
    assert "sha-384" not in munged
    assert "sha-512" not in munged
    assert munged.count("a=candidate") == 3
    assert munged.endswith("a=setup:active\r\n")


def test_with_a_host_only_its_own_candidate_stays() -> None:
    munged = smallwebrtc_sdp_munging(ANSWER, "10.0.0.1")
    kept = [line for line in munged.splitlines() if line.startswith("a=candidate")]
    assert kept == ["a=candidate:1 1 udp 2130706431 10.0.0.1 5000 typ host"]


@pytest.mark.parametrize(
    ("body", "data"),
    [
        ({"request_data": {"a": 1}}, {"a": 1}),
        ({"requestData": {"a": 1}}, {"a": 1}),
        ({"request_data": {"a": 1}, "requestData": {"b": 2}}, {"a": 1}),
        ({"something": "else"}, None),
    ],
)
def test_request_data_is_read_in_both_spellings(body: dict[str, object], data: object) -> None:
    given = {"sdp": "v=0", "type": "offer", **body}
    assert SmallWebRTCRequest.from_dict(given).request_data == data
    # A FastAPI route reads its body so.
    assert TypeAdapter(SmallWebRTCRequest).validate_python(given).request_data == data


def test_a_request_without_an_offer_is_refused() -> None:
    with pytest.raises(TypeError, match="sdp"):
        SmallWebRTCRequest.from_dict({"type": "offer"})


@pytest.mark.parametrize(
    "line",
    [
        "1 1 udp 2130706431 10.0.0.1 5000 typ host",
        "3 1 udp 1694498815 1.2.3.4 5000 typ srflx raddr 10.0.0.1 rport 5000",
        "4 1 tcp 1518280447 10.0.0.1 9 typ host tcptype active",
    ],
)
def test_aiortcs_candidates_become_the_text_that_they_came_from(line: str) -> None:
    theirs = candidate_from_sdp(line)
    theirs.sdpMid, theirs.sdpMLineIndex = "0", 0
    ours = as_candidate(theirs)
    assert ours.candidate == f"candidate:{candidate_to_sdp(theirs)}"
    assert (ours.sdp_mid, ours.sdp_mline_index) == ("0", 0)


def test_the_end_of_candidates_is_empty_in_every_shape() -> None:
    assert as_candidate(None).candidate == ""
    assert as_candidate("").candidate == ""
    assert as_candidate(IceCandidate("", None, None)).candidate == ""
