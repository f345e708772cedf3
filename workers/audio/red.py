"""RED: earlier packets of a stream carried once more behind later ones (RFC 2198).

A payload is a list of blocks, oldest first, each with its payload type and how far its
timestamp lies back; the last one is the packet itself. Bytes in, blocks out; no state.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MORE = 0x80
MAX_OFFSET = (1 << 14) - 1
MAX_BLOCK_BYTES = (1 << 10) - 1
MAX_BLOCKS = 32


class Block(NamedTuple):
    """One packet inside: `back` is how many RTP ticks before the carrying packet's timestamp."""

    payload_type: int
    back: int
    payload: bytes


def newest(data: memoryview, start: int, end: int) -> tuple[int, int] | None:
    """The packet itself in a payload at `start` to `end`: its type, and where its bytes begin.

    None when the payload is malformed. Nothing is copied.
    """
    at, skipped, most = start, 0, start + 4 * MAX_BLOCKS
    while at < end:
        first = data[at]
        if not first & MORE:
            at += 1 + skipped
            return (first, at) if at <= end else None
        if at + 4 > end or at >= most:
            return None
        skipped += (data[at + 2] & 3) << 8 | data[at + 3]
        at += 4
    return None


def parse(data: bytes) -> list[Block]:
    """The blocks of a RED payload, the newest last; empty when it is malformed."""
    headers: list[tuple[int, int, int]] = []
    at = 0
    while True:
        if at >= len(data):
            return []
        first = data[at]
        if not first & MORE:
            at += 1
            break
        if at + 4 > len(data) or len(headers) == MAX_BLOCKS:
            return []
        word = int.from_bytes(data[at + 1 : at + 4], "big")
        headers.append((first & 0x7F, word >> 10, word & 0x3FF))
        at += 4
    blocks: list[Block] = []
    for payload_type, back, length in headers:
        if at + length > len(data):
            return []
        blocks.append(Block(payload_type, back, data[at : at + length]))
        at += length
    blocks.append(Block(first, 0, data[at:]))
    return blocks


def copies(data: bytes) -> list[tuple[int, Block]]:
    """The earlier packets in a payload, each with how many blocks it stands before the newest."""
    blocks = parse(data)[:-1]
    numbered = zip(range(len(blocks), 0, -1), blocks, strict=True)
    return [(back, block) for back, block in numbered if block.payload]


def header(blocks: list[tuple[int, int, int]], payload_type: int) -> bytes:
    """What stands before the payloads: (payload type, ticks back, bytes) each, then the newest.

    Callers leave out blocks that do not fit: ticks up to 16 383, bytes up to 1 023.
    """
    words = [(MORE | kind) << 24 | back << 10 | length for kind, back, length in blocks]
    return struct.pack(f"!{len(words)}IB", *words, payload_type)
