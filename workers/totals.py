"""Counters of a session that never jump back: a caller's new connection counts on.

Each connection counts from 0. Here is what those before it had counted, by the record and its
field, and added to the records of the one of the moment.
"""

from __future__ import annotations

import msgspec

from ipc.stats import (
    AnyRecord,
    CandidatePair,
    InboundRtp,
    Media,
    OutboundRtp,
    Record,
    RemoteInboundRtp,
)

# The fields that a connection counts; all others are of the session or of the moment.
COUNTED: dict[type[Record], tuple[str, ...]] = {
    InboundRtp: (
        "packets_received",
        "bytes_received",
        "packets_lost",
        "packets_discarded",
        "concealed_samples",
        "silent_concealed_samples",
    ),
    OutboundRtp: ("packets_sent", "bytes_sent", "nack_count", "pli_count", "fir_count"),
    RemoteInboundRtp: ("packets_lost",),
    CandidatePair: ("responses_received",),
    Media: (
        "packets_recovered",
        "packets_late",
        "packets_duplicate",
        "packets_rejected",
        "packets_malformed",
        "packets_unknown",
        "packets_broken",
        "underruns",
        "send_failures",
    ),
}


class Totals:
    """What the connections before this one have counted."""

    def __init__(self) -> None:
        self._before: dict[str, dict[str, int]] = {}
        # What was told last: a record that is gone by the end of its connection counts with it.
        self._told: dict[str, dict[str, int]] = {}

    def add(self, records: list[AnyRecord]) -> list[AnyRecord]:
        """The records of the connection of the moment, with what was counted before."""
        sums = [self._added(record) for record in records]
        for record in sums:
            fields = COUNTED.get(type(record))
            if fields is not None:
                self._told[record.id] = {name: getattr(record, name) for name in fields}
        return sums

    def keep(self, records: list[AnyRecord]) -> None:
        """A connection ends with these records."""
        self.add(records)
        self._before = dict(self._told)

    def _added(self, record: AnyRecord) -> AnyRecord:
        before = self._before.get(record.id)
        if before is None:
            return record
        sums = {name: getattr(record, name) + count for name, count in before.items()}
        return msgspec.structs.replace(record, **sums)
