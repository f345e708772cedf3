"""The packet that is ready a slot ahead: out of the speaker ring, until it leaves or is overtaken.

Samples are taken on a private cursor and committed once they have left, so that a flush which
comes in between takes back exactly what the caller will not hear. Hot path; knows no socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.webrtc.frame_encoder import FrameEncoder

if TYPE_CHECKING:
    from ipc.audio_ring import WorkerRing
    from ipc.codec import Codec
    from workers.audio import g711
    from workers.audio.mixer import Mixer
    from workers.webrtc.rtcp import Reception
    from workers.webrtc.rtp import RtpPacket


class NextPacket:
    """Makes the payload of the next packet. On the beat come `due`, and once it is sent `left`."""

    def __init__(self, codec: Codec) -> None:
        # The ring of the moment; None while no bot is attached. To change it, `join`.
        self.ring: WorkerRing | None = None
        # What plays under the speech, and whether the newest frame has some of it.
        self.mixer: Mixer | None = None
        self._mixed = False
        self.underruns = 0
        self._codec = codec
        # What was negotiated; no encoder before that, and none after `close`.
        self.encoder: FrameEncoder | None = None
        self._packet: RtpPacket | None = None
        self.law: g711.Law | None = None
        self._clock_ticks = 960
        self._held = False
        self._stereo = False
        # Bytes of payload in the packet's buffer, and the samples of the ring that they are.
        self._ready_bytes = 0
        self._from = self._until = 0
        # Whether the last packet carried speech, and whether the ready one fades a flush.
        self._audible = False
        self._fading = False
        # Whether the newest frame is one of speech that goes on.
        self._speaking = False
        # Whether the rest of a frame has had its tick to come.
        self._waited = False
        self._flush_ack = 0

    # -- set-up ---------------------------------------------------------------------------

    def join(self, ring: WorkerRing | None) -> None:
        """Go on with the speech of another bot, or none."""
        self.ring = ring
        self._flush_ack = ring.flush_ack if ring is not None else 0
        # What was encoded ahead from an earlier ring has its cursors and must not be committed.
        self._from = self._until = 0
        self._fading = False
        self._make_encoder()

    @property
    def stereo(self) -> bool:
        """Whether the peer plays stereo; a mono ring is sent as mono anyway."""
        return self._stereo

    @stereo.setter
    def stereo(self, stereo: bool) -> None:
        if stereo != self._stereo:
            self._stereo = stereo
            self._make_encoder()

    def configure(self, codec: Codec) -> None:
        """Encode like this from the next frame on."""
        if codec != self._codec:
            self._codec = codec
            if self.encoder is not None and not self.encoder.configure(codec):
                self._make_encoder()

    def open(
        self, packet: RtpPacket, law: g711.Law | None, clock_ticks: int, *, held: bool
    ) -> None:
        """Fill that packet: with Opus if there is no law, with nothing for a peer on hold."""
        self._packet, self.law = packet, law
        self._clock_ticks, self._held = clock_ticks, held
        self._make_encoder()

    def change(self, law: g711.Law | None, clock_ticks: int, *, held: bool) -> None:
        """Go on with what was agreed on now; what is ready is encoded again."""
        encoder, packet = self.encoder, self._packet
        if encoder is None or packet is None:
            return
        frame, channels = self._ready_frame(encoder), encoder.channels
        speaking, mixed = self._speaking, self._mixed
        self.open(packet, law, clock_ticks, held=held)
        other = self.encoder
        if frame is None or held or other is None:
            self._ready_bytes = 0
        elif not frame:
            self._ready_bytes = other.cached()
        else:
            self._ready_bytes = other.again(frame, channels)
            self._speaking, self._mixed = speaking, mixed

    def _ready_frame(self, encoder: FrameEncoder) -> bytes | None:
        """The samples of the packet that is ready: none of silence, None without a packet."""
        if not self._ready_bytes:
            return None
        if self._fading and not self._mixed:
            return encoder.work.samples.tobytes()
        return encoder.newest if self._until > self._from or self._mixed else b""

    def close(self) -> None:
        """Make nothing more."""
        self._packet = None
        self._close_encoder()

    def _make_encoder(self) -> None:
        self._close_encoder()
        if self._packet is None:
            return
        ring = self.ring
        hz, channels = (ring.speaker.hz, ring.speaker.channels) if ring is not None else (48_000, 1)
        self.encoder = FrameEncoder(
            self._packet,
            self._codec,
            hz=hz,
            channels=channels if self._stereo and self.law is None else 1,
            law=self.law,
            clock_ticks=self._clock_ticks,
            held=self._held,
        )
        self._speaking = self._mixed = False

    def _close_encoder(self) -> None:
        encoder, self.encoder = self.encoder, None
        if encoder is not None:
            encoder.close()

    # -- a slot ahead -----------------------------------------------------------------------

    def encode(self) -> None:
        """Make the next 20 ms ready."""
        encoder, ring = self.encoder, self.ring
        if encoder is None:
            return
        if ring is None:
            self._ready_bytes = encoder.silence(behind_speech=self._audible)
            return
        flush_to = ring.flush_due()
        if flush_to is not None:
            if self._encode_flushed(encoder, ring, ring.taken, flush_to):
                return
            ring.apply_flush()
        if ring.flush_ack != self._flush_ack:
            self._flush_ack = ring.flush_ack
            self._be_cut(encoder)
        self._from = ring.taken
        count = self._due_samples(encoder, ring)
        mixer = self.mixer
        if mixer is not None and mixer.sounds(ring.speaker.hz):
            self._mixed = True
            self._encode_mixed(encoder, ring, mixer, count)
        else:
            self._mixed = False
            if count:
                self._encode_speech(encoder, ring, count)
            elif self._speaking:
                self._speaking = False
                self._encode_fade(encoder, ring)
            else:
                self._ready_bytes = encoder.silence(behind_speech=self._audible)
        self._until = ring.taken

    def _due_samples(self, encoder: FrameEncoder, ring: WorkerRing) -> int:
        """How many samples leave now: a whole frame, the rest of an utterance, or none."""
        wanted = encoder.samples
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

    def _encode_speech(self, encoder: FrameEncoder, ring: WorkerRing, count: int) -> None:
        speaker = ring.speaker
        whole = count == encoder.samples
        if whole and speaker.channels == encoder.channels:
            address = speaker.address(ring.taken)
            self._ready_bytes = encoder.speech(address, ring.take(count))
        else:
            work = encoder.work
            work.fill(ring.take(count), speaker.channels, 0 if whole else work.fade)
            self._ready_bytes = encoder.worked()
        self._speaking = whole  # a shorter one has faded already

    def _encode_mixed(
        self, encoder: FrameEncoder, ring: WorkerRing, mixer: Mixer, count: int
    ) -> None:
        """The next `count` samples of speech over the background, or the background alone."""
        work, whole = encoder.work, count == encoder.samples
        if count:
            work.fill(ring.take(count), ring.speaker.channels, 0 if whole else work.fade)
        mixer.mix(work.samples, work.channels, speaking=count > 0)
        self._ready_bytes = encoder.worked()
        self._speaking = whole

    def _encode_fade(self, encoder: FrameEncoder, ring: WorkerRing) -> None:
        """The ring ran dry behind a whole frame: 2.5 ms of its end, mirrored and faded out."""
        work, speaker = encoder.work, ring.speaker
        start = ring.taken - work.fade
        if start >= ring.speaker_base and speaker.channels == work.channels:
            work.mirror(speaker.view(start, work.fade))
        else:
            work.clear()
        self._ready_bytes = encoder.ending()
        encoder.ended()

    # -- flushes ------------------------------------------------------------------------------

    def _encode_flushed(
        self, encoder: FrameEncoder, ring: WorkerRing, start: int, flush_to: int
    ) -> bool:
        """A flush that wants to fade, while speech is heard: make its one packet ready.

        It holds the next samples from `start`, faded out. They count as sent; the flush is
        applied behind them, once they have left. False when there is nothing to fade.
        """
        count = min(ring.flush_fade(), flush_to - start)
        if not self._audible or count <= 0:
            return False
        speaker, work, mixer = ring.speaker, encoder.work, self.mixer
        work.fill(speaker.view(start, count), speaker.channels, count)
        if mixer is not None and mixer.sounds(speaker.hz):
            self._mixed = True
            mixer.mix(work.samples, work.channels, speaking=True)
            self._ready_bytes = encoder.worked()
        else:
            self._mixed = False
            self._ready_bytes = encoder.ending()
        self._from, self._until = start, start + count
        self._fading = True
        return True

    def _overtaken(self, ring: WorkerRing, flush_to: int | None) -> None:
        """A flush came after the packet was encoded."""
        encoder = self.encoder
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
            encoder.prime()
        if (
            flush_to is not None
            and fades
            and self._encode_flushed(encoder, ring, self._from, flush_to)
        ):
            return
        self._be_cut(encoder)
        ring.apply_flush()
        self._flush_ack = ring.flush_ack
        if mixed or self._from < ring.flush_ack < self._until:
            self.encode()  # from the flush on: nothing new is lost
        else:
            self._ready_bytes = encoder.rest()
            self._from = self._until = ring.taken

    def _be_cut(self, encoder: FrameEncoder) -> None:
        """The speech of the last packet has no successor. Under it the background goes on."""
        if not self._mixed:
            encoder.begin_anew()
        self._speaking = False

    # -- on the beat --------------------------------------------------------------------------

    def due(self) -> int:
        """A last look at the flush; then the bytes of payload that are to leave, 0 for none."""
        ring = self.ring
        if ring is not None and not self._fading:
            flush_to = ring.flush_due()
            if flush_to is not None or ring.flush_ack != self._flush_ack:
                self._overtaken(ring, flush_to)
        count, self._ready_bytes = self._ready_bytes, 0
        return count

    def left(self, now_ns: int, rtp_timestamp: int, reception: Reception) -> None:
        """It has left, or would have: commit its samples, and apply a flush that it faded."""
        until = self._until
        self._audible = audible = until > self._from
        ring = self.ring
        if ring is None:
            return
        if audible:
            ring.commit(until, now_ns, rtp_timestamp, reception.rtt_us, reception.jitter_us)
            self._from = until  # it has left: no flush may take it back
        if self._fading:
            self._fading = False
            ring.apply_flush()
            self._flush_ack = ring.flush_ack
            if self.encoder is not None:
                self._be_cut(self.encoder)
