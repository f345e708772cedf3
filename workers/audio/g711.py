"""G.711: µ-law (PCMU) and A-law (PCMA), for peers without Opus. ITU-T G.711, by table.

A sample is looked up by its 16 bits, so encoding 20 ms is one numpy index.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Literal

import numpy as np
from av import AudioFrame, AudioResampler

if TYPE_CHECKING:
    from ipc.codec import Codec

Pcm = np.ndarray[tuple[int], np.dtype[np.int16]]
Table = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Law = Literal["PCMU", "PCMA"]
HZ = 8_000
_BIAS = 33


def _ulaw_table() -> Table:
    samples = np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int32)
    magnitude = np.where(samples < 0, -(samples >> 2), samples >> 2) + _BIAS
    magnitude = np.minimum(magnitude, 8_191)
    segment = np.floor(np.log2(magnitude)).astype(np.int32) - 5
    mantissa = (magnitude >> (segment + 1)) & 0x0F
    sign = np.where(samples < 0, 0x80, 0)
    table: Table = (~(sign | segment << 4 | mantissa) & 0xFF).astype(np.uint8)
    return table


def _alaw_table() -> Table:
    samples = np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int32)
    magnitude = np.where(samples < 0, -(samples >> 3) - 1, samples >> 3)
    segment = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 4, 0)
    mantissa = (magnitude >> np.maximum(segment, 1)) & 0x0F
    sign = np.where(samples < 0, 0, 0x80)
    table: Table = ((sign | segment << 4 | mantissa) ^ 0x55).astype(np.uint8)
    return table


def _decoding_table(law: Law) -> Pcm:
    """Each code's middle value: the mean of the samples that are encoded as it."""
    samples = np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int64)
    codes = _TABLES[law]
    sums = np.bincount(codes, weights=samples, minlength=256)
    counts = np.bincount(codes, minlength=256)
    return np.round(sums / np.maximum(counts, 1)).astype(np.int16)


_TABLES: dict[Law, Table] = {"PCMU": _ulaw_table(), "PCMA": _alaw_table()}
_DECODED: dict[Law, Pcm] = {"PCMU": _decoding_table("PCMU"), "PCMA": _decoding_table("PCMA")}
SILENCE: dict[Law, int] = {"PCMU": 0xFF, "PCMA": 0xD5}


def law_of(codec: str) -> Law | None:
    """The law that a codec's name stands for, if it is one of ours."""
    return "PCMU" if codec == "PCMU" else "PCMA" if codec == "PCMA" else None


class Encoder:
    """Any of our rates to G.711, mono. The same calls as an Opus encoder."""

    lookahead = 0

    def __init__(self, law: Law, hz: int) -> None:
        self._law = law
        self._hz = hz
        self.reset()

    def encode(self, address: int, samples: int, out: ctypes.Array[ctypes.c_char]) -> int:
        """Encode `samples` of mono int16 that lie at `address`; bytes written to `out`."""
        pcm = np.frombuffer(ctypes.string_at(address, 2 * samples), np.int16)
        if self._resampler is not None:
            pcm = self._resample(pcm)
        payload = encode(self._law, pcm)
        ctypes.memmove(out, payload, len(payload))
        return len(payload)

    def configure(self, params: Codec) -> bool:
        """G.711 has nothing to configure."""
        return True

    def reset(self) -> None:
        """Forget what was encoded."""
        self._resampler = None if self._hz == HZ else AudioResampler("s16", "mono", HZ)

    def close(self) -> None:
        """Nothing is held."""

    def _resample(self, pcm: Pcm) -> Pcm:
        assert self._resampler is not None  # noqa: S101 - the caller looked
        frame = AudioFrame(format="s16", layout="mono", samples=len(pcm))
        frame.sample_rate = self._hz
        frame.planes[0].update(pcm.tobytes())
        pieces = [piece.to_ndarray().reshape(-1) for piece in self._resampler.resample(frame)]
        out = np.concatenate([np.zeros(0, np.int16), *pieces]).astype(np.int16, copy=False)
        # The first output is short by the filter's delay.
        return np.pad(out, (HZ // 50 - len(out), 0))


def encode(law: Law, samples: Pcm) -> bytes:
    """int16 mono at 8 kHz to one byte a sample."""
    return _TABLES[law][samples.view(np.uint16)].tobytes()


def decoding_table(law: Law) -> Pcm:
    """The int16 sample of each of the 256 codes."""
    return _DECODED[law]
