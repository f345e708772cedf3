"""The tones of telephone keys (ITU-T Q.23): two sines of a key's row and column."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from engine.transports.frames import KeypadEntry

ROWS_HZ = (697, 770, 852, 941)
COLUMNS_HZ = (1209, 1336, 1477)
LAYOUT = "123456789*0#"
TONE_MS, PAUSE_MS = 120, 80
RAMP_MS = 5
LEVEL = 0.25 * 32767


@lru_cache(maxsize=64)
def tone(key: KeypadEntry, hz: int, channels: int = 1) -> bytes:
    """int16 samples of a key and the pause behind it, interleaved, at `hz`."""
    row, column = divmod(LAYOUT.index(KeypadEntry(key).value), len(COLUMNS_HZ))
    seconds = np.arange(hz * TONE_MS // 1000) / hz
    wave = np.sin(2 * np.pi * ROWS_HZ[row] * seconds)
    wave += np.sin(2 * np.pi * COLUMNS_HZ[column] * seconds)
    # Without a ramp the edges click, and a click is heard as other keys, too.
    ramp = np.minimum(1.0, np.arange(len(wave)) / (hz * RAMP_MS / 1000))
    samples = np.zeros(hz * (TONE_MS + PAUSE_MS) // 1000)
    samples[: len(wave)] = wave * ramp * ramp[::-1] * LEVEL
    return np.repeat(samples.astype(np.int16), channels).tobytes()
