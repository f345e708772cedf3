"""Speech of another rate on its way into the ring: a streaming polyphase filter, in numpy.

It holds back 32 samples of the lower rate, 0.7 to 4 ms, which come out with what follows or when
it is drained; soxr's streams hold back 20 to 170, and PyAV's take a bot's loop 0.1 s and more to
import. Windowed sinc (Kaiser): a sine up to 0.85 of the lower rate's half comes out 88 dB
above all else, which is what int16 leaves of it, and aliases are lost in the rounding.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ipc.audio_ring import FRAME_MS
from ipc.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_HZ, MAX_HZ = 8_000, 192_000
CHUNK_MS = 100
# What frames of a pipeline may have; a filter for more would be as long as the speech.
MIN_STREAM_HZ, MAX_STREAM_HZ = 1_000, 768_000
# Samples of the lower rate on each side of a sample that is made.
HALF = 32
# Of the lower rate's half; with this window nothing is left at 1.08 of it.
CUT_OFF = 0.92
KAISER_BETA = 9.0
# Positions between two samples; rates with more in common need fewer, others are off by 1/2048.
MAX_PHASES = 2048
# With more phases samples are made in blocks of so many, whose windows take little memory.
FEW_PHASES, BLOCK = 16, 1024


def check_rate(hz: int) -> None:
    """Raise ConfigError(`rate`) for a rate that cannot be played."""
    if not MIN_HZ <= hz <= MAX_HZ:
        raise ConfigError(f"a rate is {MIN_HZ} to {MAX_HZ} Hz, not {hz}", code="rate")
    if hz * FRAME_MS % 1000:
        raise ConfigError(
            f"{hz} Hz cannot be played: {FRAME_MS} ms of it, an Opus frame, are "
            f"{hz * FRAME_MS / 1000:g} samples; resample it to 16000, 24000 or 48000 Hz",
            code="rate",
        )


class _Filter(NamedTuple):
    """Between two samples that are made lie `down / up` of those given.

    A window has `2 * half` samples, and each row of `bank` weighs them for one phase.
    """

    up: int
    down: int
    half: int
    bank: NDArray[np.float32]


@lru_cache(maxsize=16)
def _filter(hz: int, ring_hz: int) -> _Filter:
    common = math.gcd(hz, ring_hz)
    up, down = ring_hz // common, hz // common
    slower = max(1.0, hz / ring_hz)
    half = math.ceil(HALF * slower)
    phases = min(up, MAX_PHASES)
    away = np.arange(1 - half, half + 1)[None, :] - np.arange(phases)[:, None] / phases
    window = np.i0(KAISER_BETA * np.sqrt(np.clip(1 - (away / half) ** 2, 0, 1)))
    weights = np.sinc(CUT_OFF / slower * away) * window
    weights /= weights.sum(axis=1, keepdims=True)
    return _Filter(up, down, half, weights.astype(np.float32))


class Resampler:
    """One stream of int16 PCM from `hz` to the ring's rate. Raises ConfigError(`rate`)."""

    def __init__(self, hz: int, ring_hz: int, channels: int) -> None:
        if not MIN_STREAM_HZ <= hz <= MAX_STREAM_HZ:
            raise ConfigError(
                f"audio has {MIN_STREAM_HZ} to {MAX_STREAM_HZ} Hz, not {hz}", code="rate"
            )
        self.hz = hz
        self._ring_hz = ring_hz
        self._channels = channels
        self._filter = _filter(hz, ring_hz)
        self.clear()

    def clear(self) -> None:
        """Forget what is held back: a stream begins anew."""
        self._fed = self._given = 0
        # Samples that are still needed, and where the next window begins in them, in 1/up.
        self._kept = np.zeros((self._filter.half - 1, self._channels), np.float32)
        self._at = 0

    def feed(self, pcm: memoryview) -> memoryview:
        """Whole samples in; those that are ready out, at the ring's rate."""
        samples = np.frombuffer(pcm, np.int16).reshape(-1, self._channels)
        self._fed += len(samples)
        return self._bytes(self._make(samples))

    def drain(self) -> memoryview:
        """What is held back; the stream begins anew."""
        silence = np.zeros((self._filter.half + 1, self._channels), np.int16)
        rest = self._bytes(self._make(silence)[: self.held])
        self.clear()
        return rest

    @property
    def held(self) -> int:
        """Samples at the ring's rate that are still to come for what was fed."""
        whole = (2 * self._fed * self._ring_hz + self.hz) // (2 * self.hz)  # rounded
        return max(0, whole - self._given)

    def _make(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        up, down, half, _ = self._filter
        given = np.concatenate((self._kept, samples), dtype=np.float32)
        windows = len(given) - 2 * half + 1
        count = max(0, -((self._at - windows * up) // down))
        made = np.empty((count, self._channels), np.float32)
        if count:
            views = sliding_window_view(given, 2 * half, axis=0)
            if up <= FEW_PHASES:
                self._by_phase(views, made)
            else:
                self._by_block(views, made)
        following = self._at + count * down
        passed = min(following // up, len(given))
        self._kept, self._at = given[passed:], following - passed * up
        return made

    def _by_phase(self, views: NDArray[np.float32], made: NDArray[np.float32]) -> None:
        """Samples of one phase lie at even distances: their windows need not be copied."""
        up, down, _, bank = self._filter
        for first in range(min(up, len(made))):
            begin, phase = divmod(self._at + down * first, up)
            out = made[first::up]
            np.einsum("nct,t->nc", views[begin::down][: len(out)], bank[phase], out=out)

    def _by_block(self, views: NDArray[np.float32], made: NDArray[np.float32]) -> None:
        up, down, _, bank = self._filter
        for first in range(0, len(made), BLOCK):
            out = made[first : first + BLOCK]
            places = np.arange(first, first + len(out))
            begin, phase = np.divmod(self._at + down * places, up)
            np.einsum("nct,nt->nc", views[begin], bank[phase * len(bank) // up], out=out)

    def _bytes(self, samples: NDArray[Any]) -> memoryview:
        self._given += len(samples)
        whole = np.clip(np.rint(samples), -32_768, 32_767).astype(np.int16)
        return memoryview(whole.tobytes())
