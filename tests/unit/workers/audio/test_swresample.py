"""libswresample by itself: the same samples as PyAV's graph, no threads, and what it refuses."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ipc.errors import WorkerError
from workers.audio import swresample
from workers.audio.convert import Converter
from workers.audio.swresample import GraphResampler, SwResampler, libswresample, new_resampler

if TYPE_CHECKING:
    from workers.audio.swresample import Resampler

RATES = [(24_000, 16_000), (16_000, 24_000), (8_000, 48_000), (44_100, 16_000)]
TASKS = Path("/proc/self/task")


def sound(hz: int, channels: int, seconds: float = 0.3) -> bytes:
    rng = np.random.default_rng(7)
    tone = 9_000 * np.sin(np.arange(int(hz * seconds)) * 2 * np.pi * 440 / hz)
    return (
        (tone.repeat(channels) + rng.normal(0, 300, len(tone) * channels)).astype("<i2").tobytes()
    )


def through(resampler: Resampler, data: bytes, step: int) -> bytes:
    pieces = [resampler.feed(data[at : at + step]) for at in range(0, len(data), step)]
    return b"".join(pieces) + resampler.drain()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_the_library_and_the_graph_make_the_same(from_hz: int, to_hz: int, channels: int) -> None:
    library = libswresample()
    assert library is not None, "PyAV's wheel brings it"
    data, step = sound(from_hz, channels), from_hz // 50 * 2 * channels
    ours = np.frombuffer(through(SwResampler(library, from_hz, to_hz, channels), data, step), "<i2")
    graph = np.frombuffer(through(GraphResampler(from_hz, to_hz, channels), data, step), "<i2")
    assert abs(len(ours) - len(graph)) <= 8 * channels
    both = min(len(ours), len(graph))
    assert np.abs(ours[:both].astype(int) - graph[:both]).max() <= 1


def test_nothing_and_views_are_taken_too() -> None:
    resampler = new_resampler(24_000, 16_000, 1)
    assert resampler.feed(b"") == b""
    assert len(resampler.feed(memoryview(bytes(960))[480:])) > 0
    assert len(resampler.drain()) > 0


@pytest.mark.skipif(not TASKS.exists(), reason="no /proc")
def test_no_thread_is_started() -> None:
    before, known = len([*TASKS.iterdir()]), threading.active_count()
    converters = [Converter(48_000, 2, 16_000, 1) for _ in range(8)]
    for converter in converters:
        converter.feed(bytes(7_680))
    assert len([*TASKS.iterdir()]) - before == threading.active_count() - known


def test_without_the_library_the_graph_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swresample, "libswresample", lambda: None)
    assert isinstance(new_resampler(24_000, 16_000, 1), GraphResampler)
    assert swresample.load(Path("/nonexistent/libswresample.so")) is None


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(WorkerError):
        new_resampler(0, 16_000, 1)


def test_two_channels_become_their_mean() -> None:
    left, right = (
        np.array([32_767, -32_768, 5, 0], "<i2"),
        np.array([32_767, -32_768, 8, -1], "<i2"),
    )
    made = Converter(16_000, 2, 16_000, 1).feed(np.stack((left, right), axis=1).tobytes())
    assert np.frombuffer(made, "<i2").tolist() == [32_767, -32_768, 6, -1]
