"""Offers that would hold the beat: counted before anybody reads them closely, and refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ipc.errors import SdpRejected
from tests.fakes import offers
from workers.webrtc import sdp
from workers.webrtc.sdp import MAX_CODECS, MAX_LINES, MAX_SHOWN_LINES, MAX_SHOWN_WORDS, Offer

if TYPE_CHECKING:
    from collections.abc import Callable

MANY = 1_000


def with_lines(*extra: str) -> str:
    return offers.offer(offers.audio("0", extra=extra))


def shown(text: str) -> list[str]:
    return Offer.parse(text).sdp.splitlines()


def refused(text: str) -> bool:
    try:
        Offer.parse(text)
    except SdpRejected as error:
        return error.code == "sdp_too_large"
    return False


# -- what is left out ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "most"),
    [
        (lambda n: f"a=candidate:more{n} 1 udp 1 127.0.0.1 {n} typ host", sdp.MAX_CANDIDATES),
        (lambda n: f"a=ssrc:{n} cname:more", sdp.MAX_SOURCES),
        (lambda n: f"a=ssrc-group:more {n} 2", sdp.MAX_GROUPS),
        (lambda n: f"a=rtcp-fb:* more{n}", 0),
        (lambda n: f"a=fmtp:{40 + n % 20} more={n}", 0),
        (lambda n: f"a=rtpmap:{40 + n % 20} more{n}/8000", 0),
    ],
)
def test_of_a_flood_only_a_few_lines_are_shown(line: Callable[[int], str], most: int) -> None:
    kind = line(0).partition(":")[0]
    own = [text for text in shown(with_lines()) if text.startswith(f"{kind}:")]
    flood = shown(with_lines(*(line(n) for n in range(MANY))))
    assert len([text for text in flood if "more" in text]) == max(0, most - len(own))


def test_what_is_left_out_makes_no_difference_to_the_codecs() -> None:
    lines = shown(offers.offer(offers.audio("0", formats="111 63 9 0 8 13 110 126")))
    assert [line for line in lines if line.startswith(("a=rtpmap:", "a=fmtp:"))] == [
        line
        for line in offers.audio("0")
        if line.startswith(("a=rtpmap:111 ", "a=fmtp:111 ", "a=rtpmap:0 ", "a=rtpmap:8 "))
    ]


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        lambda n: f"a=fmtp:111 x{n}=1",
        lambda n: f"a=extmap:{n} urn:x",
        lambda n: f"a=fingerprint:sha-256 {offers.FINGERPRINT}",
        lambda n: f"a=x{n}",
        lambda n: "b=AS:1",
    ],
)
def test_lines_without_end_are_refused(line: Callable[[int], str]) -> None:
    assert refused(with_lines(*(line(n) for n in range(MAX_SHOWN_LINES))))
    assert not refused(with_lines(*(line(n) for n in range(MAX_SHOWN_LINES // 2))))


def test_a_session_part_without_end_is_refused() -> None:
    lines = "a=group:LS 0\r\n" * MAX_SHOWN_LINES
    assert refused(with_lines().replace("t=0 0\r\n", f"t=0 0\r\n{lines}"))


@pytest.mark.parametrize(
    "line", ["a=fmtp:111 " + "x;" * MAX_SHOWN_WORDS, "a=ssrc-group:FID" + " 1" * MAX_SHOWN_WORDS]
)
def test_one_line_of_words_without_end_is_refused(line: str) -> None:
    assert refused(with_lines(line))


def test_payload_types_without_end_are_refused() -> None:
    assert refused(offers.offer(offers.audio("0", formats="111" + " 111" * MAX_SHOWN_WORDS)))


def test_a_codec_that_is_named_again_and_again_is_refused() -> None:
    own = len([line for line in shown(with_lines()) if line.startswith("a=rtpmap:")])
    again = [f"a=rtpmap:{number} opus/48000/2" for number in range(96, 97 + MAX_CODECS - own)]
    assert refused(with_lines(*again))
    assert not refused(with_lines(*again[1:]))


def test_lines_of_sections_that_are_not_served_are_counted_too() -> None:
    def video(lines: int) -> str:
        section = ["m=video 9 UDP/TLS/RTP/SAVPF 96", "a=mid:1", *["a=x"] * lines]
        return offers.offer(offers.audio("0"), section)

    own = video(0).count("\n")
    assert not refused(video(MAX_LINES - own))
    assert refused(video(MAX_LINES - own + 1))


@pytest.mark.parametrize(
    "text",
    [
        with_lines() + "a=x:" + "y" * sdp.MAX_SDP_BYTES,
        with_lines() + "a=x:" + "é" * (sdp.MAX_SDP_BYTES // 2),
        offers.offer(*(offers.audio(str(number)) for number in range(sdp.MAX_SECTIONS + 1))),
    ],
)
def test_bytes_and_sections_without_end_are_refused(text: str) -> None:
    assert refused(text)
