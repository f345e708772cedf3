"""RFC 2198: what is packed can be read, and nothing that can be sent makes the reader fail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.audio import red
from workers.audio.red import MAX_BLOCK_BYTES, MAX_OFFSET, Block

BLOCKS = st.lists(
    st.builds(
        Block,
        st.integers(0, 127),
        st.integers(0, MAX_OFFSET),
        st.binary(max_size=60) | st.binary(min_size=MAX_BLOCK_BYTES, max_size=MAX_BLOCK_BYTES),
    ),
    max_size=5,
)


@given(BLOCKS, st.integers(0, 127), st.binary(max_size=300))
def test_what_is_packed_is_read(blocks: list[Block], payload_type: int, newest: bytes) -> None:
    head = red.header([(b.payload_type, b.back, len(b.payload)) for b in blocks], payload_type)
    data = head + b"".join(block.payload for block in blocks) + newest
    assert red.parse(data) == [*blocks, Block(payload_type, 0, newest)]


@given(BLOCKS, st.integers(0, 127), st.binary(max_size=300), st.binary(max_size=9))
def test_the_packet_itself_is_found_where_it_lies(
    blocks: list[Block], payload_type: int, newest: bytes, before: bytes
) -> None:
    head = red.header([(b.payload_type, b.back, len(b.payload)) for b in blocks], payload_type)
    data = before + head + b"".join(block.payload for block in blocks) + newest
    found = red.newest(memoryview(data + b"behind it"), len(before), len(data))
    assert found == (payload_type, len(data) - len(newest))


@given(st.binary(max_size=200), st.integers(0, 20))
def test_the_packet_itself_is_found_in_any_bytes_that_have_blocks(data: bytes, cut: int) -> None:
    end = max(0, len(data) - cut)
    found, blocks = red.newest(memoryview(data), 0, end), red.parse(data[:end])
    assert (found is None) == (not blocks)
    if found is not None:
        kind, start = found
        assert (kind, data[start:end]) == (blocks[-1].payload_type, blocks[-1].payload)


@given(st.binary(max_size=200))
def test_any_bytes_are_blocks_that_lie_within_them_or_nothing(data: bytes) -> None:
    blocks = red.parse(data)
    assert sum(len(block.payload) for block in blocks) <= len(data)
    assert all(0 <= block.payload_type <= 127 for block in blocks)
    assert not blocks or blocks[-1].back == 0


def test_the_layout_is_that_of_the_standard() -> None:
    # Section 3: F=1, PT 5, offset 0x1234, length 3; then F=0, PT 111; 3 bytes; the rest.
    data = bytes([0x85]) + (0x1234 << 10 | 3).to_bytes(3, "big") + bytes([111]) + b"abcNEW"
    assert red.parse(data) == [Block(5, 0x1234, b"abc"), Block(111, 0, b"NEW")]
    assert red.header([(5, 0x1234, 3)], 111) + b"abcNEW" == data


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x85\x00\x00", b"\x85\x00\x00\x04", b"\x85\x00\x00\x04\x6fabc"]
)
def test_what_is_cut_short_is_refused(data: bytes) -> None:
    assert red.parse(data) == []


def test_copies_are_counted_from_the_newest_and_empty_ones_are_none() -> None:
    blocks = [Block(111, 2880, b"a"), Block(111, 960, b""), Block(111, 960, b"c")]
    head = red.header([(b.payload_type, b.back, len(b.payload)) for b in blocks], 111)
    data = head + b"".join(block.payload for block in blocks) + b"NEW"
    assert red.copies(data) == [(3, blocks[0]), (1, blocks[2])]
    assert red.copies(b"") == []


def test_headers_without_end_are_refused() -> None:
    assert red.parse(b"\x85\x00\x00\x00" * 1_000) == []
