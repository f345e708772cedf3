"""What of an offer reaches aiortc, and the answer that is whole again.

aiortc refuses a whole offer for one m-line that it cannot serve. So an offer is split into
its sections, only one audio and one data section pass, and the others are put back into the
answer: video as inactive, the rest as rejected (port 0), each with its mid and in its place
(RFC 8829 section 5.3.1). Text in, text out; no sockets, no state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ipc.errors import SdpRejected, UnsupportedCodec

MAX_SDP_BYTES = 64 * 1024
MAX_LINES = 1_500
MAX_SECTIONS = 32
MAX_CANDIDATES = 20  # of one section
MAX_SOURCES = 64  # lines of one section that describe its SSRCs
MAX_GROUPS = 16  # of such
# Of what aiortc is shown: it holds the beat for microseconds with each line and each word or
# parameter, and for much longer with each codec that it knows.
MAX_SHOWN_LINES = 200
MAX_SHOWN_WORDS = 2_000
MAX_CODECS = 8
OPUS_FMTP = "usedtx=0;useinbandfec=1"
AUDIO_CODECS = re.compile(r"(opus/48000/2|PCMU/8000|PCMA/8000)(/1)?$", re.IGNORECASE)
STATIC_AUDIO = {"0", "8"}
COMFORT_NOISE = "13 CN/8000"
_M_LINE = re.compile(r"m=(\S+) (\d{1,5})(?:/\d+)? (\S+) (\S.*)$")
_BUNDLE = "a=group:BUNDLE"
_FINGERPRINT = re.compile(
    r"a=fingerprint:sha-(?:256|384|512) (?:[0-9a-f]{2}:){31,63}[0-9a-f]{2}$", re.IGNORECASE
)


@dataclass(slots=True)
class Section:
    """One m-line with its attributes."""

    kind: str
    port: int
    protocol: str
    formats: list[str]
    lines: list[str]
    # The section's media id, if it has one.
    mid: str | None = None

    def attributes(self, name: str) -> list[str]:
        """The values of an attribute, in order."""
        prefix = f"a={name}:"
        return [line[len(prefix) :] for line in self.lines if line.startswith(prefix)]

    @property
    def disabled(self) -> bool:
        """Port 0 without bundle-only: the offerer does not want the section."""
        return self.port == 0 and "a=bundle-only" not in self.lines


@dataclass(frozen=True, slots=True)
class Offer:
    """A checked offer: the sections, which of them we serve, and what aiortc may see."""

    session: list[str]
    sections: list[Section]
    served: tuple[int, ...]
    audio: Section
    sdp: str

    @classmethod
    def parse(cls, sdp: str) -> Offer:
        """Check an offer and pick what is served.

        Raises SdpRejected (`sdp_too_large` for what would hold the beat) or UnsupportedCodec.
        """
        session, sections = _split(sdp)
        audio = _pick_audio(sections)
        data = _pick_data(sections)
        served = tuple(i for i in (audio, data) if i is not None)
        served = tuple(sorted(served))
        _check_identity([session, *(sections[i].lines for i in served)])
        kept = {sections[i].mid for i in served}
        lines = [_keep_bundle(line, kept) for line in session]
        for index in served:
            lines += _for_aiortc(sections[index])
        text = "\r\n".join(line for line in lines if line) + "\r\n"
        words = text.count(" ") + text.count(";")
        if len(lines) > MAX_SHOWN_LINES or words > MAX_SHOWN_WORDS:
            raise _too_large(f"{len(lines)} lines, {words} words of audio and data")
        return cls(session, sections, served, sections[audio], text)

    @property
    def wants_stereo(self) -> bool:
        """Whether the caller's Opus says that it plays stereo (RFC 7587 section 6.1)."""
        return any(
            "stereo=1" in value.partition(" ")[2].replace(" ", "").split(";")
            for value in self.audio.attributes("fmtp")
        )

    @property
    def ice_name(self) -> str:
        """The caller's ICE user name; another one in a later offer is another path."""
        return ice_name_of(self.sdp)

    @property
    def red_type(self) -> int | None:
        """The payload type of RED over the Opus that we take; None when it is not offered."""
        opus = self._type_of("opus/48000/2")
        offered = self._type_of("red/48000/2")
        for value in self.audio.attributes("fmtp"):
            kind, _, parameters = value.partition(" ")
            if offered and opus and kind == offered and set(parameters.split("/")) == {opus}:
                return int(offered)
        return None

    @property
    def _has_comfort_noise(self) -> bool:
        """Whether the caller may send comfort noise (RFC 3389), whose number is static."""
        number = COMFORT_NOISE.partition(" ")[0]
        named = [v for v in self.audio.attributes("rtpmap") if v.startswith(f"{number} ")]
        return number in self.audio.formats and all(
            value.strip().upper() == COMFORT_NOISE for value in named
        )

    def _type_of(self, codec: str) -> str | None:
        for value in self.audio.attributes("rtpmap"):
            kind, _, name = value.partition(" ")
            if name.strip().lower() == codec and kind in self.audio.formats:
                return kind
        return None

    def mid_of(self, sdp_mid: str | None, index: int | None) -> str | None:
        """The mid a trickled candidate is for: by mid, or by its place in the whole offer."""
        if sdp_mid is not None:
            return sdp_mid
        if index is not None and 0 <= index < len(self.sections):
            return self.sections[index].mid
        return None

    def answer(self, sdp: str) -> str:
        """aiortc's answer with every section of the offer in place and our Opus parameters."""
        session, answered = _split(sdp)
        if len(answered) != len(self.served):
            raise SdpRejected("the answer does not match the offer")
        by_index = dict(zip(self.served, answered, strict=True))
        transport = _transport_lines(answered[0])
        bundle = [section.mid for section in answered]
        lines: list[str] = []
        for index, offered in enumerate(self.sections):
            section = by_index.get(index)
            if section is not None:
                lines += _with_opus_fmtp(section)
                if section.kind == "audio" and self._has_comfort_noise:
                    lines = _with_comfort_noise(lines, section)
                if section.kind == "audio" and self.red_type is not None:
                    lines = _with_red(lines, section, str(self.red_type))
            elif offered.kind == "video" and not offered.disabled and offered.mid is not None:
                lines += _inactive(offered, transport)
                bundle.append(offered.mid)
            else:
                lines += _rejected(offered)
        order = [s.mid for s in self.sections if s.mid is not None and s.mid in bundle]
        offered_bundle = next((line for line in self.session if line.startswith(_BUNDLE)), "")
        mids = [mid for mid in order if mid in offered_bundle.split()[1:]]
        head = [line for line in session if not line.startswith(_BUNDLE)]
        if mids:
            at = next((i for i, line in enumerate(head) if line.startswith("t=")), len(head) - 1)
            head.insert(at + 1, f"{_BUNDLE} {' '.join(mids)}")
        return "\r\n".join(head + lines) + "\r\n"


def _split(sdp: str) -> tuple[list[str], list[Section]]:
    if len(sdp) > MAX_SDP_BYTES or len(sdp.encode(errors="replace")) > MAX_SDP_BYTES:
        raise _too_large(f"more than {MAX_SDP_BYTES // 1024} KiB")
    if sdp.count("\n") > MAX_LINES:
        raise _too_large(f"more than {MAX_LINES} lines")
    lines = [line for line in re.split(r"\r?\n", sdp) if line]
    if not lines or lines[0] != "v=0":
        raise SdpRejected("this is not SDP: it does not begin with v=0")
    session: list[str] = []
    sections: list[Section] = []
    for line in lines:
        if line.startswith("m="):
            match = _M_LINE.match(line)
            if match is None:
                raise SdpRejected(f"malformed m-line: {line[:80]!r}")
            kind, port, protocol, formats = match.groups()
            sections.append(Section(kind, int(port), protocol, formats.split(), [line]))
            if len(sections) > MAX_SECTIONS:
                raise _too_large(f"more than {MAX_SECTIONS} m-lines")
        elif sections:
            sections[-1].lines.append(line)
            if sections[-1].mid is None and line.startswith("a=mid:"):
                sections[-1].mid = line.removeprefix("a=mid:")
        else:
            session.append(line)
    mids = [section.mid for section in sections if section.mid is not None]
    if len(set(mids)) != len(mids):
        raise SdpRejected("two m-lines have the same mid")
    return session, sections


def _pick_audio(sections: list[Section]) -> int:
    offered = [
        i
        for i, section in enumerate(sections)
        if section.kind == "audio" and not section.disabled and "SAVP" in section.protocol
    ]
    if not offered:
        raise SdpRejected("the offer has no secure audio section", code="no_audio")
    for index in offered:
        section = sections[index]
        codecs = {value.partition(" ")[0]: value for value in section.attributes("rtpmap")}
        for payload_type in section.formats:
            codec = codecs.get(payload_type, "").partition(" ")[2]
            if AUDIO_CODECS.match(codec) or (not codec and payload_type in STATIC_AUDIO):
                return index
    raise UnsupportedCodec("the offer's audio has none of opus, PCMU and PCMA")


def _pick_data(sections: list[Section]) -> int | None:
    for index, section in enumerate(sections):
        if (
            section.kind == "application"
            and not section.disabled
            and section.protocol in ("UDP/DTLS/SCTP", "DTLS/SCTP")
        ):
            return index
    return None


def _check_identity(groups: list[list[str]]) -> None:
    # Bundled sections may leave it to the first one. Without it DTLS could only fail later.
    if not any(_FINGERPRINT.match(line) for lines in groups for line in lines):
        raise SdpRejected("the offer has no sha-256, sha-384 or sha-512 fingerprint")


def _keep_bundle(line: str, kept: set[str | None]) -> str:
    if not line.startswith(_BUNDLE):
        return line
    mids = [mid for mid in line.split()[1:] if mid in kept]
    return f"{_BUNDLE} {' '.join(mids)}" if mids else ""


def _is_mdns(line: str) -> bool:
    # Browsers hide addresses behind .local names. Resolving one is a multicast that most
    # hosts never answer and that would hold up the answer; the checks that the browser
    # sends to us reveal the address anyway (a peer-reflexive candidate).
    return line.startswith("a=candidate:") and is_mdns_candidate(line)


def ice_name_of(sdp: str) -> str:
    """The first ICE user name in an SDP text; "" when there is none."""
    match = re.search(r"^a=ice-ufrag:(\S+)", sdp, re.MULTILINE)
    return match.group(1) if match else ""


def _for_aiortc(section: Section) -> list[str]:
    """Of a section, what makes a difference there, and few of each kind."""
    # aioice pairs and sorts all candidates for each one that is added, and aiortc looks through
    # all sources for each line of one: hundreds would hold the beat.
    left = {"a=candidate:": MAX_CANDIDATES, "a=ssrc:": MAX_SOURCES, "a=ssrc-group:": MAX_GROUPS}
    codecs = {
        value.partition(" ")[0]
        for value in section.attributes("rtpmap")
        if AUDIO_CODECS.match(value.partition(" ")[2])
    }
    kept: list[str] = []
    described = 0
    for line in section.lines:
        at = line.find(":") + 1
        kind = line[:at]
        if kind in left:
            if _is_mdns(line) or not left[kind]:
                continue
            left[kind] -= 1
        elif kind in ("a=rtpmap:", "a=fmtp:"):
            # It answers with codecs that it knows, and with no feedback for audio.
            if line[at:].partition(" ")[0] not in codecs:
                continue
            described += kind == "a=rtpmap:"
        elif kind == "a=rtcp-fb:":
            continue
        kept.append(line)
    if described > MAX_CODECS:
        raise _too_large(f"{described} times a codec that is served")
    return kept


def _too_large(what: str) -> SdpRejected:
    return SdpRejected(f"the SDP is too large: {what}", code="sdp_too_large")


def is_mdns_candidate(candidate: str) -> bool:
    """Whether a candidate line names a host that only multicast DNS can resolve."""
    fields = candidate.split()
    return len(fields) > 4 and fields[4].endswith(".local")


def _transport_lines(section: Section) -> list[str]:
    kept = ("a=ice-ufrag:", "a=ice-pwd:", "a=ice-options:", "a=fingerprint:", "a=setup:")
    return [line for line in section.lines if line.startswith(kept)]


def _with_opus_fmtp(section: Section) -> list[str]:
    lines: list[str] = []
    for line in section.lines:
        lines.append(line)
        if line.startswith("a=rtpmap:") and " opus/" in line.lower():
            payload_type = line.removeprefix("a=rtpmap:").partition(" ")[0]
            lines.append(f"a=fmtp:{payload_type} {OPUS_FMTP}")
    return lines


def _with_red(lines: list[str], section: Section, red: str) -> list[str]:
    """Put RED first (RFC 2198 over what stands behind it), or callers never send it.

    Browsers go by the m-line, others by the order of the rtpmap lines.
    """
    opus = section.formats[0]
    described = f"a=rtpmap:{opus} opus/"
    own = next((line for line in section.lines if line.lower().startswith(described)), None)
    if own is None:
        return lines
    head = section.lines[0]
    kind, port, protocol, *formats = head.split()
    start = lines.index(head)
    lines[start] = " ".join([kind, port, protocol, red, *formats])
    at = lines.index(own, start)
    return [
        *lines[:at],
        *(f"a=rtpmap:{red} red/48000/2", f"a=fmtp:{red} {opus}/{opus}"),
        *lines[at:],
    ]


def _with_comfort_noise(lines: list[str], section: Section) -> list[str]:
    """Take it when we have agreed on G.711; Opus has its own."""
    chosen = f"a=rtpmap:{section.formats[0]} pcm"
    if not any(line.lower().startswith(chosen) for line in section.lines):
        return lines
    head = section.lines[0]
    lines[lines.index(head)] = f"{head} {COMFORT_NOISE.partition(' ')[0]}"
    return [*lines, f"a=rtpmap:{COMFORT_NOISE}"]


def _inactive(offered: Section, transport: list[str]) -> list[str]:
    codecs = [line for line in offered.lines if line.startswith(("a=rtpmap:", "a=fmtp:"))]
    return [
        f"m={offered.kind} 9 {offered.protocol} {' '.join(offered.formats)}",
        "c=IN IP4 0.0.0.0",
        "a=inactive",
        f"a=mid:{offered.mid}",
        "a=rtcp-mux",
        *codecs,
        *transport,
    ]


def _rejected(offered: Section) -> list[str]:
    lines = [
        f"m={offered.kind} 0 {offered.protocol} {' '.join(offered.formats)}",
        "c=IN IP4 0.0.0.0",
        "a=inactive",
    ]
    if offered.mid is not None:
        lines.append(f"a=mid:{offered.mid}")
    return lines
