"""RTP packets in a buffer of ours: the header is packed once and patched per packet.

RFC 3550 section 5.1, and the one-byte header extension of RFC 8285 for the media id, which a
receiver needs to tell bundled streams apart. Takes numbers, fills bytes; no clock, no socket.
"""

from __future__ import annotations

import random
import struct

VERSION = 0x80
EXTENSION = 0x10
MARKER = 0x80
ONE_BYTE_PROFILE = 0xBEDE
CLOCK_HZ = 48_000
# Room for the longest Opus packet, the header and SRTP's trailer (RFC 7714 section 13).
BUFFER_BYTES = 1_500
TRAILER_BYTES = 144


class RtpPacket:
    """The next packet of one outgoing stream, in place.

    `sequence` and `timestamp` are those that the next `patch` writes.
    """

    def __init__(
        self,
        ssrc: int,
        payload_type: int,
        *,
        mid_id: int | None = None,
        mid: str = "",
        rng: random.Random | None = None,
    ) -> None:
        rng = rng or random.SystemRandom()
        self.ssrc = ssrc
        # Below half its range, so that SRTP's rollover counter starts as both sides expect.
        self.sequence = rng.randrange(1 << 15)
        self.timestamp = rng.randrange(1 << 32)
        extension = _mid_extension(mid_id, mid) if mid_id is not None and mid else b""
        first = VERSION | (EXTENSION if extension else 0)
        self.header_bytes = 12 + len(extension)
        self.buffer = bytearray(BUFFER_BYTES)
        self.payload_type = payload_type
        struct.pack_into("!BBHII", self.buffer, 0, first, payload_type, 0, 0, ssrc)
        self.buffer[12 : self.header_bytes] = extension

    def renew(self, ssrc: int, rng: random.Random | None = None) -> None:
        """Begin another stream in place: the same buffer, other numbers from now on."""
        rng = rng or random.SystemRandom()
        self.ssrc = ssrc
        self.sequence = rng.randrange(1 << 15)
        self.timestamp = rng.randrange(1 << 32)
        struct.pack_into("!I", self.buffer, 8, ssrc)

    def patch(self, *, marker: bool, payload_type: int = -1) -> None:
        """Write sequence number, timestamp, marker and type; the payload lies there already."""
        second = self.payload_type if payload_type < 0 else payload_type
        if marker:
            second |= MARKER
        _PATCH.pack_into(self.buffer, 1, second, self.sequence, self.timestamp)
        self.sequence = (self.sequence + 1) & 0xFFFF

    def put(self, payload: bytes) -> int:
        """Lay a payload into the buffer; its length."""
        self.buffer[self.header_bytes : self.header_bytes + len(payload)] = payload
        return len(payload)

    def payload(self, count: int) -> bytes:
        """A copy of the `count` bytes of payload that lie there."""
        return bytes(self.buffer[self.header_bytes : self.header_bytes + count])

    def advance(self, ticks: int) -> None:
        """Move the timestamp on, whether a packet was sent or not."""
        self.timestamp = (self.timestamp + ticks) & 0xFFFFFFFF


_PATCH = struct.Struct("!BHI")


def _mid_extension(extension_id: int, mid: str) -> bytes:
    value = mid.encode()[:16]
    element = bytes([extension_id << 4 | (len(value) - 1)]) + value
    words = -(-len(element) // 4)
    return struct.pack("!HH", ONE_BYTE_PROFILE, words) + element.ljust(4 * words, b"\0")
