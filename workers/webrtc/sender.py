"""A peer's outgoing stream: one RTP packet each 20 ms, sent first thing, and the reports of it.

aiortc's sender is parked (`hooks`). Of the packet that `next_packet` has made ready a slot ahead
the header is patched and SRTP runs in place. What left is committed with its time, so the
anchor, `position` and a flush's answer are exact.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from ipc.clock import NS_PER_S
from ipc.codec import Codec
from workers.audio import g711
from workers.audio.redundancy import Redundancy
from workers.webrtc import hooks, rtcp
from workers.webrtc.frame_encoder import FRAMES_PER_S
from workers.webrtc.next_packet import NextPacket
from workers.webrtc.rtp import RtpPacket

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiortc import RTCRtpTransceiver

    from ipc.audio_ring import WorkerRing
    from ipc.clock import Clock
    from workers.audio.mixer import Mixer
    from workers.webrtc.wire import Path, Protector

log = logging.getLogger(__name__)

FRAME_NS = NS_PER_S // FRAMES_PER_S
REPORT_NS = NS_PER_S


class Sender:
    """Sends the speaker ring of one session on one peer. The pacer calls `send` and `encode`."""

    def __init__(self, clock: Clock, codec: Codec | None = None) -> None:
        self._clock = clock
        self._next = NextPacket(codec or Codec())
        self._transceiver: RTCRtpTransceiver | None = None
        self._parked: hooks.ParkedSender | None = None
        self._path: Path | None = None
        self._cname = ""
        self._packet: RtpPacket | None = None
        self._protector: Protector | None = None
        self._clock_ticks = 960
        self._view = memoryview(b"")
        self._marker = True
        self._report_due_ns = 0
        # Whether the peer has said that it does not listen (sendonly, inactive).
        self._held = False
        # What had left when the stream got the number that it has now.
        self._packets_before = self._octets_before = 0
        # Called when sending could not begin; the reason is in the log.
        self.on_fault: Callable[[], None] = lambda: None
        # Called when the path is there and packets begin to leave.
        self.on_begin: Callable[[], None] = lambda: None
        # What our reports say of the stream that comes from the peer.
        self.report_block: Callable[[int], bytes] = lambda _now_ns: b""
        self.reception = rtcp.Reception()
        # The payload type of RED, if the peer takes it.
        self.red_type: int | None = None
        self.redundancy = Redundancy()
        self.packets = self.octets = self.failures = 0
        # How far behind its schedule a packet leaves: the sum over all beats, and the worst.
        self.beats = self.late_ns = self.worst_late_ns = 0
        self._due_ns = 0

    # -- set-up ---------------------------------------------------------------------------

    def bind(self, transceiver: RTCRtpTransceiver, cname: str) -> None:
        """Take the place of aiortc's sender; the SDP has promised that canonical name."""
        self._transceiver, self._cname = transceiver, cname
        self._parked = hooks.ParkedSender(
            transceiver.sender, on_start=self._start, on_stop=self._stop
        )

    @property
    def ring(self) -> WorkerRing | None:
        """The ring of the moment; None while no bot is attached."""
        return self._next.ring

    @ring.setter
    def ring(self, ring: WorkerRing | None) -> None:
        self._next.join(ring)

    @property
    def mixer(self) -> Mixer | None:
        """What plays under the speech."""
        return self._next.mixer

    @mixer.setter
    def mixer(self, mixer: Mixer | None) -> None:
        self._next.mixer = mixer

    @property
    def stereo(self) -> bool:
        """Whether the peer plays stereo (its fmtp says so); a mono ring is sent as mono anyway."""
        return self._next.stereo

    @stereo.setter
    def stereo(self, stereo: bool) -> None:
        self._next.stereo = stereo

    def configure(self, codec: Codec) -> None:
        """Encode like this from the next packet on."""
        self._next.configure(codec)

    @property
    def underruns(self) -> int:
        """How often the ring ran dry in the middle of an utterance."""
        return self._next.underruns

    @property
    def ssrc(self) -> int | None:
        """The stream's number; None before packets leave."""
        return self._packet.ssrc if self._packet is not None else None

    @property
    def sending(self) -> bool:
        """Whether packets leave; until then flushes of the ring are not the sender's business."""
        return self._packet is not None

    def fits(self, clock_hz: int) -> bool:
        """Whether the stream can go on at that clock rate: another needs another SSRC.

        RFC 7160 section 4.1.
        """
        return self._packet is None or clock_hz == self._clock_ticks * FRAMES_PER_S

    def agree(self, codec: Any, *, ssrc: int, heard: bool) -> None:
        """What an answer says, from the next packet on: the codec, and whether the peer listens.

        For who does not listen, time, positions and reports go on, and no packet leaves.
        """
        was_held, self._held = self._held, not heard
        packet, law = self._packet, g711.law_of(codec.mimeType.partition("/")[2])
        if packet is None:
            return
        agreed = codec.payloadType, law, ssrc, self._held
        if agreed == (packet.payload_type, self._next.law, packet.ssrc, was_held):
            return
        if ssrc != packet.ssrc:
            # No BYE for the old number: there are receivers that end the whole track with it.
            packet.renew(ssrc)
            self._packets_before, self._octets_before = self.packets, self.octets
            self._marker = True
            self.redundancy.forget()
        packet.payload_type = codec.payloadType
        self._clock_ticks = codec.clockRate // FRAMES_PER_S
        self._next.change(law, self._clock_ticks, held=self._held)

    def begin(self) -> None:
        """Keep time and report, though aiortc has nobody who listens to begin for."""
        if self._transceiver is not None:
            self._start(hooks.codec_of(self._transceiver))

    def _start(self, codec: Any) -> None:
        if self._packet is not None:  # it went on while the peer did not listen
            return
        # aiortc runs this in a task that nobody looks at: what fails here must be said here.
        try:
            self._start_with(codec)
        except Exception:
            log.exception("sending with codec %s cannot begin", codec.mimeType)
            self._packet = None
            self.on_fault()

    def _start_with(self, codec: Any) -> None:
        transceiver = self._transceiver
        assert transceiver is not None  # noqa: S101 - bind came first
        transport = transceiver.sender.transport
        packet = RtpPacket(
            hooks.source_of(transceiver),
            codec.payloadType,
            mid_id=hooks.mid_extension_of(transceiver),
            mid=transceiver.mid or "",
        )
        self.start(
            packet,
            hooks.Protector(transport, packet.buffer),
            hooks.Path(transport),
            codec=codec.mimeType.partition("/")[2],
            clock_hz=codec.clockRate,
            cname=self._cname,
        )
        self.on_begin()

    def start(
        self,
        packet: RtpPacket,
        protector: Protector,
        path: Path,
        *,
        codec: str,
        clock_hz: int,
        cname: str,
    ) -> None:
        """Begin to send with a negotiated codec: opus, PCMU or PCMA."""
        self._clock_ticks = clock_hz // FRAMES_PER_S
        self._packet, self._protector, self._path = packet, protector, path
        self._view = memoryview(packet.buffer)
        self._cname = cname
        self._report_due_ns = self._clock.now_ns() + REPORT_NS // 4
        self._due_ns = 0
        self._next.open(packet, g711.law_of(codec), self._clock_ticks, held=self._held)

    def _stop(self) -> None:
        packet, self._packet = self._packet, None
        if packet is not None and self._path is not None and self._protector is not None:
            self._path.send(self._protector.protect_rtcp(rtcp.bye(packet.ssrc, self._cname)))
        self._next.close()

    def stop(self) -> None:
        """Send nothing more."""
        self._next.ring = None
        self._stop()

    # -- the beat ---------------------------------------------------------------------------

    def encode(self) -> None:
        """A slot ahead: make the next 20 ms ready."""
        self._next.encode()

    def send(self, now_ns: int) -> None:
        """On the beat: let the packet go that was made ready, unless a flush has overtaken it."""
        packet, following = self._packet, self._next
        if packet is None or self._protector is None or self._path is None:
            return
        self._keep_time(now_ns)
        count = following.due()
        if count:
            kind = packet.payload_type
            if self.redundancy.level and self.red_type is not None:
                payload = self.redundancy.wrap(kind, packet.timestamp, packet.payload(count))
                kind, count = self.red_type, packet.put(payload)
            packet.patch(marker=self._marker, payload_type=kind)
            length = self._protector.protect(packet.header_bytes + count)
            if length and self._path.send(self._view[:length]):
                self.packets += 1
                self.octets += count
            else:
                self.failures += 1
        self._marker = count == 0
        following.left(now_ns, packet.timestamp, self.reception)
        if now_ns >= self._report_due_ns:
            self._send_report(packet, now_ns)
        packet.advance(self._clock_ticks)

    def _keep_time(self, now_ns: int) -> None:
        """The schedule is that of the most punctual packet so far, 20 ms from one to the next."""
        late_ns = now_ns - self._due_ns
        if late_ns < 0 or not self._due_ns:
            self._due_ns, late_ns = now_ns, 0
        self._due_ns += FRAME_NS
        self.beats += 1
        self.late_ns += late_ns
        if late_ns > self.worst_late_ns:
            self.worst_late_ns = late_ns

    def miss(self, frames: int) -> None:
        """Frames were given up after a stall: the RTP clock goes on without them."""
        if self._due_ns:
            self._due_ns += frames * FRAME_NS
        if self._packet is not None:
            self._packet.advance(frames * self._clock_ticks)

    # -- reports ----------------------------------------------------------------------------

    def _send_report(self, packet: RtpPacket, now_ns: int) -> None:
        self._report_due_ns = now_ns + REPORT_NS
        blocks = self.report_block(now_ns)
        if self._held:
            report = rtcp.receiver_report(packet.ssrc, self._cname, blocks)
        else:
            report = rtcp.sender_report(
                packet.ssrc,
                self._cname,
                unix_ns=time.time_ns(),
                rtp_timestamp=packet.timestamp,
                packets=self.packets - self._packets_before,
                octets=self.octets - self._octets_before,
                blocks=blocks,
            )
        assert self._protector is not None  # noqa: S101 - the caller looked
        assert self._path is not None  # noqa: S101 - the caller looked
        self._path.send(self._protector.protect_rtcp(report))

    def heard(self, incoming: rtcp.Report) -> None:
        """The peer reports how our stream arrives."""
        packet = self._packet
        if incoming.feedback is not None and packet is not None:
            self.reception.asked(incoming.feedback, packet.ssrc)
        for report in incoming.reports:
            if packet is None or report.ssrc != packet.ssrc:
                continue
            reception = self.reception
            reception.reports += 1
            reception.fraction_lost = report.fraction_lost / 256
            self.redundancy.reported(reception.fraction_lost)
            reception.packets_lost = report.packets_lost
            reception.jitter_us = report.jitter * 1_000_000 // (self._clock_ticks * FRAMES_PER_S)
            rtt = rtcp.round_trip_us(time.time_ns(), report.lsr, report.dlsr)
            if rtt is not None:
                reception.rtt_us = rtt
                reception.round_trips += 1
