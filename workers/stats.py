"""The statistics of a session, made from the counters that its parts keep.

Pure: reads plain numbers, takes the time, changes nothing. Nothing is counted for this alone
that the media path does not count anyhow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipc.clock import NS_PER_MS, NS_PER_S
from ipc.stats import (
    AnyRecord,
    CandidatePair,
    DataChannel,
    InboundRtp,
    LocalCandidate,
    Media,
    OutboundRtp,
    RemoteCandidate,
    RemoteInboundRtp,
    WorkerPort,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipc.audio_ring import WorkerRing
    from workers.udp_mux import UdpMux
    from workers.webrtc import data_channel
    from workers.webrtc.ice import ChosenPair
    from workers.webrtc.peer import Peer
    from workers.webrtc.receiver import Receiver
    from workers.webrtc.sender import Sender

AUDIO = "audio"
INBOUND, OUTBOUND, REMOTE_INBOUND = "inbound-audio", "outbound-audio", "remote-inbound-audio"
PAIR, LOCAL, REMOTE = "candidate-pair", "local-candidate", "remote-candidate"
DATA = "data-channel"
MEDIA, WORKER = "backbeat-media", "backbeat-worker"
# A bot owns the word that says when it flushed: what lies further back is not believed.
MAX_FLUSH_NS = NS_PER_S


@dataclass(slots=True)
class Flushes:
    """How long flushes took, from the bot's store to the packet without what was flushed."""

    count: int = 0
    newest_ns: int | None = None
    worst_ns: int | None = None

    def answered(self, asked_ns: int, now_ns: int) -> None:
        """A flush was answered; `asked_ns` is by the bot, 0 when it does not say."""
        self.count += 1
        took_ns = now_ns - asked_ns
        if asked_ns and 0 <= took_ns <= MAX_FLUSH_NS:
            self.newest_ns = took_ns
            self.worst_ns = max(took_ns, self.worst_ns or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the numbers of one session are; None for what it does not have now."""

    sender: Sender | None
    receiver: Receiver | None
    pair: ChosenPair | None
    ring: WorkerRing | None
    flushes: Flushes
    dropped_messages: int
    datagrams: int
    dropped: Mapping[str, int]
    data: data_channel.DataChannel | None = None


def sources(
    peer: Peer | None,
    mux: UdpMux,
    ring: WorkerRing | None,
    flushes: Flushes,
    dropped_messages: int,
) -> Sources:
    """Those of a session whose caller comes over WebRTC, or is not there yet."""
    return Sources(
        sender=peer.sender if peer is not None else None,
        receiver=peer.receiver if peer is not None else None,
        pair=peer.pair if peer is not None else None,
        ring=ring,
        flushes=flushes,
        dropped_messages=dropped_messages,
        datagrams=mux.received,
        dropped=mux.dropped,
        data=peer.data if peer is not None else None,
    )


def records(sources: Sources, unix_ns: int) -> list[AnyRecord]:
    """All that is known of the session at `unix_ns`."""
    at = unix_ns / NS_PER_MS
    found: list[AnyRecord] = []
    if sources.receiver is not None:
        found += _inbound(sources.receiver, at)
    if sources.sender is not None:
        found += _outbound(sources.sender, at)
    if sources.pair is not None:
        limit_bps = sources.sender.reception.limit_bps if sources.sender is not None else 0
        found += _pair(sources.pair, limit_bps, at)
    if sources.data is not None:
        found += _data(sources.data, at)
    if sources.sender is not None and sources.receiver is not None:
        found.append(_media(sources, sources.sender, sources.receiver, at))
    found.append(
        WorkerPort(
            id=WORKER,
            timestamp=at,
            datagrams_received=sources.datagrams,
            datagrams_dropped=dict(sources.dropped),
        )
    )
    return found


def _inbound(receiver: Receiver, at: float) -> list[AnyRecord]:
    arrivals, reorder = receiver.arrivals, receiver.reorder
    if arrivals is None:
        return []
    # Nothing is missing in a pause that its sender has announced.
    silent = reorder.filled_ticks - receiver.paused_ticks
    return [
        InboundRtp(
            id=INBOUND,
            timestamp=at,
            kind=AUDIO,
            ssrc=arrivals.ssrc,
            clock_rate=arrivals.clock_hz,
            packets_received=arrivals.packets,
            bytes_received=arrivals.octets,
            packets_lost=arrivals.lost,
            packets_discarded=reorder.late,
            jitter=arrivals.jitter_s,
            concealed_samples=reorder.concealed_ticks + silent,
            silent_concealed_samples=silent,
        )
    ]


def _outbound(sender: Sender, at: float) -> list[AnyRecord]:
    ssrc = sender.ssrc
    if ssrc is None:
        return []
    reception = sender.reception
    reported = reception.reports > 0
    found: list[AnyRecord] = [
        OutboundRtp(
            id=OUTBOUND,
            timestamp=at,
            kind=AUDIO,
            ssrc=ssrc,
            packets_sent=sender.packets,
            bytes_sent=sender.octets,
            nack_count=reception.nacks,
            pli_count=reception.plis,
            fir_count=reception.firs,
            remote_id=REMOTE_INBOUND if reported else None,
        )
    ]
    if reported:
        measured = reception.round_trips > 0
        found.append(
            RemoteInboundRtp(
                id=REMOTE_INBOUND,
                timestamp=at,
                kind=AUDIO,
                ssrc=ssrc,
                local_id=OUTBOUND,
                packets_lost=reception.packets_lost,
                fraction_lost=reception.fraction_lost,
                jitter=reception.jitter_us / 1e6,
                round_trip_time=reception.rtt_us / 1e6 if measured else None,
            )
        )
    return found


def _pair(pair: ChosenPair, limit_bps: int, at: float) -> list[AnyRecord]:
    rtt_ns = pair.rtt_ns
    return [
        CandidatePair(
            id=PAIR,
            timestamp=at,
            local_candidate_id=LOCAL,
            remote_candidate_id=REMOTE,
            state="succeeded",
            nominated=True,
            responses_received=pair.answers,
            current_round_trip_time=None if rtt_ns is None else rtt_ns / NS_PER_S,
            available_outgoing_bitrate=float(limit_bps) if limit_bps else None,
        ),
        LocalCandidate(
            id=LOCAL,
            timestamp=at,
            address=pair.local[0],
            port=pair.local[1],
            protocol="udp",
            candidate_type=pair.local_type,
        ),
        RemoteCandidate(
            id=REMOTE,
            timestamp=at,
            address=pair.remote[0],
            port=pair.remote[1],
            protocol="udp",
            candidate_type=pair.remote_type,
        ),
    ]


def _data(data: data_channel.DataChannel, at: float) -> list[AnyRecord]:
    state = data.state
    if state is None:
        return []
    return [
        DataChannel(
            id=DATA,
            timestamp=at,
            label=data.label,
            state=state,
            messages_sent=data.sent,
            bytes_sent=data.sent_bytes,
            messages_received=data.received,
            bytes_received=data.received_bytes,
        )
    ]


def _media(sources: Sources, sender: Sender, receiver: Receiver, at: float) -> Media:
    ring, reorder, flushes = sources.ring, receiver.reorder, sources.flushes
    data = sources.data
    if data is not None:
        data.expire()
    return Media(
        id=MEDIA,
        timestamp=at,
        lateness_ms=sender.late_ns / max(1, sender.beats) / NS_PER_MS,
        max_lateness_ms=sender.worst_late_ns / NS_PER_MS,
        flushes=flushes.count,
        flush_latency_ms=_ms(flushes.newest_ns),
        max_flush_latency_ms=_ms(flushes.worst_ns),
        packets_recovered=reorder.recovered,
        packets_late=reorder.late,
        packets_duplicate=reorder.duplicates,
        packets_rejected=receiver.rejected,
        packets_malformed=receiver.malformed,
        packets_unknown=receiver.unknown,
        packets_broken=reorder.broken,
        gap_wait_ms=reorder.wait_ns / NS_PER_MS,
        mic_concealed_samples=None if ring is None else ring.mic_concealed,
        mic_filled_samples=None if ring is None else ring.mic_filled,
        mic_dropped_samples=None if ring is None else ring.mic_dropped,
        mic_depth_ms=None
        if ring is None
        else 1000 * (ring.mic_written - ring.mic_read) / ring.mic.hz,
        speaker_depth_ms=None if ring is None else 1000 * ring.speaker_waiting() / ring.speaker.hz,
        underruns=sender.underruns,
        send_failures=sender.failures,
        redundancy_level=sender.redundancy.level if sender.red_type is not None else 0,
        dropped_messages=sources.dropped_messages + (0 if data is None else data.dropped),
        malformed_messages=0 if data is None else data.malformed,
        pings=0 if data is None else data.pings,
        ping_age_ms=None if data is None else _ms(data.ping_age_ns),
    )


def _ms(ns: int | None) -> float | None:
    return None if ns is None else ns / NS_PER_MS
