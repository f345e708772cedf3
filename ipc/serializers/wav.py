"""The 44 bytes that make PCM a WAV file (RIFF, format 1: integer PCM)."""

from __future__ import annotations

import struct

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
SAMPLE_BYTES = 2


def wav_header(byte_count: int, hz: int, channels: int) -> bytes:
    """The header of `byte_count` bytes of int16 samples."""
    stride = SAMPLE_BYTES * channels
    return _HEADER.pack(
        *(b"RIFF", 36 + byte_count, b"WAVE"),
        *(b"fmt ", 16, 1, channels, hz, hz * stride, stride, 8 * SAMPLE_BYTES),
        *(b"data", byte_count),
    )
