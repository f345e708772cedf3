"""RTCP of both directions: our sender reports with their report blocks, and the peer's.

RFC 3550 section 6. The NTP and RTP timestamps of a report name the same instant, which is
what round-trip time and lip-sync are computed from. Takes `now`; no clock, no socket.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal, NamedTuple

SENDER_REPORT = 200
RECEIVER_REPORT = 201
DESCRIPTION = 202
BYE = 203
TRANSPORT_FEEDBACK = 205
PAYLOAD_FEEDBACK = 206
# The formats of feedback that we know (RFC 4585 section 6, RFC 5104 section 4.3).
NACK, PLI, FIR, APPLICATION = 1, 1, 4, 15
MOST_BPS = (1 << 63) - 1
CNAME = 1
NTP_EPOCH_S = 2_208_988_800
NS_PER_S = 1_000_000_000
_BLOCK = struct.Struct("!IIIIII")
BLOCK_BYTES = _BLOCK.size
MAX_PACKETS = 16


class Block(NamedTuple):
    """How a stream arrives, by the other side's report; `fraction_lost` is of 256."""

    ssrc: int
    fraction_lost: int
    packets_lost: int
    highest: int
    jitter: int
    lsr: int
    dlsr: int


class Feedback(NamedTuple):
    """What a peer asks the senders of some streams for; the bitrate is the limit of a REMB."""

    what: Literal["nack", "pli", "fir", "remb"]
    streams: tuple[int, ...]
    bitrate_bps: int = 0


class Report(NamedTuple):
    """One RTCP packet of the peer's; `ntp` is 0 unless it is a sender report."""

    kind: int
    ssrc: int
    ntp: int
    rtp_timestamp: int
    reports: tuple[Block, ...]
    feedback: Feedback | None = None


@dataclass(slots=True)
class Reception:
    """How the receiver does, by its newest report: fractions of 1, microseconds, packets.

    `reports` and `round_trips` tell how many there were, and how often a trip was measured.
    `nacks`, `plis` and `firs` count what it asked for; `limit_bps` is its REMB, 0 before any.
    """

    fraction_lost: float = 0.0
    packets_lost: int = 0
    jitter_us: int = 0
    rtt_us: int = 0
    reports: int = 0
    round_trips: int = 0
    nacks: int = 0
    plis: int = 0
    firs: int = 0
    limit_bps: int = 0

    def asked(self, feedback: Feedback, ssrc: int) -> None:
        """Count what is asked for the stream `ssrc`; we have not agreed to send anything again."""
        if ssrc not in feedback.streams:
            return
        if feedback.what == "nack":
            self.nacks += 1
        elif feedback.what == "pli":
            self.plis += 1
        elif feedback.what == "fir":
            self.firs += 1
        else:
            self.limit_bps = feedback.bitrate_bps


def ntp_time(unix_ns: int) -> int:
    """64-bit NTP time: seconds since 1900, modulo its era, and a binary fraction."""
    seconds, nanoseconds = divmod(unix_ns, NS_PER_S)
    return (seconds + NTP_EPOCH_S & 0xFFFFFFFF) << 32 | (nanoseconds << 32) // NS_PER_S


def sender_report(
    ssrc: int,
    cname: str,
    *,
    unix_ns: int,
    rtp_timestamp: int,
    packets: int,
    octets: int,
    blocks: bytes = b"",
) -> bytes:
    """A compound SR and SDES; `rtp_timestamp` is the stream's at `unix_ns`.

    `blocks` are report blocks on what comes from the peer.
    """
    report = struct.pack(
        "!BBHIQIII",
        0x80 | len(blocks) // BLOCK_BYTES,
        SENDER_REPORT,
        6 + len(blocks) // 4,
        ssrc,
        ntp_time(unix_ns),
        rtp_timestamp & 0xFFFFFFFF,
        packets & 0xFFFFFFFF,
        octets & 0xFFFFFFFF,
    )
    return report + blocks + _description(ssrc, cname)


def receiver_report(ssrc: int, cname: str, blocks: bytes = b"") -> bytes:
    """A compound RR and SDES, of one who sends nothing; `blocks` as in a sender report."""
    head = struct.pack(
        "!BBHI", 0x80 | len(blocks) // BLOCK_BYTES, RECEIVER_REPORT, 1 + len(blocks) // 4, ssrc
    )
    return head + blocks + _description(ssrc, cname)


def _description(ssrc: int, cname: str) -> bytes:
    name = cname.encode()[:255]
    chunk = struct.pack("!IBB", ssrc, CNAME, len(name)) + name + b"\0"
    chunk = chunk.ljust(-(-len(chunk) // 4) * 4, b"\0")
    return struct.pack("!BBH", 0x81, DESCRIPTION, len(chunk) // 4) + chunk


def bye(ssrc: int, cname: str) -> bytes:
    """The stream ends: a compound packet, or strict receivers would not read it (section 6.1)."""
    return receiver_report(ssrc, cname) + struct.pack("!BBHI", 0x81, BYE, 1, ssrc)


def round_trip_us(now_unix_ns: int, last_report: int, delay: int) -> int | None:
    """RTT from a report block's LSR and DLSR (section 6.4.1); None before the first SR."""
    if not last_report:
        return None
    now = ntp_time(now_unix_ns) >> 16 & 0xFFFFFFFF
    elapsed = (now - last_report - delay) & 0xFFFFFFFF
    # A receiver's clock may run a little fast: what comes out below zero wraps, and is none.
    return elapsed * 1_000_000 >> 16 if elapsed < 1 << 31 else 0


def report_block(
    ssrc: int, *, fraction: int, lost: int, highest: int, jitter: int, last: int, delay: int
) -> bytes:
    """How one incoming stream does (section 6.4.1); `fraction` is of 256."""
    lost = max(-0x800000, min(0x7FFFFF, lost)) & 0xFFFFFF
    return _BLOCK.pack(
        ssrc,
        (fraction & 0xFF) << 24 | lost,
        highest & 0xFFFFFFFF,
        jitter & 0xFFFFFFFF,
        last,
        delay & 0xFFFFFFFF,
    )


def parse(data: bytes) -> list[Report]:
    """The reports, byes and feedback of a compound packet; what is malformed ends it."""
    found: list[Report] = []
    at = 0
    for _ in range(MAX_PACKETS):
        if at + 8 > len(data) or data[at] >> 6 != 2:
            break
        count, kind = data[at] & 0x1F, data[at + 1]
        end = at + 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data):
            break
        ssrc = int.from_bytes(data[at + 4 : at + 8], "big")
        ntp = rtp_timestamp = 0
        first = at + 8
        if kind == SENDER_REPORT and end >= at + 28:
            ntp, rtp_timestamp = struct.unpack_from("!QI", data, first)
            first = at + 28
        if kind in (SENDER_REPORT, RECEIVER_REPORT):
            fitting = min(count, (end - first) // BLOCK_BYTES)
            blocks = tuple(_block(data, first + BLOCK_BYTES * n) for n in range(fitting))
            found.append(Report(kind, ssrc, ntp, rtp_timestamp, blocks))
        elif kind == BYE and count:
            found.append(Report(kind, ssrc, 0, 0, ()))
        elif kind in (TRANSPORT_FEEDBACK, PAYLOAD_FEEDBACK):
            padding = data[end - 1] if data[at] & 0x20 else 0
            feedback = _feedback(kind, count, data[at + 8 : max(at + 8, end - padding)])
            if feedback is not None:
                found.append(Report(kind, ssrc, 0, 0, (), feedback))
        at = end
    return found


def _feedback(kind: int, form: int, data: bytes) -> Feedback | None:
    """What feedback asks for; `data` begins with the SSRC that it is about."""
    words = len(data) // 4
    if not words:
        return None
    about, *rest = struct.unpack_from(f"!{words}I", data)
    if kind == TRANSPORT_FEEDBACK:
        return Feedback("nack", (about,)) if form == NACK and rest else None
    if form == PLI:
        return Feedback("pli", (about,))
    if form == FIR and len(rest) > 1:
        return Feedback("fir", tuple(rest[: len(rest) // 2 * 2 : 2]))
    if form == APPLICATION and len(rest) > 1 and data[4:8] == b"REMB":
        count, exponent = rest[1] >> 24, rest[1] >> 18 & 0x3F
        streams = tuple(rest[2:])
        if 0 < count == len(streams):
            return Feedback("remb", streams, min(MOST_BPS, (rest[1] & 0x3FFFF) << exponent))
    return None


def _block(data: bytes, at: int) -> Block:
    ssrc, losses, highest, jitter, lsr, dlsr = _BLOCK.unpack_from(data, at)
    lost = losses & 0xFFFFFF
    return Block(
        ssrc, losses >> 24, lost - (1 << 24) if lost >> 23 else lost, highest, jitter, lsr, dlsr
    )
