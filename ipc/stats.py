"""What is known of a session in numbers: records with the names and units of W3C's webrtc-stats.

On the wire and over HTTP a field is camelCase, and one that is not known (yet) is absent.
Counters run since the session began, also when the caller's connection is made anew. Times
are seconds as W3C has it, except where the name says `Ms`; `timestamp` is Unix time in ms.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Record(
    msgspec.Struct, kw_only=True, frozen=True, rename="camel", tag_field="type", omit_defaults=True
):
    """Base of all records; `type` is W3C's, or begins with `backbeat`."""

    id: str
    timestamp: float

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON has it."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields


class InboundRtp(Record, kw_only=True, frozen=True, tag="inbound-rtp"):
    """What comes from the caller. Samples are those of the RTP clock (`clockRate`).

    `concealedSamples` were made up, among them `silentConcealedSamples` where nothing came for
    65 ms (mute, outage), but not the pauses that a sender announces (DTX, comfort noise).
    `packetsDiscarded` came when their gap had been bridged.
    """

    kind: str
    ssrc: int
    clock_rate: int
    packets_received: int
    bytes_received: int
    packets_lost: int
    packets_discarded: int
    jitter: float
    concealed_samples: int
    silent_concealed_samples: int


class OutboundRtp(Record, kw_only=True, frozen=True, tag="outbound-rtp"):
    """What goes to the caller. Bytes are payload, with the redundancy in it.

    `nackCount`, `pliCount` and `firCount` tell how often the caller asked for lost packets or a
    whole picture by RTCP. Audio is never sent again: RED carries what may be lost.
    """

    kind: str
    ssrc: int
    packets_sent: int
    bytes_sent: int
    nack_count: int
    pli_count: int
    fir_count: int
    remote_id: str | None = None


class RemoteInboundRtp(Record, kw_only=True, frozen=True, tag="remote-inbound-rtp"):
    """How that arrives, by the caller's newest RTCP report; absent before the first."""

    kind: str
    ssrc: int
    local_id: str
    packets_lost: int
    fraction_lost: float
    jitter: float
    round_trip_time: float | None = None


class IceCandidate(Record, kw_only=True, frozen=True):
    """One end of the pair."""

    address: str
    port: int
    protocol: str
    candidate_type: str


class LocalCandidate(IceCandidate, kw_only=True, frozen=True, tag="local-candidate"):
    """Our end."""


class RemoteCandidate(IceCandidate, kw_only=True, frozen=True, tag="remote-candidate"):
    """The caller's end."""


class CandidatePair(Record, kw_only=True, frozen=True, tag="candidate-pair"):
    """The path that ICE has chosen. The round trip is that of the newest check of ours.

    `availableOutgoingBitrate` is the caller's own estimate (REMB, bit/s), if it sends one.
    """

    local_candidate_id: str
    remote_candidate_id: str
    state: str
    nominated: bool
    responses_received: int
    current_round_trip_time: float | None = None
    available_outgoing_bitrate: float | None = None


class DataChannel(Record, kw_only=True, frozen=True, tag="data-channel"):
    """The caller's channel for app messages. Pings count in `backbeat-media` alone.

    `state` is absent before the caller has made one, and all begins with it.
    """

    label: str
    state: str
    messages_sent: int
    bytes_sent: int
    messages_received: int
    bytes_received: int


class Media(Record, kw_only=True, frozen=True, tag="backbeat-media"):
    """What W3C has no name for, of this session.

    `lateness…` is how far behind its schedule a packet left, over all and at worst.
    `flushLatencyMs` is from the bot's newest `flush()` to the packet that had nothing more of
    it. Packets: `recovered` by RED or in-band FEC, `late` (their gap was given up), `duplicate`,
    `rejected` (not authentic), `malformed`, `unknown` (another source or codec), `broken` (the
    decoder refused them). `mic…Samples` are those of the ring, at the bot's rate: made up for
    losses, filled for silence, and overwritten before the bot read them. Depths are what waits
    in the rings; `gapWaitMs` is how long a gap waits at present. `pings` came over the data
    channel, the newest `pingAgeMs` ago; `malformedMessages` came there and were refused.
    """

    lateness_ms: float
    max_lateness_ms: float
    flushes: int
    flush_latency_ms: float | None = None
    max_flush_latency_ms: float | None = None
    packets_recovered: int
    packets_late: int
    packets_duplicate: int
    packets_rejected: int
    packets_malformed: int
    packets_unknown: int
    packets_broken: int
    gap_wait_ms: float
    mic_concealed_samples: int | None = None
    mic_filled_samples: int | None = None
    mic_dropped_samples: int | None = None
    mic_depth_ms: float | None = None
    speaker_depth_ms: float | None = None
    underruns: int
    send_failures: int
    redundancy_level: int
    dropped_messages: int
    malformed_messages: int = 0
    pings: int = 0
    ping_age_ms: float | None = None


class WorkerPort(Record, kw_only=True, frozen=True, tag="backbeat-worker"):
    """The UDP port that the session shares with the others of its worker.

    `datagramsDropped` tells how many were for nobody or no good, by reason.
    """

    datagrams_received: int
    datagrams_dropped: dict[str, int]


class Websocket(Record, kw_only=True, frozen=True, tag="backbeat-websocket"):
    """The connection with a WebSocket server, in the place of RTP's records and `backbeat-media`.

    Messages and bytes are of all connections of the session; `connections` counts them.
    `lateness…` is how far behind its schedule a beat came, `unsentBytes` what waits because the
    server does not read, `waitingBytes` audio that waits because the bot does not.
    """

    connected: bool
    connections: int
    messages_sent: int
    bytes_sent: int
    messages_received: int
    bytes_received: int
    audio_messages_sent: int
    audio_messages_received: int
    malformed_messages: int
    dropped_messages: int
    unsent_bytes: int
    waiting_bytes: int
    lateness_ms: float
    max_lateness_ms: float
    underruns: int
    flushes: int
    flush_latency_ms: float | None = None
    max_flush_latency_ms: float | None = None
    mic_dropped_samples: int | None = None
    mic_depth_ms: float | None = None
    speaker_depth_ms: float | None = None
    round_trip_time: float | None = None


AnyRecord = (
    InboundRtp
    | OutboundRtp
    | RemoteInboundRtp
    | CandidatePair
    | LocalCandidate
    | RemoteCandidate
    | DataChannel
    | Media
    | WorkerPort
    | Websocket
)


def as_report(records: list[AnyRecord]) -> dict[str, dict[str, Any]]:
    """The records by their ids, as `getStats()` of a browser gives them."""
    return {record.id: record.as_dict() for record in records}
