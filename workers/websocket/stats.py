"""The statistics of a WebSocket leg, made from the counters that its parts keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipc.clock import NS_PER_MS, NS_PER_S
from ipc.stats import Websocket

if TYPE_CHECKING:
    from ipc.audio_ring import WorkerRing
    from workers.stats import Flushes
    from workers.websocket.peer import WebsocketPeer

ID = "backbeat-websocket"


def record(
    peer: WebsocketPeer,
    ring: WorkerRing | None,
    flushes: Flushes,
    dropped_messages: int,
    unix_ns: int,
) -> Websocket:
    """All that is known of the connection at `unix_ns`."""
    link, sender, receiver = peer.connection, peer.sender, peer.receiver
    sent, sent_bytes, received, received_bytes = peer.totals()
    rtt_ns = link.rtt_ns if link is not None else 0
    return Websocket(
        id=ID,
        timestamp=unix_ns / NS_PER_MS,
        connected=link is not None,
        connections=peer.dialled,
        messages_sent=sent,
        bytes_sent=sent_bytes,
        messages_received=received,
        bytes_received=received_bytes,
        audio_messages_sent=sender.chunks,
        audio_messages_received=receiver.audio_messages,
        malformed_messages=receiver.malformed,
        dropped_messages=dropped_messages + receiver.dropped_messages + peer.data.dropped,
        unsent_bytes=link.unsent_bytes if link is not None else 0,
        waiting_bytes=receiver.waiting_bytes,
        lateness_ms=sender.late_ns / max(1, sender.beats) / NS_PER_MS,
        max_lateness_ms=sender.worst_late_ns / NS_PER_MS,
        underruns=sender.underruns,
        flushes=flushes.count,
        flush_latency_ms=_ms(flushes.newest_ns),
        max_flush_latency_ms=_ms(flushes.worst_ns),
        mic_dropped_samples=None if ring is None else ring.mic_dropped,
        mic_depth_ms=None
        if ring is None
        else 1000 * (ring.mic_written - ring.mic_read) / ring.mic.hz,
        speaker_depth_ms=None if ring is None else 1000 * ring.speaker_waiting() / ring.speaker.hz,
        round_trip_time=rtt_ns / NS_PER_S if rtt_ns else None,
    )


def _ms(ns: int | None) -> float | None:
    return None if ns is None else ns / NS_PER_MS
