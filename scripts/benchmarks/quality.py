"""How good the sent speech sounds: PESQ (ITU-T P.862.2, wide band) at our settings and at aiortc's.

Codec against codec, without a network: the speech of the benchmarks is encoded as the worker
does it and as aiortc's sender does it, decoded alike, and compared with the original at 16 kHz.
The `pesq` package compiles, so it is no dependency: whoever has it in the environment gets this.
"""

from __future__ import annotations

import ctypes
import importlib.util

import av
import numpy as np
import soxr
from aiortc.codecs.opus import OpusEncoder

from ipc.codec import Codec
from scripts.benchmarks import speech
from scripts.benchmarks.report import Report
from workers.audio import opus

PESQ_HZ = 16_000
SECONDS = 8
NO_PESQ = (
    "PESQ was not measured: the package pesq is not installed here (it needs a C compiler: "
    "pip install pesq)."
)
OURS = {
    "ours: default (lowdelay mono 48 kbit/s, complexity 5)": Codec(),
    "ours: lowdelay mono 32 kbit/s": Codec(bitrate_bps=32_000),
    "ours: voip mono 32 kbit/s with in-band FEC": Codec(
        application="voip", bitrate_bps=32_000, fec=True, expected_loss_percent=10
    ),
}


def measure() -> Report:
    """Every setting's score; 4.64 is the best there is."""
    report = Report("Quality: PESQ of the sent speech (higher is better, at most 4.64)")
    if importlib.util.find_spec("pesq") is None:
        report.notes.append(NO_PESQ)
        return report
    from pesq import pesq  # optional, see above

    original = speech.continuous()[: SECONDS * 48_000 // 960 * 960]
    reference = _narrow(original)
    ways = {name: _ours(original, codec) for name, codec in OURS.items()}
    ways["peer: aiortc's default (voip stereo 96 kbit/s, complexity 10)"] = _stock(original)
    for name, packets in ways.items():
        score = float(pesq(PESQ_HZ, reference, _narrow(_decoded(packets)), "wb"))
        kbps = sum(map(len, packets)) * 8 / (len(packets) * 0.02) / 1000
        report.add(f"{name}, {kbps:.0f} kbit/s used", "MOS-LQO", [score])
    report.notes.append(f"{len(original) / 48_000:.0f} s of synthetic speech, no losses.")
    return report


def _ours(samples: speech.Samples, codec: Codec) -> list[bytes]:
    encoder = opus.encoder(48_000, 1, codec)
    out = (ctypes.c_char * opus.MAX_PACKET_BYTES)()
    packets = []
    for at in range(0, len(samples), 960):
        count = encoder.encode(samples.ctypes.data + 2 * at, 960, out)
        packets.append(out.raw[:count])
    encoder.close()
    return packets


def _stock(samples: speech.Samples) -> list[bytes]:
    encoder = OpusEncoder()
    packets: list[bytes] = []
    for at in range(0, len(samples), 960):
        frame = av.AudioFrame(format="s16", layout="mono", samples=960)
        frame.sample_rate = 48_000
        frame.planes[0].update(samples[at : at + 960].tobytes())
        frame.pts = at
        packets += encoder.encode(frame)[0]
    return packets


def _decoded(packets: list[bytes]) -> speech.Samples:
    decoder = speech.Decoder()
    return np.concatenate([decoder.decode(packet) for packet in packets])


def _narrow(samples: speech.Samples) -> speech.Samples:
    return np.asarray(soxr.resample(samples, 48_000, PESQ_HZ), np.int16)
