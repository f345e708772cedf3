"""RTCP of an outgoing stream: sender reports, and what the receiver reports back.

RFC 3550 section 6. The NTP and RTP timestamps of a report name the same instant, which is
what round-trip time and lip-sync are computed from. Takes `now`; no clock, no socket.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

SENDER_REPORT = 200
DESCRIPTION = 202
BYE = 203
CNAME = 1
NTP_EPOCH_S = 2_208_988_800
NS_PER_S = 1_000_000_000


@dataclass(slots=True)
class Reception:
    """How the receiver does, by its newest report: fractions of 1, microseconds, packets."""

    fraction_lost: float = 0.0
    packets_lost: int = 0
    jitter_us: int = 0
    rtt_us: int = 0


def ntp_time(unix_ns: int) -> int:
    """64-bit NTP time: seconds since 1900, modulo its era, and a binary fraction."""
    seconds, nanoseconds = divmod(unix_ns, NS_PER_S)
    return (seconds + NTP_EPOCH_S & 0xFFFFFFFF) << 32 | (nanoseconds << 32) // NS_PER_S


def sender_report(
    ssrc: int, cname: str, *, unix_ns: int, rtp_timestamp: int, packets: int, octets: int
) -> bytes:
    """A compound SR and SDES; `rtp_timestamp` is the stream's at `unix_ns`."""
    report = struct.pack(
        "!BBHIQIII",
        0x80,
        SENDER_REPORT,
        6,
        ssrc,
        ntp_time(unix_ns),
        rtp_timestamp & 0xFFFFFFFF,
        packets & 0xFFFFFFFF,
        octets & 0xFFFFFFFF,
    )
    name = cname.encode()[:255]
    chunk = struct.pack("!IBB", ssrc, CNAME, len(name)) + name + b"\0"
    chunk = chunk.ljust(-(-len(chunk) // 4) * 4, b"\0")
    return report + struct.pack("!BBH", 0x81, DESCRIPTION, len(chunk) // 4) + chunk


def bye(ssrc: int) -> bytes:
    """The stream ends."""
    return struct.pack("!BBHI", 0x81, BYE, 1, ssrc)


def round_trip_us(now_unix_ns: int, last_report: int, delay: int) -> int | None:
    """RTT from a report block's LSR and DLSR (section 6.4.1); None before the first SR."""
    if not last_report:
        return None
    now = ntp_time(now_unix_ns) >> 16 & 0xFFFFFFFF
    elapsed = (now - last_report - delay) & 0xFFFFFFFF
    # A receiver's clock may run a little fast: what comes out below zero wraps, and is none.
    return elapsed * 1_000_000 >> 16 if elapsed < 1 << 31 else 0
