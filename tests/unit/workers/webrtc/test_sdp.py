"""Offers of every kind go in; an answer with every section in its place comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import SdpRejected, UnsupportedCodec
from tests.fakes import offers
from workers.webrtc import sdp
from workers.webrtc.sdp import Offer, is_mdns_candidate

CHROME = offers.offer(offers.audio("0"), offers.video("1"), offers.data("2"))


def answered(offer: Offer) -> str:
    """What aiortc might answer: the sections that it was shown, one transport for all."""
    head = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=group:BUNDLE x"]
    lines = list(head)
    for index in offer.served:
        section = offer.sections[index]
        lines += [
            f"m={section.kind} 4000 {section.protocol} {section.formats[0]}",
            "a=ice-ufrag:ours",
            "a=ice-pwd:ourpasswordourpasswordou",
            f"a=fingerprint:sha-256 {offers.FINGERPRINT}",
            "a=setup:active",
        ]
        if section.mid is not None:
            lines.append(f"a=mid:{section.mid}")
        if section.kind == "audio":
            lines.append(f"a=rtpmap:{section.formats[0]} opus/48000/2")
    return offer.answer("\r\n".join(lines) + "\r\n")


def test_audio_and_data_reach_aiortc_and_video_does_not() -> None:
    offer = Offer.parse(CHROME)
    assert [kind for kind, _, _ in offers.summary(offer.sdp)] == ["audio", "application"]
    assert "a=group:BUNDLE 0 2" in offer.sdp.split("\r\n")
    assert offer.audio.mid == "0"
    assert offer.sdp.endswith("\r\n")


def test_the_answer_has_every_section_in_order_with_its_mid() -> None:
    text = offers.offer(
        offers.video("v1"),
        offers.data("d0", protocol="TCP/WSS/BFCP"),
        offers.audio("a"),
        offers.video("v2", port=0),
        offers.audio("b"),
        offers.data("d"),
    )
    answer = answered(Offer.parse(text))
    assert [(kind, port != 0, mid) for kind, port, mid in offers.summary(answer)] == [
        ("video", True, "v1"),
        ("application", False, "d0"),
        ("audio", True, "a"),
        ("video", False, "v2"),
        ("audio", False, "b"),
        ("application", True, "d"),
    ]
    assert "a=group:BUNDLE v1 a d" in answer.split("\r\n")


def test_video_is_answered_inactive_with_its_codecs_and_our_transport() -> None:
    video = offers.sections_of(answered(Offer.parse(CHROME)))[1]
    assert "a=inactive" in video
    assert "a=ice-ufrag:ours" in video
    assert "a=rtpmap:96 VP8/90000" in video
    assert "a=rtcp-mux" in video


def test_a_rejected_section_names_no_transport() -> None:
    text = offers.offer(offers.audio("0"), offers.audio("1"))
    rejected = offers.sections_of(answered(Offer.parse(text)))[1]
    assert not any(line.startswith(("a=ice-", "a=candidate", "a=fingerprint")) for line in rejected)


def test_opus_gets_our_parameters() -> None:
    audio = offers.sections_of(answered(Offer.parse(CHROME)))[0]
    at = audio.index("a=rtpmap:111 opus/48000/2")
    assert audio[at + 1] == f"a=fmtp:111 {sdp.OPUS_FMTP}"


def test_bundle_only_is_served_and_plain_port_0_is_not() -> None:
    bundled = [*offers.data("1", port=0), "a=bundle-only"]
    assert Offer.parse(offers.offer(offers.audio("0"), bundled)).served == (0, 1)
    assert Offer.parse(offers.offer(offers.audio("0"), offers.data("1", port=0))).served == (0,)


def test_an_offer_without_a_bundle_is_answered_without_one() -> None:
    offer = Offer.parse(offers.offer(offers.audio("0"), bundle=""))
    assert "BUNDLE" not in answered(offer)


def test_the_first_audio_section_with_a_known_codec_is_served() -> None:
    foreign = offers.audio("0", formats="9", codecs=["a=rtpmap:9 G722/8000"])
    offer = Offer.parse(offers.offer(foreign, offers.audio("1")))
    assert offer.audio.mid == "1"


@pytest.mark.parametrize("formats", ["0", "8", "0 8"])
def test_static_payload_types_need_no_rtpmap(formats: str) -> None:
    assert Offer.parse(offers.offer(offers.audio(formats=formats, codecs=[]))).served == (0,)


@pytest.mark.parametrize(
    ("formats", "codecs"),
    [
        ("9", ["a=rtpmap:9 G722/8000"]),
        ("111", []),
        ("111", ["a=rtpmap:110 opus/48000/2"]),
        ("111", ["a=rtpmap:111 opus/16000/1"]),
        ("0", ["a=rtpmap:0 telephone-event/8000"]),
    ],
)
def test_audio_without_a_codec_of_ours_is_unsupported(formats: str, codecs: list[str]) -> None:
    with pytest.raises(UnsupportedCodec):
        Offer.parse(offers.offer(offers.audio(formats=formats, codecs=codecs)))


@pytest.mark.parametrize(
    "text",
    [
        offers.offer(offers.video("0")),
        offers.offer(offers.audio("0", port=0)),
        offers.offer(offers.audio("0")).replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"),
        "v=0\r\n",
    ],
)
def test_an_offer_without_secure_audio_is_refused(text: str) -> None:
    with pytest.raises(SdpRejected) as refused:
        Offer.parse(text)
    assert refused.value.code == "no_audio"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\r\n\r\n",
        "hello",
        "V=0\r\n" + CHROME,
        CHROME.replace("m=audio 9", "m=audio x"),
        CHROME.replace("m=audio 9", "m=audio"),
        CHROME.replace("a=mid:2", "a=mid:0"),
        CHROME + "a=x:" + "y" * sdp.MAX_SDP_BYTES,
        "v=0\r\n" + "é" * (sdp.MAX_SDP_BYTES // 2 + 1),
        offers.offer(*(offers.audio(str(number)) for number in range(sdp.MAX_SECTIONS + 1))),
    ],
)
def test_malformed_offers_are_rejected(text: str) -> None:
    with pytest.raises(SdpRejected):
        Offer.parse(text)


@pytest.mark.parametrize("value", ["", "sha-256 zz", "sha-256 AB:CD", "md5 " + offers.FINGERPRINT])
def test_an_offer_without_a_usable_fingerprint_is_refused(value: str) -> None:
    text = CHROME.replace(f"sha-256 {offers.FINGERPRINT}", value)
    with pytest.raises(SdpRejected, match="fingerprint"):
        Offer.parse(text)


def test_a_fingerprint_for_the_whole_session_is_enough() -> None:
    line = f"a=fingerprint:SHA-256 {offers.FINGERPRINT.lower()}"
    audio = [text for text in offers.audio("0") if not text.startswith("a=fingerprint")]
    text = offers.offer(audio).replace("t=0 0\r\n", f"t=0 0\r\n{line}\r\n")
    assert Offer.parse(text).served == (0,)


def test_the_limits_themselves_are_allowed() -> None:
    sections = [offers.audio(str(number)) for number in range(sdp.MAX_SECTIONS)]
    assert len(Offer.parse(offers.offer(*sections)).sections) == sdp.MAX_SECTIONS
    padding = sdp.MAX_SDP_BYTES - len(CHROME) - len("a=x:\r\n")
    assert Offer.parse(CHROME + "a=x:" + "y" * padding + "\r\n").served == (0, 2)


def test_lines_may_end_without_carriage_returns() -> None:
    assert Offer.parse(CHROME.replace("\r\n", "\n")).served == (0, 2)


def test_mdns_candidates_are_kept_from_aiortc_and_others_are_not() -> None:
    extra = [f"a={offers.MDNS}", f"a={offers.CANDIDATE}"]
    shown = Offer.parse(offers.offer(offers.audio(extra=extra))).sdp
    assert offers.CANDIDATE in shown
    assert ".local" not in shown
    assert is_mdns_candidate(offers.MDNS)
    assert not is_mdns_candidate(offers.CANDIDATE)
    assert not is_mdns_candidate("candidate:1 .local")


@pytest.mark.parametrize(
    ("sdp_mid", "index", "mid"),
    [
        ("2", None, "2"),
        ("2", 0, "2"),
        (None, 0, "0"),
        (None, 2, "2"),
        (None, 3, None),
        (None, -1, None),
        (None, None, None),
        ("foreign", None, "foreign"),
    ],
)
def test_a_candidate_finds_its_section_by_mid_or_by_place(
    sdp_mid: str | None, index: int | None, mid: str | None
) -> None:
    assert Offer.parse(CHROME).mid_of(sdp_mid, index) == mid


def test_an_answer_that_does_not_match_the_offer_is_refused() -> None:
    with pytest.raises(SdpRejected):
        Offer.parse(CHROME).answer(offers.offer(offers.audio("0")))


LINES = CHROME.split("\r\n")


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A real offer with lines dropped, doubled, moved, cut, and characters changed."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["drop", "double", "swap", "cut", "replace", "insert"])):
            case "drop":
                del lines[at]
            case "double":
                lines.insert(at, lines[at])
            case "swap":
                other = draw(st.integers(0, len(lines) - 1))
                lines[at], lines[other] = lines[other], lines[at]
            case "cut":
                lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
            case "replace":
                spot = draw(st.integers(0, len(lines[at])))
                lines[at] = lines[at][:spot] + draw(st.text(max_size=5)) + lines[at][spot + 1 :]
            case "insert":
                starts = ["m=audio ", "m=video 0 ", "a=mid:", "a=rtpmap:", "a=group:BUNDLE", ""]
                lines.insert(at, draw(st.sampled_from(starts)) + draw(st.text(max_size=20)))
        lines = lines or [""]
    return "\r\n".join(lines)


@given(mutated())
def test_a_damaged_offer_is_served_or_refused_and_never_anything_else(text: str) -> None:
    try:
        offer = Offer.parse(text)
    except (SdpRejected, UnsupportedCodec):
        return
    shown = offers.summary(offer.sdp)
    assert 1 <= len(shown) <= 2
    kinds = [section.kind for section in offer.sections]
    answer = answered(offer)
    assert [kind for kind, _, _ in offers.summary(answer)] == kinds


@given(st.text(max_size=2000))
def test_any_text_is_refused_in_words(text: str) -> None:
    with pytest.raises((SdpRejected, UnsupportedCodec)):
        Offer.parse("v=0\r\n" + text)


# -- RED ----------------------------------------------------------------------------------


def audio_lines(formats: str, *codecs: str) -> str:
    return offers.offer(offers.audio("0", formats=formats, codecs=codecs))


RTPMAPS = ("a=rtpmap:111 opus/48000/2", "a=rtpmap:63 red/48000/2", "a=rtpmap:0 PCMU/8000")
LOUD = ("a=rtpmap:111 OPUS/48000/2", "a=rtpmap:63 RED/48000/2")


@pytest.mark.parametrize(
    ("formats", "codecs", "red"),
    [
        ("111 63 0", (*RTPMAPS, "a=fmtp:63 111/111"), 63),
        ("111 63", (*LOUD, "a=fmtp:63 111/111/111"), 63),
        ("111 63", RTPMAPS, None),
        ("111 63", (*RTPMAPS, "a=fmtp:63 111/0"), None),
        ("111", (*RTPMAPS, "a=fmtp:63 111/111"), None),
        ("0 63", (*RTPMAPS[1:], "a=fmtp:63 0/0"), None),
    ],
)
def test_red_is_taken_over_the_opus_that_is_offered(
    formats: str, codecs: tuple[str, ...], red: int | None
) -> None:
    assert Offer.parse(audio_lines(formats, *codecs)).red_type == red


def test_the_answer_puts_red_first_and_says_over_what() -> None:
    offer = Offer.parse(offers.offer(offers.audio("0"), offers.data("1")))
    plain = offers.offer(
        offers.audio("0", formats="111 0 8", codecs=(*offers.OPUS, *offers.G711)), offers.data("1")
    )
    section = offers.sections_of(offer.answer(plain))[0]
    assert section[0].split()[3:] == ["63", "111", "0", "8"]
    # Some callers go by the order of these and not by the m-line.
    rtpmaps = [line for line in section if line.startswith("a=rtpmap:")]
    assert rtpmaps[:2] == ["a=rtpmap:63 red/48000/2", "a=rtpmap:111 opus/48000/2"]
    assert "a=fmtp:63 111/111" in section


def test_an_answer_in_another_codec_has_no_red() -> None:
    offer = Offer.parse(offers.offer(offers.audio("0")))
    plain = offers.offer(offers.audio("0", formats="0 8", codecs=offers.G711))
    assert "red" not in offer.answer(plain)


@pytest.mark.parametrize(
    ("formats", "codecs", "first", "taken"),
    [
        ("0 13", ["a=rtpmap:0 PCMU/8000", "a=rtpmap:13 CN/8000"], "0 PCMU/8000", True),
        ("8 13", [], "8 PCMA/8000", True),
        ("0 8", list(offers.G711), "0 PCMU/8000", False),
        ("0 13", ["a=rtpmap:13 telephone-event/8000"], "0 PCMU/8000", False),
        ("111 13", [*offers.OPUS, "a=rtpmap:13 CN/8000"], "111 opus/48000/2", False),
    ],
)
def test_comfort_noise_is_taken_with_g711(
    formats: str, codecs: list[str], first: str, taken: bool
) -> None:
    offer = Offer.parse(audio_lines(formats, *codecs))
    kind = first.partition(" ")[0]
    plain = answered(offer).replace(f"a=rtpmap:{kind} opus/48000/2", f"a=rtpmap:{first}")
    audio = offers.sections_of(offer.answer(plain))[0]
    assert (audio[0].split()[3:] == [kind, "13"]) == taken
    assert ("a=rtpmap:13 CN/8000" in audio) == taken


def test_the_ice_name_tells_one_path_from_another() -> None:
    text = offers.offer(offers.audio("0"))
    assert Offer.parse(text).ice_name == sdp.ice_name_of(text) == "abcd"
    assert sdp.ice_name_of("v=0") == ""
