"""Frames of the usual kind without the protocol: one whole binary message, plain and unfragmented.

Audio comes and goes as nothing else, many times a second. Everything that is not exactly this is
the protocol's; `Framing` follows where its frames end, so that what looks like a frame is one.
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
        # Of the frame that the protocol is reading: its header as far as it came, what is left.
        self._header = b""
        self._left = 0

    def whole(self, data: bytes) -> bytes | None:
        """The message, if these bytes are exactly one; None, and they are for the protocol."""
        if self._left or self._header or len(data) < SHORT or data[0] != BINARY:
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

    def follow(self, data: bytes) -> None:
        """These bytes went to the protocol."""
        at, end = 0, len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
                continue
            header = self._header + data[at : at + 14 - len(self._header)]
            size = header[1] & 0x7F if len(header) > 1 else 0
            length = 2 + (0, 2, 8)[max(0, size - SHORT + 1)]
            total = length + (MASK_BYTES if len(header) > 1 and header[1] & MASKED else 0)
            if len(header) < total:
                self._header = header
                return
            self._left = int.from_bytes(header[2:length], "big") if length > 2 else size
            at += total - len(self._header)
            self._header = b""
