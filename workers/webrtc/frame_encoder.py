"""From 20 ms of samples to the payload of a packet, and what is sent when nothing is said.

An encoder knows what it was given before, so one that begins anew, or whose last frame never
left, is brought to where the peer's decoder is: by silence, or by the frames that did leave.
Hot path: encodes from where the samples lie into the packet's buffer. Knows no ring and no time.
"""

from __future__ import annotations

import ctypes
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from workers.audio import g711, opus
from workers.audio.unheard import Unheard
from workers.audio.work_frame import WorkFrame
from workers.webrtc.rtp import TRAILER_BYTES

if TYPE_CHECKING:
    from ipc.codec import Codec
    from workers.webrtc.rtp import RtpPacket

FRAMES_PER_S = 50
# What a CELT encoder settles to when it is given digital silence.
OPUS_SILENCE = b"\xf8\xff\xfe"
# Enough for an encoder that was reset to follow the signal again.
PRIMING_FRAMES = 3
# Packets of silence after which both ends' codecs have come to rest.
RESTING = 2


class FrameEncoder:
    """Encodes frames of one rate and number of channels for one stream."""

    def __init__(
        self,
        packet: RtpPacket,
        codec: Codec,
        *,
        hz: int,
        channels: int,
        law: g711.Law | None,
        clock_ticks: int,
        held: bool,
    ) -> None:
        """Opus if there is no `law`; packets of no bytes for a peer that is `held`."""
        self.channels = channels
        self.samples = hz // FRAMES_PER_S
        self.work = WorkFrame(self.samples, channels)
        self.encoder: opus.Encoder
        if held:
            self.encoder, self._silence = Unheard(), b""
        elif law is None:
            self.encoder, self._silence = opus.encoder(hz, channels, codec), OPUS_SILENCE
        else:
            self.encoder = g711.Encoder(law, hz)
            self._silence = bytes([g711.SILENCE[law]]) * clock_ticks
        self._is_opus = law is None
        self._codec = codec
        self._packet = packet
        room = len(packet.buffer) - packet.header_bytes - TRAILER_BYTES
        self._out = (ctypes.c_char * room).from_buffer(packet.buffer, packet.header_bytes)
        # The samples of the last frames as they were encoded; the newest may not have left.
        self._encoded: deque[bytes] = deque(maxlen=1 + PRIMING_FRAMES)
        self.begin_anew()

    def configure(self, codec: Codec) -> bool:
        """Go on with other parameters; False when that takes another encoder."""
        self._codec = codec
        return self.encoder.configure(codec)

    def close(self) -> None:
        """Free the encoder."""
        self.encoder.close()

    def begin_anew(self) -> None:
        """Begin from silence: nothing of the encoder's past rings on."""
        self.encoder.reset()
        # Whether no packet has told the decoder of that.
        self._fresh = self._is_opus
        self._cached = self._silence
        self._quiet = RESTING
        self._encoded.clear()

    # -- frames, each to so many bytes of payload ---------------------------------------------

    def speech(self, address: int, pcm: memoryview) -> int:
        """A frame of samples that lie at `address`."""
        self._encoded.append(bytes(pcm))
        self._fresh = False
        self._quiet = 0
        return self.encoder.encode(address, self.samples, self._out)

    def worked(self) -> int:
        """The frame in `work`."""
        self._encoded.append(self.work.samples.tobytes())
        self._fresh = False
        self._quiet = 0
        return self.encoder.encode(self.work.address, self.samples, self._out)

    def ending(self) -> int:
        """The frame in `work`, behind which nothing of its kind follows."""
        return self.encoder.encode(self.work.address, self.samples, self._out)

    def ended(self) -> None:
        """What was encoded so far is of no use to bring the encoder anywhere."""
        self._encoded.clear()

    def again(self, frame: bytes, channels: int) -> int:
        """A frame which another encoder has seen, in so many channels."""
        if channels < self.channels:
            frame = np.repeat(np.frombuffer(frame, np.int16), self.channels).tobytes()
            channels = self.channels
        self.work.fill(frame, channels)
        count = self.ending()
        self._encoded.append(self.work.samples.tobytes())
        self._quiet = 0
        return count

    @property
    def newest(self) -> bytes:
        """The samples of the newest frame; none of silence."""
        return self._encoded[-1] if self._encoded else b""

    def prime(self) -> None:
        """The newest frame does not leave: be where the decoder is, or a fade would click."""
        self.encoder.reset()
        if self._encoded:
            self._encoded.pop()
        for frame in self._encoded:
            samples = np.frombuffer(frame, np.int16)
            self.encoder.encode(samples.ctypes.data, self.samples, self._out)

    # -- silence ------------------------------------------------------------------------------

    def silence(self, *, behind_speech: bool) -> int:
        """Nothing is said: what is sent until the codecs have come to rest, and from then on."""
        # Behind speech one packet of silence leaves in any case. It takes a decoder to where a
        # fresh encoder begins; one that gets none would go on with the speech for a while.
        stops = self._quiet >= RESTING and not behind_speech
        if not self._codec.silence:
            if self._quiet < RESTING:
                self.begin_anew()
            return 0 if stops else self.rest()
        if self._quiet < RESTING:
            self._encoded.clear()
            self.work.clear()
            count = self.ending()
            self._quiet = self._quiet + 1 if count <= len(OPUS_SILENCE) else 0
            self._cached = self._packet.payload(count)
            return count
        # The same packet again costs nothing.
        return 0 if stops and self._codec.dtx else self.rest()

    def rest(self) -> int:
        """The packet of silence, and the encoder what it makes of the decoder.

        It takes a decoder from wherever it was to rest. Behind it the speech of an encoder that
        is only reset would be 30 dB too quiet, and take 150 ms to recover.
        """
        if self._fresh:
            self._fresh = False
            self.work.clear()
            self.ending()
        return self.cached()

    def cached(self) -> int:
        """The newest packet of silence as it is."""
        return self._packet.put(self._cached)
