"""Opus by libopus itself: no frames, no executor, no resampler, packets into a buffer of ours.

The library is the one that PyAV's wheel carries, else the system's, else PyAV's codec API
(slower, and without RESET or DTX control). Rates are 8, 12, 16, 24 or 48 kHz on both sides,
so what a bot chooses needs no resampling. RFC 6716; libopus' `opus_defines.h` for the numbers.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING, Protocol

from ipc.errors import StateError, WorkerError
from workers.audio.libraries import library_paths

if TYPE_CHECKING:
    from pathlib import Path

    from ipc.codec import Codec

MAX_PACKET_BYTES = 1275
APPLICATIONS: dict[str, int] = {"voip": 2048, "audio": 2049, "lowdelay": 2051}
SET_BITRATE = 4002
SET_COMPLEXITY = 4010
SET_INBAND_FEC = 4012
SET_PACKET_LOSS_PERC = 4014
SET_DTX = 4016
RESET_STATE = 4028
GET_LOOKAHEAD = 4027


class Encoder(Protocol):
    """What turns 20 ms of int16 PCM into one packet."""

    lookahead: int

    def encode(self, address: int, samples: int, out: ctypes.Array[ctypes.c_char]) -> int:
        """Encode `samples` per channel that lie at `address`; bytes written to `out`."""
        ...

    def configure(self, params: Codec) -> bool:
        """Go on with other parameters; False when that takes another encoder."""
        ...

    def reset(self) -> None:
        """Forget what was encoded."""
        ...

    def close(self) -> None:
        """Free the encoder."""
        ...


def load(path: Path) -> ctypes.CDLL | None:
    """The library at `path` with its signatures, or None when it is not libopus."""
    try:
        library = ctypes.CDLL(str(path))
        create, encode = library.opus_encoder_create, library.opus_encode
        control, destroy = library.opus_encoder_ctl, library.opus_encoder_destroy
    except (OSError, AttributeError):
        return None
    create.restype = ctypes.c_void_p
    create.argtypes = [ctypes.c_int32, ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_int)]
    encode.restype = ctypes.c_int32
    encode.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_int32,
    ]
    # The control function is variadic: only its fixed arguments are declared, or they would
    # travel in the wrong place on Apple's ARM CPUs (ctypes documentation).
    control.argtypes = [ctypes.c_void_p, ctypes.c_int]
    control.restype = ctypes.c_int
    destroy.argtypes = [ctypes.c_void_p]
    destroy.restype = None
    _declare_decoder(library)
    return library


def _declare_decoder(library: ctypes.CDLL) -> None:
    create, decode = library.opus_decoder_create, library.opus_decode
    create.restype = ctypes.c_void_p
    create.argtypes = [ctypes.c_int32, ctypes.c_int, ctypes.POINTER(ctypes.c_int)]
    decode.restype = ctypes.c_int
    decode.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int32,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_int,
    ]
    library.opus_decoder_destroy.argtypes = [ctypes.c_void_p]
    library.opus_decoder_destroy.restype = None
    if hasattr(library, "opus_packet_has_lbrr"):  # since libopus 1.4
        library.opus_packet_has_lbrr.argtypes = [ctypes.c_char_p, ctypes.c_int32]


@cache
def libopus() -> ctypes.CDLL | None:
    """libopus for this process, or None when only PyAV has it."""
    return next((lib for lib in map(load, library_paths("opus")) if lib is not None), None)


class LibraryEncoder:
    """An encoder of libopus."""

    def __init__(self, library: ctypes.CDLL, hz: int, channels: int, params: Codec) -> None:
        self._library = library
        self._encode = library.opus_encode
        self._application = params.application
        error = ctypes.c_int()
        self._state: int | None = library.opus_encoder_create(
            hz, channels, APPLICATIONS[params.application], ctypes.byref(error)
        )
        if not self._state:
            raise WorkerError(f"libopus refuses an encoder: error {error.value}", code="codec")
        self.configure(params)
        lookahead = ctypes.c_int32()
        library.opus_encoder_ctl(self._state, GET_LOOKAHEAD, ctypes.byref(lookahead))
        self.lookahead = lookahead.value

    def encode(self, address: int, samples: int, out: ctypes.Array[ctypes.c_char]) -> int:
        """Encode from memory into `out`; never fails for whole frames of the encoder's rate."""
        if self._state is None:
            raise StateError("the encoder is closed")
        written: int = self._encode(self._state, address, samples, out, len(out))
        return written

    def configure(self, params: Codec) -> bool:
        """Go on with other parameters; False when that takes another encoder."""
        if params.application != self._application:
            return False  # libopus changes it only before the first packet
        self._set(SET_BITRATE, params.bitrate_bps)
        self._set(SET_COMPLEXITY, params.complexity)
        self._set(SET_INBAND_FEC, int(params.fec))
        self._set(SET_PACKET_LOSS_PERC, params.expected_loss_percent)
        self._set(SET_DTX, int(params.dtx))
        return True

    def reset(self) -> None:
        """Forget what was encoded: the next packet begins from silence."""
        if self._state is not None:
            self._library.opus_encoder_ctl(self._state, RESET_STATE)

    def close(self) -> None:
        """Free the encoder."""
        state, self._state = self._state, None
        if state is not None:
            self._library.opus_encoder_destroy(state)

    def _set(self, request: int, value: int) -> None:
        if self._library.opus_encoder_ctl(self._state, request, ctypes.c_int32(value)) != 0:
            raise WorkerError(f"libopus refuses setting {request}: {value}", code="codec")


class AvEncoder:
    """The last resort: PyAV's codec API, which knows neither RESET nor DTX."""

    def __init__(self, hz: int, channels: int, params: Codec) -> None:
        import av  # only where there is no libopus to load

        self._av = av
        self._hz, self._channels = hz, channels
        self.configure(params)

    def encode(self, address: int, samples: int, out: ctypes.Array[ctypes.c_char]) -> int:
        """Encode from memory into `out`; 0 when the codec still waits for its look-ahead."""
        frame = self._av.AudioFrame(format="s16", layout=self._layout, samples=samples)
        frame.sample_rate = self._hz
        frame.planes[0].update(ctypes.string_at(address, samples * self._channels * 2))
        packet = b"".join(bytes(packet) for packet in self._codec.encode(frame))
        ctypes.memmove(out, packet, len(packet))
        return len(packet)

    def configure(self, params: Codec) -> bool:
        """Begin anew with other parameters: PyAV changes none of an open codec."""
        self._params = params
        # What libopus says of itself: the MDCT's overlap, and 4 ms where SILK may come in.
        silk = 0 if params.application == "lowdelay" else self._hz // 250
        self.lookahead = self._hz // 400 + silk
        self.reset()
        return True

    def reset(self) -> None:
        """Begin anew with a fresh codec."""
        params = self._params
        self._layout = "mono" if self._channels == 1 else "stereo"
        codec = self._av.CodecContext.create("libopus", "w")
        codec.bit_rate = params.bitrate_bps
        codec.format = "s16"
        codec.layout = self._layout
        codec.sample_rate = self._hz
        codec.options = {
            "application": params.application,
            "compression_level": str(params.complexity),
            "fec": str(int(params.fec)),
            "packet_loss": str(params.expected_loss_percent),
        }
        self._codec = codec

    def close(self) -> None:
        """Free the codec."""
        vars(self).pop("_codec", None)


def encoder(hz: int, channels: int, params: Codec) -> Encoder:
    """The best encoder there is for int16 PCM of that rate."""
    library = libopus()
    if library is None:
        return AvEncoder(hz, channels, params)
    return LibraryEncoder(library, hz, channels, params)
