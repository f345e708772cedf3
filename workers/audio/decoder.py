"""Packets to int16 PCM at the bot's rate, into one buffer that is used again for each.

Opus by libopus at the rate that the bot has chosen, so nothing is resampled; G.711 by table;
PyAV's codec where no libopus can be loaded. What was lost is concealed by the decoder's own
memory, and fades. RFC 6716, RFC 7587; ITU-T G.711.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from av import AudioFrame, AudioResampler, CodecContext, FFmpegError, Packet

from ipc.errors import WorkerError
from workers.audio import g711, opus
from workers.audio.comfort import ComfortNoise

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PACKET_MS = 120
# From the sixth lost frame on libopus makes noise, louder than the fifth: it must be over by then.
FADE_MS = 100
OPUS_CLOCK_HZ = 48_000
# Bit 7 of an Opus packet's first byte: CELT, which carries no in-band redundancy.
CELT = 0x80


class Decoder(Protocol):
    """Decodes one stream. Each call writes interleaved int16 to the start of `pcm`."""

    clock_hz: int
    pcm: NDArray[np.int16]

    def decode(self, data: int | bytes, length: int) -> int:
        """A packet's samples per channel; 0 when it is broken."""
        ...

    def recover(self, data: int | bytes, length: int, samples: int) -> int:
        """The packet before this one from its in-band redundancy; 0 when it has none."""
        ...

    def conceal(self, samples: int) -> int:
        """So many samples per channel that sound like what came before, ever softer."""
        ...

    def comfort(self, samples: int) -> int:
        """The background of a sender that paused; 0 when the codec knows none."""
        ...

    def tell(self, data: int | bytes, length: int) -> None:
        """A comfort-noise packet (RFC 3389) says how its sender's pause sounds."""
        ...

    def close(self) -> None:
        """Free the decoder."""
        ...


class Fade:
    """From full level to silence in 100 ms of concealment; a decoded packet begins it anew."""

    def __init__(self, hz: int, channels: int) -> None:
        self._channels = channels
        self._length = hz * FADE_MS // 1000
        self._done = 0

    def reset(self) -> None:
        """Something real was heard."""
        self._done = 0

    def apply(self, pcm: NDArray[np.int16]) -> None:
        """Turn the next concealed samples down in place."""
        count = len(pcm) // self._channels
        gain = 1 - (self._done + np.arange(1, count + 1)) / self._length
        pcm[:] = pcm * np.repeat(gain.clip(0, 1), self._channels)
        self._done += count


class OpusDecoder:
    """libopus."""

    clock_hz = OPUS_CLOCK_HZ

    def __init__(self, library: Any, hz: int, channels: int) -> None:
        self._library = library
        self._decode = library.opus_decode
        self._has_redundancy = getattr(library, "opus_packet_has_lbrr", None)
        error = ctypes.c_int()
        self._state: int | None = library.opus_decoder_create(hz, channels, ctypes.byref(error))
        if not self._state:
            raise WorkerError(f"libopus refuses a decoder: error {error.value}", code="codec")
        self._channels = channels
        self._most = hz * MAX_PACKET_MS // 1000
        self._quantum = hz // 400  # libopus conceals in steps of 2.5 ms
        self.pcm = np.zeros(self._most * channels, np.int16)
        self._address = self.pcm.ctypes.data
        self._fade = Fade(hz, channels)
        self._faded = False

    def decode(self, data: int | bytes, length: int) -> int:
        """A packet's samples per channel; 0 when it is broken."""
        if self._faded:
            self._faded = False
            self._fade.reset()
        count: int = self._decode(self._state, data, length, self._address, self._most, 0)
        return count if count > 0 else 0

    def recover(self, data: int | bytes, length: int, samples: int) -> int:
        """The packet before this one from its in-band redundancy; 0 when it has none."""
        packet = data if isinstance(data, bytes) else ctypes.string_at(data, length)
        if not packet or packet[0] & CELT or self._has_redundancy is None:
            return 0
        if self._has_redundancy(packet, length) != 1:
            return 0
        count = min(samples, self._most) // self._quantum * self._quantum
        done: int = self._decode(self._state, packet, length, self._address, count, 1)
        return done if done > 0 else 0

    def conceal(self, samples: int) -> int:
        """So many samples per channel that sound like what came before, ever softer."""
        done = self.comfort(samples)
        self._faded = True
        self._fade.apply(self.pcm[: done * self._channels])
        return done

    def comfort(self, samples: int) -> int:
        """What the decoder itself makes of silence on the wire."""
        count = min(samples, self._most) // self._quantum * self._quantum
        if not count:
            return 0
        done: int = self._decode(self._state, None, 0, self._address, count, 0)
        return done if done > 0 else 0

    def tell(self, data: int | bytes, length: int) -> None:
        """Nothing: Opus has its own."""

    def close(self) -> None:
        """Free the decoder."""
        state, self._state = self._state, None
        if state is not None:
            self._library.opus_decoder_destroy(state)


class FrameDecoder:
    """A decoder that works on PyAV's frames or on bytes, resampled to the bot's rate."""

    def __init__(self, hz: int, channels: int) -> None:
        self._hz = hz
        self._channels = channels
        self.pcm = np.zeros(hz * MAX_PACKET_MS // 1000 * channels, np.int16)
        self._last = np.zeros(0, np.int16)
        self._fade = Fade(hz, channels)
        self._resampler = AudioResampler("s16", "mono" if channels == 1 else "stereo", hz)

    def recover(self, data: int | bytes, length: int, samples: int) -> int:
        """Nothing: there is no redundancy, or no access to it."""
        return 0

    def comfort(self, samples: int) -> int:
        """Nothing: the codec knows no background."""
        return 0

    def tell(self, data: int | bytes, length: int) -> None:
        """Nothing: the codec knows no background."""

    def conceal(self, samples: int) -> int:
        """The last packet again, ever softer."""
        count = min(samples * self._channels, len(self.pcm))
        if len(self._last):
            self.pcm[:count] = np.resize(self._last, count)
            self._fade.apply(self.pcm[:count])
        else:
            self.pcm[:count] = 0
        return count // self._channels

    def close(self) -> None:
        """Nothing is held."""

    def _put(self, frames: list[AudioFrame]) -> int:
        self._fade.reset()
        at = 0
        for frame in frames:
            for piece in self._resampler.resample(frame):
                samples = piece.to_ndarray().reshape(-1)[: len(self.pcm) - at]
                self.pcm[at : at + len(samples)] = samples
                at += len(samples)
        self._last = self.pcm[:at].copy()
        return at // self._channels


class AvOpusDecoder(FrameDecoder):
    """Opus by PyAV, where no libopus can be loaded."""

    clock_hz = OPUS_CLOCK_HZ

    def __init__(self, hz: int, channels: int) -> None:
        super().__init__(hz, channels)
        self._codec = CodecContext.create("libopus", "r")
        self._codec.sample_rate = OPUS_CLOCK_HZ

    def decode(self, data: int | bytes, length: int) -> int:
        """A packet's samples per channel; 0 when it is broken."""
        packet = data if isinstance(data, bytes) else ctypes.string_at(data, length)
        try:
            frames = self._codec.decode(Packet(packet))
        except FFmpegError:
            return 0
        return self._put(frames)


class G711Decoder(FrameDecoder):
    """µ-law or A-law, by table."""

    clock_hz = g711.HZ

    def __init__(self, law: g711.Law, hz: int, channels: int) -> None:
        super().__init__(hz, channels)
        self._table = g711.decoding_table(law)
        self._noise = ComfortNoise(hz, channels)

    def decode(self, data: int | bytes, length: int) -> int:
        """A packet's samples per channel; 0 when it is empty or longer than 120 ms."""
        if not 0 < length <= g711.HZ * MAX_PACKET_MS // 1000:
            return 0
        packet = data if isinstance(data, bytes) else ctypes.string_at(data, length)
        samples = self._table[np.frombuffer(packet, np.uint8)]
        frame = AudioFrame(format="s16", layout="mono", samples=length)
        frame.sample_rate = g711.HZ
        frame.planes[0].update(samples.tobytes())
        first = not len(self._last)
        count = self._put([frame])
        if first:
            count = self._lead_in(count, length * self._hz // g711.HZ)
        if self._noise.heard:
            self._noise.end(self.pcm[: count * self._channels])
        return count

    def _lead_in(self, count: int, wanted: int) -> int:
        """The first output is short by the filter's delay: silence stands before it."""
        missing = (wanted - count) * self._channels
        if missing > 0:
            end = count * self._channels
            self.pcm[missing : end + missing] = self.pcm[:end].copy()
            self.pcm[:missing] = 0
        return max(count, wanted)

    def tell(self, data: int | bytes, length: int) -> None:
        """A comfort-noise packet: its first byte is the level."""
        if length:
            self._noise.tell(ctypes.string_at(data, 1)[0] if isinstance(data, int) else data[0])

    def comfort(self, samples: int) -> int:
        """Noise of the level that was told last; 0 before any was."""
        return self._noise.fill(self.pcm, samples)

    def conceal(self, samples: int) -> int:
        """The last packet again, ever softer; in a pause its noise."""
        return self.comfort(samples) if self._noise.heard else super().conceal(samples)


def decoder(codec: str, hz: int, channels: int) -> Decoder:
    """A decoder for opus, PCMU or PCMA that gives PCM of that shape."""
    law = g711.law_of(codec)
    if law is not None:
        return G711Decoder(law, hz, channels)
    library = opus.libopus()
    return AvOpusDecoder(hz, channels) if library is None else OpusDecoder(library, hz, channels)
