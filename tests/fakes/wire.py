"""Where a sender's packets go in unit tests: kept, parsed and decoded, without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from aiortc.rtp import RtcpPacket, RtpPacket
from av import CodecContext, Packet

from workers.webrtc import rtp

if TYPE_CHECKING:
    from ipc.audio_ring import BotRing
    from ipc.clock import ManualClock
    from tests.fakes.audio import Samples
    from workers.webrtc.sender import Sender

FRAME = 960


class Wire:
    """What has left, and a decoder that plays it."""

    def __init__(self, sender: Sender, clock: ManualClock, codec: str = "opus") -> None:
        self.sender, self.clock = sender, clock
        self.datagrams: list[bytes] = []
        self.broken = False
        packet = rtp.RtpPacket(1234, 96, mid_id=1, mid="0")
        self.buffer = packet.buffer
        hz = 48_000 if codec == "opus" else 8_000
        sender.start(packet, self, self, codec=codec, clock_hz=hz, cname="us")
        self._decoder = CodecContext.create("libopus", "r")
        self._decoder.layout = "mono"
        self._decoder.sample_rate = 48_000

    def protect(self, length: int) -> int:
        return 0 if self.broken else length

    def protect_rtcp(self, packet: bytes) -> bytes:
        return packet

    def send(self, data: bytes | memoryview) -> bool:
        self.datagrams.append(bytes(data))
        return True

    def run(self, frames: int = 1) -> None:
        """The pacer's order: encoded a slot ahead, sent on the beat."""
        for _ in range(frames):
            self.sender.encode()
            self.clock.advance_ms(5)
            self.sender.send(self.clock.now_ns())
            self.clock.advance_ms(15)

    @property
    def packets(self) -> list[RtpPacket]:
        return [RtpPacket.parse(data) for data in self.datagrams if data[1] & 0x7F == 96]

    @property
    def reports(self) -> list[object]:
        rtcp = [data for data in self.datagrams if 200 <= data[1] <= 206]
        return [packet for data in rtcp for packet in RtcpPacket.parse(data)]

    def heard(self) -> Samples:
        """Everything that has left so far, decoded."""
        pieces = []
        for packet in self.packets:
            for frame in self._decoder.decode(Packet(packet.payload)):
                samples = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)[:, 0]
                if samples.dtype.kind == "f":
                    samples = samples * 32_767
                pieces.append(samples.astype(np.int16))
        self.datagrams.clear()
        return np.concatenate(pieces)


def write(bot: BotRing, samples: Samples) -> None:
    assert bot.write_speaker(memoryview(samples.tobytes())) == len(samples)
