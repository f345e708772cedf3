"""What one side says, through a bad network, into the other side's mic ring: by a manual clock.

The real sender and the real receiver with the fake network between them; SRTP changes nothing.
`events` tells what became of every packet, `heard` has the samples.
"""

from __future__ import annotations

import ctypes
import itertools
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ipc.clock import NS_PER_MS
from ipc.codec import Codec
from tests.fakes.audio import FRAME, Samples, level_db, read_wav
from tests.fakes.network import Faults, Network
from tests.fakes.rings import rings
from tests.support import ROOT
from workers.audio import decoder as decoders
from workers.webrtc.receiver import Receiver
from workers.webrtc.rtp import RtpPacket
from workers.webrtc.sender import Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipc.clock import ManualClock
    from workers.audio.reorder import Sink

SSRC, OPUS, RED, PCMU = 0xC0FFEE, 111, 63, 0
KINDS = {OPUS: ("opus", 48_000), RED: ("red", 48_000), PCMU: ("pcmu", 8_000)}
STEP_MS = 2
PAUSE_DB = -36.0
What = Literal["play", "recover", "conceal", "fill"]


@cache
def recording() -> Samples:
    """`hello.wav` as it is."""
    return read_wav(ROOT / "engine" / "examples" / "hello.wav")


def speech(seconds: float) -> Samples:
    """The recording without its pauses, again and again: whole frames."""
    samples = recording()
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    spoken = frames[[level_db(frame) > PAUSE_DB for frame in frames]]
    return np.ascontiguousarray(np.resize(spoken, (round(seconds * 50), FRAME)).reshape(-1))


@dataclass(frozen=True, slots=True)
class Event:
    """Something was written to the mic ring."""

    what: What
    at_ns: int
    start: int
    """The mic cursor where it begins."""
    samples: int
    number: int = -1
    """The packet that was played: the first one that was sent is 0."""
    exact: bool = False
    """Whether what was decoded is, byte by byte, what was sent in it."""


class Spy:
    """Stands between the reorder and the receiver, and writes down what is written."""

    def __init__(self, call: Impaired, sink: Sink) -> None:
        self._call, self._sink = call, sink

    def decode(self, kind: int, data: int | bytes, length: int) -> int:
        payload = data if isinstance(data, bytes) else ctypes.string_at(data, length)
        start = self._call.cursor
        ticks = self._sink.decode(kind, data, length)
        number = self._call.playing
        self._note("play", start, number, payload == self._call.payloads[number])
        return ticks

    def recover(self, kind: int, data: int | bytes, length: int, ticks: int) -> bool:
        start = self._call.cursor
        recovered = self._sink.recover(kind, data, length, ticks)
        if recovered:
            self._note("recover", start)
        return recovered

    def conceal(self, ticks: int) -> None:
        start = self._call.cursor
        self._sink.conceal(ticks)
        self._note("conceal", start)

    def fill(self, ticks: int) -> None:
        start = self._call.cursor
        self._sink.fill(ticks)
        self._note("fill", start)

    def _note(self, what: What, start: int, number: int = -1, exact: bool = False) -> None:
        call = self._call
        count = call.cursor - start
        call.events.append(Event(what, call.clock.now_ns(), start, count, number, exact))


class Plain:
    """SRTP that changes nothing."""

    def unprotect(self, length: int) -> int:
        return length

    unprotect_rtcp = unprotect


class Impaired:
    """A sender, a network and a receiver. Packet n is sent at `sent_ns[n]`."""

    def __init__(
        self,
        clock: ManualClock,
        faults: Faults | None = None,
        *,
        seed: int = 1,
        codec: Codec | None = None,
        red_level: int = 0,
        sequence: int = 100,
        timestamp: int = 7,
    ) -> None:
        self.clock = clock
        self.network = Network(faults, seed)
        self.events: list[Event] = []
        self.payloads: list[bytes] = []
        self._numbers: dict[int, int] = {}
        self.sent_ns: list[int] = []
        self.arrived_ns: dict[int, int] = {}
        self._reports: list[Any] = []
        # What a test does on the way into the network: which packets it takes out, by their
        # numbers, and what it makes of the others.
        self.drops: Callable[[int], bool] = lambda number: False
        self.damage: Callable[[bytes], bytes] = lambda datagram: datagram
        self._pieces: list[Samples] = []
        self.buffer = bytearray(2_048)
        self.receiver = Receiver(clock, lambda: None, self._reports.append)
        self._mic, self.bot = rings()
        self.receiver.ring = self._mic
        self.receiver.start(Plain(), self.buffer, KINDS)
        self.reorder = self.receiver.reorder
        self.reorder._sink = Spy(self, self.receiver)
        self.playing = -1
        play = self.reorder._play

        def note(timestamp: int, kind: int, data: int | bytes, length: int) -> None:
            self.playing = self._numbers[timestamp]
            play(timestamp, kind, data, length)

        self.reorder._play = note  # type: ignore[method-assign]  # it alone knows the timestamp
        self._speaker, self._talker = rings()
        self.speak_as(codec or Codec(), sequence, timestamp)
        if red_level:
            self.sender.red_type = RED
            self.sender.redundancy.level = red_level

    def speak_as(
        self, codec: Codec, sequence: int, timestamp: int, *, kind: int = OPUS, ssrc: int = SSRC
    ) -> None:
        """From now on another sender, which begins with those numbers."""
        name, clock_hz = KINDS[kind]
        name = name if kind == OPUS else name.upper()
        self.packet = RtpPacket(ssrc, kind)
        self.packet.sequence, self.packet.timestamp = sequence, timestamp
        self.sender = Sender(self.clock, codec)
        self.sender.start(self.packet, self, self, codec=name, clock_hz=clock_hz, cname="caller")
        self.sender.ring = self._speaker

    # -- the sender's SRTP and path -----------------------------------------------------------

    def protect(self, length: int) -> int:
        """Plain text; `length` is all that the sender's buffer holds now."""
        packet = self.packet
        data = bytes(packet.buffer[packet.header_bytes : length])
        if data[:1] and packet.buffer[1] & 0x7F == RED:
            data = data[len(data) - self._newest_bytes(data) :]
        self._numbers[int.from_bytes(packet.buffer[4:8], "big")] = len(self.payloads)
        self.payloads.append(data)
        self.sent_ns.append(self.clock.now_ns())
        return length

    @staticmethod
    def _newest_bytes(data: bytes) -> int:
        at = taken = 0
        while data[at] & 0x80:
            taken += int.from_bytes(data[at + 2 : at + 4], "big") & 0x3FF
            at += 4
        return len(data) - at - 1 - taken

    def protect_rtcp(self, packet: bytes) -> bytes:
        return packet

    def send(self, data: bytes | memoryview) -> bool:
        if 192 <= data[1] <= 223:  # reports do not count as packets of the stream
            return True
        if self.drops(len(self.payloads) - 1):
            return True
        datagram = self.damage(bytes(data))
        self.network.send(datagram, self.clock.now_ns())
        return True

    # -- time ---------------------------------------------------------------------------------

    def say(self, samples: Samples) -> None:
        """Whole frames, at the pace of time."""
        for frame in samples.reshape(-1, FRAME):
            assert self._talker.write_speaker(memoryview(frame.tobytes())) == FRAME
            self.beat()

    def beat(self, frames: int = 1) -> None:
        """Time passes; the sender sends what it has, or silence."""
        for _ in range(frames):
            self.sender.encode()
            self.sender.send(self.clock.now_ns())
            self.wait(20)

    def wait(self, ms: int) -> None:
        """Time passes, nothing is sent."""
        self._deliver()
        for _ in range(ms // STEP_MS):
            self.clock.advance_ms(STEP_MS)
            self._deliver()
            self.receiver.tick(self.clock.now_ns())
        self._read()

    def give(self, data: bytes) -> None:
        """A datagram reaches the receiver now, past the network."""
        self.buffer[: len(data)] = data
        self.receiver.media(len(data), self.clock.now_ns())

    def _deliver(self) -> None:
        for data in self.network.due(self.clock.now_ns()):
            number = self._numbers[int.from_bytes(data[4:8], "big")]
            self.arrived_ns.setdefault(number, self.clock.now_ns())
            self.give(data)

    def _read(self) -> None:
        while (waiting := self.bot.mic_waiting()) and (frame := self.bot.read_mic(waiting)):
            self._pieces.append(np.frombuffer(frame.pcm, np.int16))

    def close(self) -> None:
        self.sender.stop()
        self.receiver.stop()

    # -- what became of it ----------------------------------------------------------------------

    @property
    def cursor(self) -> int:
        """Where the mic ring ends."""
        return self._mic.mic_written

    def heard(self) -> Samples:
        """Everything that the bot was given."""
        self._read()
        return np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)

    def sound_of(self, event: Event) -> Samples:
        """The samples of an event."""
        return self.heard()[event.start : event.start + event.samples]

    def of(self, *what: What) -> list[Event]:
        """The events of these kinds."""
        return [event for event in self.events if event.what in what]

    def played(self) -> list[int]:
        """The numbers of the packets that were decoded, in the order in which they were."""
        return [event.number for event in self.events if event.number >= 0]

    def delays_ms(self) -> dict[int, float]:
        """From the sending of each packet to its samples in the ring."""
        return {
            event.number: (event.at_ns - self.sent_ns[event.number]) / NS_PER_MS
            for event in self.events
            if event.number >= 0
        }

    def recovered(self) -> list[int]:
        """The numbers of the packets that in-band redundancy brought back."""
        pairs = zip(self.events, self.events[1:], strict=False)
        return [after.number - 1 for event, after in pairs if event.what == "recover"]

    def longest_stall_ms(self) -> float:
        """The longest time beyond a packet's 20 ms in which the ring did not grow."""
        times = sorted({event.at_ns for event in self.events})
        gaps = [after - before for before, after in itertools.pairwise(times)]
        return max(gaps) / NS_PER_MS - 20

    def reference(self) -> list[Samples]:
        """What the packets sound like when none is lost, one after the other."""
        decoder = decoders.decoder("opus", 48_000, 1)
        frames = []
        for payload in self.payloads:
            count = decoder.decode(payload, len(payload))
            frames.append(decoder.pcm[:count].copy())
        decoder.close()
        return frames
