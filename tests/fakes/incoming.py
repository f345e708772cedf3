"""What a caller sends, given to a receiver by hand: packets of any kind, on the manual clock."""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from ipc.codec import Codec
from tests.fakes.audio import tone
from tests.fakes.rings import rings
from workers.audio import opus
from workers.webrtc.receiver import Receiver

if TYPE_CHECKING:
    from ipc.audio_ring import BotRing
    from ipc.clock import ManualClock
    from tests.fakes.audio import Samples

OPUS, RED, CN, DTMF, PCMU, PCMA = 111, 63, 13, 126, 0, 8
KINDS = {
    OPUS: ("opus", 48_000),
    RED: ("red", 48_000),
    CN: ("cn", 8_000),
    DTMF: ("telephone-event", 48_000),
    PCMU: ("pcmu", 8_000),
}
SSRC = 0xDEADBEEF


class Plain:
    """SRTP that changes nothing; what ends with FORGED is not authentic."""

    def __init__(self, buffer: bytearray) -> None:
        self._buffer = buffer

    def unprotect(self, length: int) -> int:
        return 0 if self._buffer[:length].endswith(b"FORGED") else length

    unprotect_rtcp = unprotect


def packets(samples: Samples) -> list[bytes]:
    """Opus, 20 ms each."""
    encoder = opus.encoder(48_000, 1, Codec())
    out = (ctypes.c_char * 1_275)()
    made = []
    for frame in samples.reshape(-1, 960):
        frame = np.ascontiguousarray(frame)
        count = encoder.encode(frame.ctypes.data, 960, out)
        made.append(out.raw[:count])
    encoder.close()
    return made


TONE = packets(tone(440, 48_000))


class Call:
    """A receiver, its ring, and the caller's side of the wire."""

    def __init__(self, clock: ManualClock, hz: int = 48_000, channels: int = 1) -> None:
        self.clock = clock
        self.buffer = bytearray(2_048)
        self.bells = 0
        self.reports: list[Any] = []
        self.receiver = Receiver(clock, self._grew, self.reports.append)
        self.receiver.ring, self.bot = rings(hz, channels)
        self.receiver.start(Plain(self.buffer), self.buffer, KINDS)

    def _grew(self) -> None:
        self.bells += 1

    def give(self, data: bytes) -> None:
        """A datagram."""
        self.buffer[: len(data)] = data
        self.receiver.media(len(data), self.clock.now_ns())

    def rtp(
        self,
        number: int,
        payload: bytes,
        *,
        kind: int = OPUS,
        ssrc: int = SSRC,
        first: int = 0x80,
        head: bytes = b"",
        step: int = 960,
        timestamp: int | None = None,
    ) -> None:
        """Packet `number` of the stream."""
        then = number * step if timestamp is None else timestamp
        self.give(
            struct.pack("!BBHII", first, kind, number & 0xFFFF, then & 0xFFFFFFFF, ssrc)
            + head
            + payload
        )

    def wait(self, ms: int) -> None:
        """Time passes, with a tick each 2 ms."""
        for _ in range(ms // 2):
            self.clock.advance_ms(2)
            self.receiver.tick(self.clock.now_ns())

    def stream(self, payloads: list[bytes], **more: Any) -> None:
        """So many packets, one each 20 ms."""
        for number, payload in enumerate(payloads):
            self.rtp(number, payload, **more)
            self.wait(20)

    def heard(self) -> Samples:
        """All that the bot can read now."""
        return read(self.bot)


def read(bot: BotRing) -> Samples:
    count = bot.mic.hz // 50
    pieces = []
    while (frame := bot.read_mic(min(count, bot.mic_waiting()))) is not None and frame.pcm:
        pieces.append(np.frombuffer(frame.pcm, np.int16))
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
