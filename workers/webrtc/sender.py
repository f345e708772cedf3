"""From the speaker ring to the caller: one packet ready a slot ahead, sent first thing.

aiortc's sender is parked (`hooks`): samples are encoded straight out of the ring into the
packet's buffer, the header is patched and SRTP runs in place. What left is committed with its
time, so the anchor, `position` and a flush's answer are exact.
"""

from __future__ import annotations

import ctypes
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from ipc.clock import NS_PER_S
from ipc.codec import Codec
from workers.audio import g711, opus
from workers.audio.redundancy import Redundancy
from workers.audio.unheard import Unheard
from workers.webrtc import hooks, rtcp
from workers.webrtc.rtp import TRAILER_BYTES, RtpPacket

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiortc import RTCRtpTransceiver

    from ipc.audio_ring import WorkerRing
    from ipc.clock import Clock
    from workers.audio.mixer import Mixer
    from workers.webrtc.wire import Path, Protector

log = logging.getLogger(__name__)

FRAMES_PER_S = 50
FRAME_NS = NS_PER_S // FRAMES_PER_S
# What a CELT encoder settles to when it is given digital silence.
OPUS_SILENCE = b"\xf8\xff\xfe"
REPORT_NS = NS_PER_S
FADE_MS = 2.5
# Enough for an encoder that was reset to follow the signal again.
PRIMING_FRAMES = 3


class Sender:
    """Sends the speaker ring of one session on one peer. The pacer calls `send` and `encode`."""

    def __init__(self, clock: Clock, codec: Codec | None = None) -> None:
        self._clock = clock
        self._codec = codec or Codec()
        self._ring: WorkerRing | None = None
        self._transceiver: RTCRtpTransceiver | None = None
        self._parked: hooks.ParkedSender | None = None
        self._path: Path | None = None
        self._cname = ""
        self._packet: RtpPacket | None = None
        self._protector: Protector | None = None
        self._encoder: opus.Encoder | None = None
        self._law: g711.Law | None = None
        self._channels = 1
        self._frame_samples = 960
        self._clock_ticks = 960
        self._view = memoryview(b"")
        self._work = np.zeros(0, np.int16)
        self._silence = OPUS_SILENCE
        self._quiet = 0
        self._cached = b""
        self._ready_bytes = 0
        self._from = self._until = 0
        self._marker = True
        self._waited = False
        self._speaking = False
        # Whether the last packet carried speech, and whether the ready one fades a flush.
        self._audible = False
        # The samples of the last frames as they were encoded; the newest may not have left.
        self._encoded: deque[bytes] = deque(maxlen=1 + PRIMING_FRAMES)
        self._fading = False
        self._flush_ack = 0
        # What plays under the speech, and whether the newest frame has some of it.
        self.mixer: Mixer | None = None
        self._mixed = False
        # Whether the encoder was reset, and no packet has told the decoder so.
        self._fresh = False
        self._report_due_ns = 0
        self._stereo = False
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
        self.packets = self.octets = self.underruns = self.failures = 0
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
        return self._ring

    @ring.setter
    def ring(self, ring: WorkerRing | None) -> None:
        self._ring = ring
        self._flush_ack = ring.flush_ack if ring is not None else 0
        # What was encoded ahead from an earlier ring has its cursors and must not be committed.
        self._from = self._until = 0
        self._fading = False
        self._make_encoder()

    @property
    def stereo(self) -> bool:
        """Whether the peer plays stereo (its fmtp says so); a mono ring is sent as mono anyway."""
        return self._stereo

    @stereo.setter
    def stereo(self, stereo: bool) -> None:
        if stereo != self._stereo:
            self._stereo = stereo
            self._make_encoder()

    def configure(self, codec: Codec) -> None:
        """Encode like this from the next packet on."""
        if codec != self._codec:
            self._codec = codec
            if self._encoder is not None and not self._encoder.configure(codec):
                self._make_encoder()

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
        if agreed == (packet.payload_type, self._law, packet.ssrc, was_held):
            return
        frame, channels = self._ready_frame(), self._channels
        speaking, mixed = self._speaking, self._mixed
        if ssrc != packet.ssrc:
            # No BYE for the old number: there are receivers that end the whole track with it.
            packet.renew(ssrc)
            self._packets_before, self._octets_before = self.packets, self.octets
            self._marker = True
            self.redundancy.forget()
        packet.payload_type, self._law = codec.payloadType, law
        self._clock_ticks = codec.clockRate // FRAMES_PER_S
        self._make_encoder()
        if frame is None or self._held:
            self._ready_bytes = 0
        elif not frame:
            self._ready_bytes = self._put(self._cached)
        else:
            self._encode_again(frame, channels)
            self._speaking, self._mixed = speaking, mixed

    def _ready_frame(self) -> bytes | None:
        """The samples of the packet that is ready: none of silence, None without a packet."""
        if not self._ready_bytes:
            return None
        if self._fading and not self._mixed:
            return self._work.tobytes()
        sounds = self._until > self._from or self._mixed
        return self._encoded[-1] if sounds and self._encoded else b""

    def _encode_again(self, frame: bytes, channels: int) -> None:
        """Make the frame ready, which another encoder has seen, in so many channels."""
        if channels < self._channels:
            frame = np.repeat(np.frombuffer(frame, np.int16), self._channels).tobytes()
            channels = self._channels
        address = self._fill_work(memoryview(frame), channels, 0)
        assert self._encoder is not None  # noqa: S101 - it was just made
        self._ready_bytes = self._encoder.encode(address, self._frame_samples, self._out)
        self._encoded.append(self._work.tobytes())
        self._quiet = 0

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
        self._law = g711.law_of(codec)
        self._clock_ticks = clock_hz // FRAMES_PER_S
        self._packet, self._protector, self._path = packet, protector, path
        self._view = memoryview(packet.buffer)
        self._cname = cname
        self._report_due_ns = self._clock.now_ns() + REPORT_NS // 4
        self._due_ns = 0
        self._make_encoder()

    def _stop(self) -> None:
        packet, self._packet = self._packet, None
        if packet is not None and self._path is not None and self._protector is not None:
            self._path.send(self._protector.protect_rtcp(rtcp.bye(packet.ssrc, self._cname)))
        self._close_encoder()

    def stop(self) -> None:
        """Send nothing more."""
        self._ring = None
        self._stop()

    def _make_encoder(self) -> None:
        self._close_encoder()
        if self._packet is None:
            return
        ring = self._ring
        hz = ring.speaker.hz if ring is not None else 48_000
        ring_channels = ring.speaker.channels if ring is not None else 1
        self._channels = ring_channels if self._stereo and self._law is None else 1
        self._frame_samples = hz // FRAMES_PER_S
        self._work = np.zeros(self._frame_samples * self._channels, np.int16)
        if self._held:
            self._encoder, self._silence = Unheard(), b""
        elif self._law is None:
            self._encoder = opus.encoder(hz, self._channels, self._codec)
            self._silence = OPUS_SILENCE
        else:
            self._encoder = g711.Encoder(self._law, hz)
            self._silence = bytes([g711.SILENCE[self._law]]) * self._clock_ticks
        buffer = self._packet.buffer
        room = len(buffer) - self._packet.header_bytes - TRAILER_BYTES
        self._out = (ctypes.c_char * room).from_buffer(buffer, self._packet.header_bytes)
        self._be_silent()

    def _close_encoder(self) -> None:
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()

    def _be_silent(self) -> None:
        """Begin anew from silence: nothing of the encoder's past rings on."""
        if self._encoder is not None:
            self._encoder.reset()
        self._fresh = self._law is None
        self._cached = self._silence
        self._quiet = 2
        self._speaking = self._mixed = False
        self._encoded.clear()

    def _put_silence(self, encoder: opus.Encoder) -> int:
        """Make the packet of silence ready, and the encoder what it makes of the decoder.

        It takes a decoder from wherever it was to rest. Behind it the speech of an encoder that
        is only reset would be 30 dB too quiet, and take 150 ms to recover.
        """
        if self._fresh:
            self._fresh = False
            self._work[:] = 0
            encoder.encode(self._work.ctypes.data, self._frame_samples, self._out)
        return self._put(self._cached)

    def _be_cut(self) -> None:
        """The speech of the last packet has no successor. Under it the background goes on."""
        if self._mixed:
            self._speaking = False
        else:
            self._be_silent()

    # -- a slot ahead: encode ---------------------------------------------------------------

    def encode(self) -> None:
        """Make the next 20 ms ready."""
        packet, encoder = self._packet, self._encoder
        if packet is None or encoder is None:
            return
        ring = self._ring
        if ring is None:
            self._encode_silence(encoder)
            return
        flush_to = ring.flush_due()
        if flush_to is not None:
            if self._encode_flushed(encoder, ring, ring.taken, flush_to):
                return
            ring.apply_flush()
        if ring.flush_ack != self._flush_ack:
            self._flush_ack = ring.flush_ack
            self._be_cut()
        self._from = ring.taken
        count = self._due_samples(ring)
        mixer = self._background(ring)
        self._mixed = mixer is not None
        if mixer is not None:
            self._encode_mixed(encoder, ring, mixer, count)
        elif count:
            self._encode_speech(encoder, ring, count)
        elif self._speaking:
            self._speaking = False
            self._encoded.clear()
            self._encode_fade(encoder, ring)
        else:
            self._encode_silence(encoder)
        self._until = ring.taken

    def _background(self, ring: WorkerRing) -> Mixer | None:
        """What to mix into the next frame; None when nothing sounds."""
        mixer = self.mixer
        return mixer if mixer is not None and mixer.sounds(ring.speaker.hz) else None

    def _due_samples(self, ring: WorkerRing) -> int:
        """How many samples leave now: a whole frame, the rest of an utterance, or none."""
        wanted = self._frame_samples
        waiting = min(ring.speaker_waiting(), wanted)
        if waiting < wanted:
            at_end = ring.taken + waiting == ring.speaker_end
            if waiting == 0 or not (at_end or self._waited):
                # The rest of a frame may still come: give it one tick.
                self._waited = waiting > 0
                return 0
            if not at_end:
                self.underruns += 1
                ring.count_underrun(wanted - waiting)
        self._waited = False
        return waiting

    def _encode_speech(self, encoder: opus.Encoder, ring: WorkerRing, count: int) -> None:
        speaker = ring.speaker
        address = speaker.address(ring.taken)
        view = ring.take(count)
        if count < self._frame_samples or speaker.channels != self._channels:
            fade = self._fade_samples() if count < self._frame_samples else 0
            address = self._fill_work(view, speaker.channels, fade)
        self._ready_bytes = encoder.encode(address, self._frame_samples, self._out)
        self._encoded.append(ctypes.string_at(address, self._work.nbytes))
        self._speaking = count == self._frame_samples  # a shorter one has faded already
        self._fresh = False
        self._quiet = 0

    def _encode_mixed(
        self, encoder: opus.Encoder, ring: WorkerRing, mixer: Mixer, count: int
    ) -> None:
        """The next `count` samples of speech over the background, or the background alone."""
        if count:
            fade = self._fade_samples() if count < self._frame_samples else 0
            self._fill_work(ring.take(count), ring.speaker.channels, fade)
        self._encode_over(encoder, mixer, speaking=count > 0)
        self._speaking = count == self._frame_samples

    def _encode_over(self, encoder: opus.Encoder, mixer: Mixer, *, speaking: bool) -> None:
        """Mix the background into the whole frame that was filled, and encode it."""
        work = self._work
        mixer.mix(work, self._channels, speaking=speaking)
        self._ready_bytes = encoder.encode(work.ctypes.data, self._frame_samples, self._out)
        self._encoded.append(work.tobytes())
        self._fresh = False
        self._quiet = 0

    def _encode_flushed(
        self, encoder: opus.Encoder, ring: WorkerRing, start: int, flush_to: int
    ) -> bool:
        """A flush that wants to fade, while speech is heard: make its one packet ready.

        It holds the next samples from `start`, faded out. They count as sent; the flush is
        applied behind them, once they have left. False when there is nothing to fade.
        """
        count = min(ring.flush_fade(), flush_to - start)
        if not self._audible or count <= 0:
            return False
        speaker = ring.speaker
        address = self._fill_work(speaker.view(start, count), speaker.channels, count)
        mixer = self._background(ring)
        self._mixed = mixer is not None
        if mixer is not None:
            self._encode_over(encoder, mixer, speaking=True)
        else:
            self._ready_bytes = encoder.encode(address, self._frame_samples, self._out)
        self._from, self._until = start, start + count
        self._fading = True
        return True

    def _fill_work(self, view: memoryview, channels: int, fade: int) -> int:
        """Copy samples into a whole frame, the last `fade` of them faded out, then silence."""
        samples = np.frombuffer(view, np.int16)
        if channels != self._channels:
            samples = samples.reshape(-1, channels).mean(axis=1).astype(np.int16)
        work = self._work
        work[: len(samples)] = samples
        work[len(samples) :] = 0
        faded = min(len(samples), fade * self._channels)
        if faded:
            end = work[len(samples) - faded : len(samples)]
            end[:] = (end * np.linspace(1, 0, faded)).astype(np.int16)
        return work.ctypes.data

    def _fade_samples(self) -> int:
        return int(self._frame_samples * FADE_MS / 20)

    def _encode_fade(self, encoder: opus.Encoder, ring: WorkerRing) -> None:
        """The ring ran dry behind a whole frame: 2.5 ms of its end, mirrored and faded out."""
        count = self._fade_samples()
        start = ring.taken - count
        work = self._work
        work[:] = 0
        if start >= ring.speaker_base and ring.speaker.channels == self._channels:
            tail = np.frombuffer(ring.speaker.view(start, count), np.int16)[::-1]
            work[: len(tail)] = (tail * np.linspace(1, 0, len(tail))).astype(np.int16)
        self._ready_bytes = encoder.encode(work.ctypes.data, self._frame_samples, self._out)

    def _encode_silence(self, encoder: opus.Encoder) -> None:
        # Behind speech one packet of silence leaves in any case. It takes a decoder to where a
        # fresh encoder begins; one that gets none would go on with the speech for a while.
        stops = self._quiet >= 2 and not self._audible
        if not self._codec.silence:
            if self._quiet < 2:
                self._be_silent()
            self._ready_bytes = 0 if stops else self._put_silence(encoder)
            return
        if self._quiet < 2:
            self._encoded.clear()
            self._work[:] = 0
            count = encoder.encode(self._work.ctypes.data, self._frame_samples, self._out)
            self._ready_bytes = count
            self._quiet = self._quiet + 1 if count <= len(OPUS_SILENCE) else 0
            self._cached = self._written(count)
            return
        # Both ends' codecs have come to rest: the same packet again costs nothing.
        self._ready_bytes = 0 if stops and self._codec.dtx else self._put_silence(encoder)

    def _written(self, count: int) -> bytes:
        packet = self._packet
        assert packet is not None  # noqa: S101 - the caller looked
        return bytes(packet.buffer[packet.header_bytes : packet.header_bytes + count])

    def _put(self, payload: bytes) -> int:
        packet = self._packet
        assert packet is not None  # noqa: S101 - the caller looked
        packet.buffer[packet.header_bytes : packet.header_bytes + len(payload)] = payload
        return len(payload)

    # -- on the beat: send --------------------------------------------------------------------

    def send(self, now_ns: int) -> None:
        """Let the packet go that was made ready, unless a flush has overtaken it."""
        packet, ring = self._packet, self._ring
        if packet is None or self._protector is None or self._path is None:
            return
        self._keep_time(now_ns)
        if ring is not None and not self._fading:
            flush_to = ring.flush_due()
            if flush_to is not None or ring.flush_ack != self._flush_ack:
                self._overtaken(ring, flush_to)
        count, self._ready_bytes = self._ready_bytes, 0
        if count:
            kind = packet.payload_type
            if self.redundancy.level and self.red_type is not None:
                kind, count = (
                    self.red_type,
                    self._put(self.redundancy.wrap(kind, packet.timestamp, self._written(count))),
                )
            packet.patch(marker=self._marker, payload_type=kind)
            length = self._protector.protect(packet.header_bytes + count)
            if length and self._path.send(self._view[:length]):
                self.packets += 1
                self.octets += count
            else:
                self.failures += 1
        self._marker = count == 0
        self._audible = self._until > self._from
        if ring is not None and self._audible:
            reception = self.reception
            ring.commit(
                self._until, now_ns, packet.timestamp, reception.rtt_us, reception.jitter_us
            )
            self._from = self._until  # it has left: no flush may take it back
        if ring is not None and self._fading:
            self._fading = False
            ring.apply_flush()
            self._flush_ack = ring.flush_ack
            self._be_cut()
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

    def _overtaken(self, ring: WorkerRing, flush_to: int | None) -> None:
        """A flush came after the packet was encoded."""
        encoder = self._encoder
        if self._until <= self._from or encoder is None:
            ring.apply_flush()
            self._flush_ack = ring.flush_ack
            return
        # What the encoder knows of these samples the peer will never hear.
        mixed = self._mixed
        fades = flush_to is not None and self._audible and ring.flush_fade() > 0
        if mixed and self.mixer is not None:
            self.mixer.undo()
        if mixed or fades:
            self._prime(encoder)
        if (
            flush_to is not None
            and fades
            and self._encode_flushed(encoder, ring, self._from, flush_to)
        ):
            return
        self._be_cut()
        ring.apply_flush()
        self._flush_ack = ring.flush_ack
        if mixed or self._from < ring.flush_ack < self._until:
            self.encode()  # from the flush on: nothing new is lost
        else:
            self._ready_bytes = self._put_silence(encoder)
            self._from = self._until = ring.taken

    def _prime(self, encoder: opus.Encoder) -> None:
        """Bring the encoder to where the peer's decoder is, or a fade would begin with a click."""
        encoder.reset()
        if self._encoded:
            self._encoded.pop()  # this one does not leave
        for frame in self._encoded:
            samples = np.frombuffer(frame, np.int16)
            encoder.encode(samples.ctypes.data, self._frame_samples, self._out)

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
