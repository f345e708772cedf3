"""Offers as browsers write them, built section by section."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

FINGERPRINT = ":".join(["AB", "CD"] * 16)
CANDIDATE = "candidate:1 1 udp 2122260223 127.0.0.1 50000 typ host generation 0 network-id 1"
MDNS = (
    "candidate:2 1 udp 2122260223 1b7a4f7e-6f1f-4c6e-9a55-000000000000.local 50001 typ host "
    "generation 0 network-cost 999"
)
OPUS = [
    "a=rtpmap:111 opus/48000/2",
    "a=rtcp-fb:111 transport-cc",
    "a=fmtp:111 minptime=10;useinbandfec=1",
]
G711 = ["a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000"]
VP8 = [
    "a=rtpmap:96 VP8/90000",
    "a=rtcp-fb:96 nack pli",
    "a=rtpmap:97 rtx/90000",
    "a=fmtp:97 apt=96",
]


def transport(mid: str, *, setup: str = "actpass") -> list[str]:
    """The lines that ICE and DTLS want."""
    return [
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789abcdefghijklmn",
        "a=ice-options:trickle",
        f"a=fingerprint:sha-256 {FINGERPRINT}",
        f"a=setup:{setup}",
        f"a=mid:{mid}",
    ]


def audio(
    mid: str = "0",
    *,
    port: int = 9,
    formats: str = "111 63 9 0 8 13 110 126",
    codecs: Sequence[str] = (*OPUS, "a=rtpmap:63 red/48000/2", "a=fmtp:63 111/111", *G711),
    direction: str = "sendrecv",
    extra: Sequence[str] = (),
) -> list[str]:
    """An audio section."""
    return [
        f"m=audio {port} UDP/TLS/RTP/SAVPF {formats}",
        *transport(mid),
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        f"a={direction}",
        "a=msid:- 5f0a4f8e-0000-4000-8000-000000000000",
        "a=rtcp-mux",
        *codecs,
        "a=ssrc:1234567 cname:abcdefgh",
        *extra,
    ]


def video(mid: str = "1", *, port: int = 9, extra: Sequence[str] = ()) -> list[str]:
    """A video section."""
    return [
        f"m=video {port} UDP/TLS/RTP/SAVPF 96 97",
        *transport(mid),
        "a=sendrecv",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        *VP8,
        *extra,
    ]


def data(mid: str = "2", *, port: int = 9, protocol: str = "UDP/DTLS/SCTP") -> list[str]:
    """A data channel section."""
    return [
        f"m=application {port} {protocol} webrtc-datachannel",
        *transport(mid),
        "a=sctp-port:5000",
        "a=max-message-size:262144",
    ]


def offer(*sections: Sequence[str], bundle: str | None = None) -> str:
    """A whole offer; the bundle holds every section unless told."""
    mids = [
        line.removeprefix("a=mid:")
        for section in sections
        for line in section
        if line.startswith("a=mid:")
    ]
    group = " ".join(mids) if bundle is None else bundle
    head = ["v=0", "o=- 4611731400430051336 2 IN IP4 127.0.0.1", "s=-", "t=0 0"]
    if group:
        head.append(f"a=group:BUNDLE {group}")
    head += ["a=extmap-allow-mixed", "a=msid-semantic: WMS *"]
    return "\r\n".join([*head, *(line for section in sections for line in section)]) + "\r\n"


def sections_of(sdp: str) -> list[list[str]]:
    """The sections of an SDP text, as their lines."""
    sections: list[list[str]] = []
    for line in sdp.split("\r\n"):
        if line.startswith("m="):
            sections.append([])
        if sections and line:
            sections[-1].append(line)
    return sections


def summary(sdp: str) -> list[tuple[str, int, str]]:
    """Kind, port and mid of each section."""
    found = []
    for section in sections_of(sdp):
        kind, port = section[0].removeprefix("m=").split()[:2]
        mid = next((line[len("a=mid:") :] for line in section if line.startswith("a=mid:")), "")
        found.append((kind, int(port), mid))
    return found
