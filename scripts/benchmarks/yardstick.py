"""How fast the cores are just now: the time that libopus takes for one frame, in a hot loop.

On a shared machine the same work takes twice as long an hour later. Whoever compares CPU figures
of two runs compares their yardsticks first. Uses nothing of the product that is measured.
"""

from __future__ import annotations

import ctypes
import importlib.util
import time
from pathlib import Path

from scripts.benchmarks import speech

QUIET_US = "47-49"
"""What it was on the quiet machine of the design's figures."""
NAME = "yardstick: Opus lowdelay mono 48 kbit/s complexity 5, one frame in a hot loop"
RESTRICTED_LOWDELAY = 2051
SETTINGS = {4002: 48_000, 4010: 5}  # bitrate and complexity
MAX_PACKET_BYTES = 1275
FRAME = 960


def encode_us(rounds: int = 5) -> list[float]:
    """CPU in µs per frame, the best of some rounds; empty where PyAV brings no libopus."""
    library = _libopus()
    if library is None:
        return []
    error = ctypes.c_int()
    state = library.opus_encoder_create(48_000, 1, RESTRICTED_LOWDELAY, ctypes.byref(error))
    for request, value in SETTINGS.items():
        library.opus_encoder_ctl(ctypes.c_void_p(state), request, ctypes.c_int32(value))
    samples = speech.continuous()
    out = ctypes.create_string_buffer(MAX_PACKET_BYTES)
    frames = len(samples) // FRAME
    encode = library.opus_encode
    took = []
    for _ in range(rounds):
        began = time.process_time_ns()
        for frame in range(frames):
            encode(state, samples.ctypes.data + frame * FRAME * 2, FRAME, out, len(out))
        took.append((time.process_time_ns() - began) / frames / 1000)
    library.opus_encoder_destroy(ctypes.c_void_p(state))
    return [min(took)]


def _libopus() -> ctypes.CDLL | None:
    spec = importlib.util.find_spec("av")
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    found = [
        *(package.parent / "av.libs").glob("libopus*.so*"),
        *(package / ".dylibs").glob("libopus*.dylib"),
    ]
    if not found:
        return None
    library = ctypes.CDLL(str(found[0]))
    library.opus_encoder_create.restype = ctypes.c_void_p
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.opus_encode.argtypes = [pointer, pointer, number, pointer, ctypes.c_int32]
    library.opus_encoder_ctl.argtypes = [pointer, number]  # variadic: the fixed ones only
    return library
