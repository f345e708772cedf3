"""Frames of the usual kind without the protocol: one whole binary message, plain and unfragmented.

Audio comes and goes as nothing else, many times a second. Everything that is not exactly this is
the protocol's; `Framing` follows where its frames end, so that what looks like a frame is one, and
that a slot handles no more of them than it has time for.
RFC 6455 section 5. Bytes in, bytes out.
"""

from __future__ import annotations

import os

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the compiled one
    from websockets.utils import apply_mask

BINARY = 0x82  # FIN and the opcode
MASKED = 0x80
SHORT, MEDIUM = 126, 127
MASK_BYTES = 4
# A call of the system for each key would cost more than the masking.
POOL_BYTES = 1_024


class Masks:
    """Keys that nobody can foresee, section 5.3."""

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0

    def take(self) -> bytes:
        """The next key."""
        at = self._at
        if at >= len(self._pool):
            self._pool, at = os.urandom(POOL_BYTES), 0
        self._at = at + MASK_BYTES
        return self._pool[at : at + MASK_BYTES]


def binary(message: bytes, key: bytes) -> bytes:
    """A binary message as a frame; masked, unless the key is empty."""
    bit = MASKED if key else 0
    size = len(message)
    if key:
        message = apply_mask(message, key)
    if size < SHORT:
        return b"%c%c%b%b" % (BINARY, bit | size, key, message)
    if size < 1 << 16:
        return b"%c%c%c%c%b%b" % (BINARY, bit | SHORT, size >> 8, size & 0xFF, key, message)
    return b"%c%c%b%b%b" % (BINARY, bit | MEDIUM, size.to_bytes(8, "big"), key, message)


class Framing:
    """What has come on one connection, as far as frames go."""

    def __init__(self, *, masked: bool, max_bytes: int | None) -> None:
        """`masked`: whether the other side must mask. Longer messages are the protocol's."""
        self._masked = masked
        self._max_bytes = max_bytes
        # What is left of the frame that the protocol is reading.
        self._left = 0

    def whole(self, data: bytes) -> bytes | None:
        """The message, if these bytes are exactly one; None, and they are for the protocol."""
        if self._left or len(data) < SHORT or data[0] != BINARY:
            return None
        size, start = data[1], 2
        if (size >= MASKED) is not self._masked:
            return None
        if self._masked:
            size, start = size - MASKED, start + MASK_BYTES
        if size == SHORT:
            size, start = data[2] << 8 | data[3], start + 2
        elif size == MEDIUM:
            return None
        if start + size != len(data) or (self._max_bytes is not None and size > self._max_bytes):
            return None
        message = data[start:]
        return apply_mask(message, data[start - MASK_BYTES : start]) if self._masked else message

    def cut(self, data: bytes, frames: int) -> tuple[int, int]:
        """How many of these bytes go to the protocol now, and how many frames begin in them.

        At most `frames`, for each costs about 12 µs however small it is; and none whose length is
        not known yet. The bytes that are left come again, with more behind them.
        """
        end, at, count = len(data), self._left, 0
        while at + 2 <= end and count < frames:
            second = data[at + 1]
            size, header = second & 0x7F, 2 + (MASK_BYTES if second & MASKED else 0)
            if size >= SHORT:
                length = 2 if size == SHORT else 8
                if at + 2 + length > end:
                    break
                size = int.from_bytes(data[at + 2 : at + 2 + length], "big")
                header += length
            at += header + size
            count += 1
        taken = min(at, end)
        self._left = at - taken
        return taken, count
