"""From the caller into the mic ring: undone, ordered, decoded and appended on arrival.

aiortc's receiver is parked (`hooks`). A datagram lies in the mux' buffer; SRTP is undone there,
`reorder` says what is next, the decoder writes PCM at the bot's rate, and that is appended to
the ring. No thread, no task, no frame object, no resampler.
"""

from __future__ import annotations

import ctypes
import logging
import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ipc.clock import NS_PER_S
from workers.audio import decoder as decoders
from workers.audio import red
from workers.audio.reorder import NO_SOUND, Reorder
from workers.webrtc import hooks, rtcp
from workers.webrtc.arrivals import Arrivals

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiortc import RTCRtpTransceiver

    from ipc.audio_ring import WorkerRing
    from ipc.clock import Clock
    from workers.webrtc.wire import Unprotector

log = logging.getLogger(__name__)

HEADER = struct.Struct("!BBHII")
EXTENDED, PADDED, SOURCES = 0x10, 0x20, 0x0F
SOUND = ("opus", "pcmu", "pcma")
G711 = ("pcmu", "pcma")
# Telephones send comfort noise without having agreed on its number (RFC 3551 section 6).
STATIC = {13: ("cn", 8_000)}
# A packet of Opus this short has no sound: the sender pauses (DTX, RFC 7587 section 3.1.3).
PAUSE_BYTES = 2
# Another source must go on for so many packets, or the first be silent, before it takes over.
UNKNOWN = ("", 0)
TAKE_OVER_PACKETS = 3
TAKE_OVER_NS = NS_PER_S // 5
NEVER_NS = 1 << 62
SILENCE = memoryview(bytes(4 * 48_000))  # a second, stereo: more is never filled at once


class Receiver:
    """Writes what one peer says into the mic ring of one session."""

    def __init__(
        self, clock: Clock, on_mic: Callable[[], None], on_report: Callable[[Any], None]
    ) -> None:
        """`on_mic` hears that the ring grew, `on_report` of each RTCP report of the peer's."""
        self._clock = clock
        self._on_mic = on_mic
        self._on_report = on_report
        self._ring: WorkerRing | None = None
        self._unprotector: Unprotector | None = None
        self._buffer = memoryview(b"")
        self._address = 0
        self._kinds: dict[int, tuple[str, int]] = {}
        self._red_kinds: dict[int, tuple[str, int]] = {}
        self._clock_hz = 48_000
        self._kind = -1
        self._decoder: decoders.Decoder | None = None
        self._pcm = memoryview(b"")
        # By codec: to make one takes milliseconds, and a caller may change with every packet.
        self._decoders: dict[str, tuple[decoders.Decoder, memoryview]] = {}
        self._paused = False
        # How many samples the concealment of speech that breaks off still lasts.
        self._tail = 0
        self._wrote = False
        self._timestamp = 0
        self.reorder = Reorder(self, self._clock_hz, clock.now_ns())
        self.reorder.due_ns = NEVER_NS
        # The first packets of another source, without SRTP; whose they are, and since when.
        self._held: list[bytes] = []
        self._rival = -1
        self._rival_ns = 0
        self._begin: Callable[[Any], None] = lambda _parameters: None
        self.heard: Callable[[], None] = lambda: None
        # Called when receiving could not begin; the reason is in the log.
        self.on_fault: Callable[[], None] = lambda: None
        self.arrivals: Arrivals | None = None
        self._sound_ns = 0
        self.rejected = self.malformed = self.unknown = 0
        # Of what the reorder filled, ticks of pauses that the sender had announced.
        self.paused_ticks = 0

    # -- set-up -----------------------------------------------------------------------------

    def bind(self, transceiver: RTCRtpTransceiver, buffer: bytearray) -> None:
        """Take the place of aiortc's receiver; datagrams will lie in `buffer`."""

        def begin(parameters: Any) -> None:
            # aiortc runs this in a task that nobody looks at: what fails here is said here.
            try:
                # Only now: bundling may have moved the transceiver to another transport.
                transport = transceiver.receiver.transport
                kinds = {c.payloadType: (c.name.lower(), c.clockRate) for c in parameters.codecs}
                self.start(hooks.Unprotector(transport, buffer), buffer, kinds)
                connection = hooks.connection_of(transport)
                self.heard = connection.heard
                connection.receiver = self
            except Exception:
                log.exception("receiving cannot begin")
                self.on_fault()

        self._parked = hooks.ParkedReceiver(transceiver.receiver, on_start=begin)
        self._begin = begin

    def listen(self) -> None:
        """A caller who only listens sends no media, but reports; and is silent to the bot."""
        if self._unprotector is None:
            self._begin(SimpleNamespace(codecs=[]))

    def start(
        self, unprotector: Unprotector, buffer: bytearray, kinds: dict[int, tuple[str, int]]
    ) -> None:
        """Take media from now on: `kinds` has the codec and clock rate of each payload type."""
        self._buffer = memoryview(buffer)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        # A number keeps its meaning (RFC 3264 section 8.3.2): what is under way may still have it.
        self._kinds = STATIC | self._kinds | kinds | self._red_kinds
        if self._unprotector is not None:  # renegotiated: the stream goes on
            return
        self._clock_hz = next((hz for name, hz in kinds.values() if name in SOUND), 48_000)
        self.reorder.begin(self._clock_hz, self._clock.now_ns())
        self._unprotector = unprotector

    def take_red(self, payload_type: int | None) -> None:
        """Packets of that type carry earlier ones once more (aiortc does not know RED)."""
        for old in self._red_kinds:
            self._kinds.pop(old, None)
        found = {} if payload_type is None else {payload_type: ("red", decoders.OPUS_CLOCK_HZ)}
        self._red_kinds = found
        self._kinds = self._kinds | found

    @property
    def ring(self) -> WorkerRing | None:
        """The ring of the moment; None while no bot is attached: what is said then is dropped."""
        return self._ring

    @ring.setter
    def ring(self, ring: WorkerRing | None) -> None:
        old, self._ring = self._ring, ring
        if ring is None or old is None or not _same_shape(old, ring):
            self._close_decoders()

    def stop(self) -> None:
        """Take nothing more."""
        self._unprotector = None
        self.reorder.due_ns = NEVER_NS
        self._ring = None
        self._close_decoders()

    def _close_decoders(self) -> None:
        self._decoder, self._kind = None, -1
        self._tail = 0
        for decoder, _ in self._decoders.values():
            decoder.close()
        self._decoders.clear()

    # -- per packet ---------------------------------------------------------------------------

    def media(self, length: int, now_ns: int, plain: bool = False) -> None:
        """A datagram lies at the start of the buffer; `plain` is RTP whose SRTP was undone."""
        unprotector, reorder = self._unprotector, self.reorder
        if unprotector is None or length < HEADER.size:
            self.malformed += 1
            return
        buffer = self._buffer
        if not plain:
            if 192 <= buffer[1] <= 223:  # RFC 5761
                self._take_rtcp(unprotector.unprotect_rtcp(length), now_ns)
                return
            length = unprotector.unprotect(length)
            if not length:
                self.rejected += 1
                return
            self.heard()
        first, second, sequence, timestamp, ssrc = HEADER.unpack_from(buffer)
        start, end = HEADER.size + 4 * (first & SOURCES), length
        if first & EXTENDED:
            # Past the end, these two bytes are an earlier datagram's: that is refused below.
            start += 4 + 4 * (buffer[start + 2] << 8 | buffer[start + 3])
        if first & PADDED:
            end -= buffer[length - 1]
        if start > end:
            self.malformed += 1
            return
        kind = second & 0x7F
        codec = self._kinds.get(kind)
        arrivals = self.arrivals
        if codec is None:
            self.unknown += 1
            if arrivals is None or arrivals.ssrc != ssrc:
                return
            codec = UNKNOWN  # no sound, but it has its place in the order
        if arrivals is None or arrivals.ssrc != ssrc:
            arrivals = self._another_source(ssrc, length, now_ns)
            if arrivals is None:
                return
        elif self._held:
            self._forget_rival(now_ns)
        if codec[1] != self._clock_hz and codec[0] in SOUND:
            self._clock_hz = arrivals.clock_hz = codec[1]
            reorder.retune(codec[1], now_ns)
        self._sound_ns = now_ns
        arrivals.add(sequence, timestamp, end - start, now_ns)
        self._timestamp = timestamp
        if codec[0] == "red":
            newest = red.newest(buffer, start, end)
            if newest is None:
                self.malformed += 1
                return
            if reorder.lacks_before(sequence):
                self._take_copies(sequence, timestamp, bytes(buffer[start:end]), now_ns)
            kind, start = newest
        reorder.arrive(sequence, timestamp, kind, self._address + start, end - start, now_ns)
        if self._wrote:
            self._wrote = False
            self._grew(now_ns)

    def tick(self, now_ns: int) -> None:
        """Each slot: what does not come is concealed or silent."""
        if self._unprotector is not None:
            self.reorder.tick(now_ns)
            if self._wrote:
                self._wrote = False
                self._grew(now_ns)

    def _grew(self, now_ns: int) -> None:
        if self._ring is not None:
            self._ring.set_capture(now_ns, self._timestamp)
            self._on_mic()

    def _take_copies(self, sequence: int, timestamp: int, data: bytes, now_ns: int) -> None:
        """Of a RED payload, the copies of earlier packets."""
        reorder = self.reorder
        for back, block in red.copies(data):
            # Senders may leave blocks out: so many numbers back is what lies as far back in time.
            if block.back == back * reorder.frame:
                reorder.spare(
                    (sequence - back) & 0xFFFF,
                    (timestamp - block.back) & 0xFFFFFFFF,
                    block.payload_type,
                    block.payload,
                    now_ns,
                )

    def _another_source(self, ssrc: int, length: int, now_ns: int) -> Arrivals | None:
        """Another SSRC: the peer began anew, or a stray packet, which changes nothing.

        Its first packets are held, and played once it has proved itself.
        """
        held: list[bytes] = []
        if self.arrivals is not None:
            if ssrc != self._rival:
                self._drop_held()
                self._rival, self._rival_ns = ssrc, now_ns
            held = self._held
            packet = bytes(self._buffer[:length])
            if len(held) + 1 < TAKE_OVER_PACKETS and now_ns - self._sound_ns < TAKE_OVER_NS:
                held.append(packet)
                return None
            self.reorder.restart(now_ns)
        self._held, self._rival = [], -1
        self.arrivals = Arrivals(ssrc, self._clock_hz)
        if held:
            for earlier in held:
                self._buffer[: len(earlier)] = earlier
                self.media(len(earlier), now_ns, plain=True)
            self._buffer[:length] = packet
        return self.arrivals

    def _forget_rival(self, now_ns: int) -> None:
        """The known source goes on, and has for a while: the other one was none."""
        if now_ns - self._rival_ns >= TAKE_OVER_NS:
            self._drop_held()

    def _drop_held(self) -> None:
        self.unknown += len(self._held)
        self._held.clear()
        self._rival = -1

    def _take_rtcp(self, length: int, now_ns: int) -> None:
        if not length:
            self.rejected += 1
            return
        self.heard()
        for report in rtcp.parse(bytes(self._buffer[:length])):
            arrivals = self.arrivals
            if report.ntp and arrivals is not None and report.ssrc == arrivals.ssrc:
                arrivals.sender_reported(report.ntp, now_ns)
            self._on_report(report)

    def report_block(self, now_ns: int) -> bytes:
        """What RTCP says of the peer's stream; nothing before its first packet."""
        return self.arrivals.report_block(now_ns) if self.arrivals is not None else b""

    # -- what the reorder says (a Sink) ---------------------------------------------------------

    def decode(self, kind: int, data: int | bytes, length: int) -> int:
        """Append a packet's samples."""
        codec = self._kinds.get(kind, ("", 0))[0]
        ring = self._ring
        if codec not in SOUND:
            if codec == "cn" and ring is not None:
                self._hear_pause(ring, data, length)
            return NO_SOUND
        if ring is None:  # no bot yet
            return self._clock_hz // 50
        decoder = self._decoder
        if decoder is None or kind != self._kind:
            decoder = self._choose_decoder(codec, ring)
            self._kind = kind
        # Of nothing, decoders make as much as they can.
        count = decoder.decode(data, length) if length else 0
        if not count:
            return 0
        self._tail = ring.mic.hz * decoders.FADE_MS // 1000
        self._paused = length <= PAUSE_BYTES
        self._append(ring, count)
        return count * self._clock_hz // ring.mic.hz

    def _hear_pause(self, ring: WorkerRing, data: int | bytes, length: int) -> None:
        self._paused = True
        if self._decoder is None:  # who begins with a pause has not said a word yet
            for kind, (codec, _) in self._kinds.items():
                if codec in G711:
                    self._choose_decoder(codec, ring)
                    self._kind = kind
                    break
        if self._decoder is not None:
            self._decoder.tell(data, length)

    def recover(self, kind: int, data: int | bytes, length: int, ticks: int) -> bool:
        """Append what a packet repeats of the one before it."""
        ring, decoder = self._ring, self._decoder
        if ring is None or decoder is None or kind != self._kind:
            return False
        count = decoder.recover(data, length, ticks * ring.mic.hz // self._clock_hz)
        if count:
            self._append(ring, count)
        return count > 0

    def conceal(self, ticks: int) -> None:
        """Append something plausible."""
        ring, decoder = self._ring, self._decoder
        if ring is not None and decoder is not None:
            count = decoder.conceal(ticks * ring.mic.hz // self._clock_hz)
            ring.count_concealed(count)
            self._append(ring, count)

    def fill(self, ticks: int) -> None:
        """Append silence, or the noise of a sender that paused; speech that broke off fades."""
        ring, decoder = self._ring, self._decoder
        if self._paused:
            self.paused_ticks += ticks
        if ring is None:
            return
        count = ticks * ring.mic.hz // self._clock_hz
        ring.count_filled(count)
        if self._paused:
            made = decoder.comfort(count) if decoder is not None else 0
        else:
            made = self._fade_out(min(count, self._tail))
        if made:
            self._append(ring, made)
        if made < count:
            self._wrote = True
            ring.write_mic(SILENCE[: (count - made) * ring.mic.stride])

    def _fade_out(self, count: int) -> int:
        """Speech broke off: it must not end with a click."""
        made = self._decoder.conceal(count) if count and self._decoder is not None else 0
        self._tail = self._tail - made if made else 0
        return made

    def _append(self, ring: WorkerRing, count: int) -> None:
        self._wrote = True
        ring.write_mic(self._pcm[: count * ring.mic.stride])

    def _choose_decoder(self, codec: str, ring: WorkerRing) -> decoders.Decoder:
        self._tail = 0
        found = self._decoders.get(codec)
        if found is None:
            name = codec if codec == "opus" else codec.upper()
            made = decoders.decoder(name, ring.mic.hz, ring.mic.channels)
            found = self._decoders[codec] = made, made.pcm.data.cast("B")
        self._decoder, self._pcm = found
        return self._decoder


def _same_shape(one: WorkerRing, other: WorkerRing) -> bool:
    return (one.mic.hz, one.mic.channels) == (other.mic.hz, other.mic.channels)
