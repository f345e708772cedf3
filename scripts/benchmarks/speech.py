"""The signal of every benchmark: recorded speech without its pauses, as samples and as packets.

Opus finds tones and silence cheap, so nothing else is ever sent. The pauses are cut out so
that a silent packet on the wire is a hole, never a breath of the speaker.
"""

from __future__ import annotations

import wave
from functools import cache
from pathlib import Path

import av
import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.int16]
RECORDING = Path(__file__).resolve().parents[2] / "engine" / "examples" / "hello.wav"
FRAME_MS = 20
PAUSE_DB = -36.0
"""A 20 ms frame below this RMS level (dB of full scale) is a pause, or a hiss that codecs drop."""
# What Chromium sends: SILK, mono, about 32 kbit/s.
CALLER_BPS = 32_000
CALLER_CODEC = "Opus voip mono 32 kbit/s"


def frames_db(samples: Samples, frame: int) -> NDArray[np.float64]:
    """RMS level of each whole frame, in dB of full scale (digital silence: -120)."""
    whole = samples[: len(samples) // frame * frame].reshape(-1, frame).astype(np.float64)
    rms: NDArray[np.float64] = np.sqrt(np.mean(whole**2, axis=1)) / 32768
    return np.asarray(20 * np.log10(np.maximum(rms, 1e-6)))


@cache
def continuous(hz: int = 48_000) -> Samples:
    """About 3.5 s of mono speech at `hz`, whole 20 ms frames, no pause in it."""
    with wave.open(str(RECORDING)) as file:
        recorded_hz = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    frame = recorded_hz * FRAME_MS // 1000
    whole = samples[: len(samples) // frame * frame].reshape(-1, frame)
    spoken = whole[frames_db(samples, frame) > PAUSE_DB].reshape(-1)
    resampled = np.asarray(soxr.resample(spoken, recorded_hz, hz), np.int16)
    out = hz * FRAME_MS // 1000
    return np.ascontiguousarray(resampled[: len(resampled) // out * out])


@cache
def packets() -> tuple[bytes, ...]:
    """`continuous` as Opus packets of 20 ms, as a browser would send them."""
    codec = av.CodecContext.create("libopus", "w")
    assert isinstance(codec, av.AudioCodecContext)
    codec.bit_rate = CALLER_BPS
    codec.format = "s16"
    codec.layout = "mono"
    codec.sample_rate = 48_000
    codec.options = {"application": "voip", "frame_duration": str(FRAME_MS)}
    encoded: list[bytes] = []
    for samples in continuous().reshape(-1, 960):
        frame = av.AudioFrame(format="s16", layout="mono", samples=960)
        frame.sample_rate = 48_000
        frame.planes[0].update(samples.tobytes())
        encoded += [bytes(packet) for packet in codec.encode(frame)]
    return tuple(encoded)


class Decoder:
    """Opus packets back to samples: what a probe hears."""

    def __init__(self) -> None:
        codec = av.CodecContext.create("libopus", "r")
        assert isinstance(codec, av.AudioCodecContext)
        codec.format = "s16"
        codec.layout = "mono"
        codec.sample_rate = 48_000
        self._codec = codec

    def decode(self, payload: bytes) -> Samples:
        """The samples (48 kHz mono) of one packet of 20 ms."""
        pieces = [
            np.asarray(frame.to_ndarray(), np.int16).reshape(-1)
            for frame in self._codec.decode(av.Packet(payload))
        ]
        heard = np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
        return np.asarray(np.pad(heard, (0, max(0, 960 - len(heard))))[:960])


def known_signal(hz: int = 48_000) -> Samples:
    """0.4 s of speech that begins loudly at its very first sample: what follows a flush."""
    samples = continuous(hz)
    frame = hz * FRAME_MS // 1000
    loudest = int(np.argmax(frames_db(samples[: len(samples) // 2], frame)))
    start = loudest * frame
    start += int(np.argmax(np.abs(samples[start : start + frame])))
    return np.ascontiguousarray(samples[start : start + frame * 20])
