"""PCM of one shape to another: all of it, in order, hardly late."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support import pattern
from workers.audio.convert import Converter

SHAPES = [
    (8_000, 1, 16_000, 1),
    (8_000, 1, 48_000, 2),
    (24_000, 1, 16_000, 1),
    (44_100, 2, 16_000, 1),
    (48_000, 2, 24_000, 2),
    (16_000, 1, 8_000, 1),
    (16_000, 2, 16_000, 1),
]


def tone(hz: int, channels: int, seconds: float = 1.0) -> bytes:
    samples = 8_000 * np.sin(np.arange(int(hz * seconds)) * 2 * np.pi * 300 / hz)
    return samples.astype(np.int16).repeat(channels).tobytes()


@pytest.mark.parametrize(("from_hz", "from_channels", "to_hz", "to_channels"), SHAPES)
def test_a_tone_stays_what_it_was_and_is_at_most_3_ms_late(
    from_hz: int, from_channels: int, to_hz: int, to_channels: int
) -> None:
    converter = Converter(from_hz, from_channels, to_hz, to_channels)
    data = tone(from_hz, from_channels)
    step = from_hz // 50 * 2 * from_channels
    made = b""
    for at in range(0, len(data), step):
        made += converter.feed(data[at : at + step])
        behind_ms = 1000 * (at + step) / len(data) - 500 * len(made) / (to_hz * to_channels)
        assert behind_ms <= 3
    made += converter.feed(b"", last=True)
    found = np.frombuffer(made, np.int16).reshape(-1, to_channels).astype(float)
    assert abs(len(found) - to_hz) <= to_hz // 1000
    there = 8_000 * np.sin(np.arange(len(found)) * 2 * np.pi * 300 / to_hz)
    middle = slice(to_hz // 50, -to_hz // 50)
    for channel in range(to_channels):
        error = found[middle, channel] - there[middle]
        assert (there[middle] ** 2).mean() / (error**2).mean() > 10_000  # 40 dB


def test_the_same_shape_is_the_same_bytes() -> None:
    assert Converter(16_000, 2, 16_000, 2).feed(pattern(0, 500, 2)) == pattern(0, 500, 2)


def test_pieces_of_any_size_make_the_same_as_one() -> None:
    data = tone(24_000, 1)
    whole = Converter(24_000, 1, 16_000, 1).feed(data, last=True)
    converter, made, at = Converter(24_000, 1, 16_000, 1), b"", 0
    for count in [1, 7, 480, 3, 1_000, 24_000]:
        made += converter.feed(data[2 * at : 2 * (at + count)])
        at += count
    made += converter.feed(b"", last=True)
    assert made == whole


def test_what_is_cleared_is_not_heard_any_more() -> None:
    converter = Converter(24_000, 1, 16_000, 1)
    converter.feed(tone(24_000, 1, 0.1))
    converter.clear()
    assert not any(converter.feed(bytes(2 * 480), last=True))
