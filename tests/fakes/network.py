"""A network that loses, delays, swaps and doubles datagrams: seeded, without a clock of its own.

What goes in with `send` comes out of `due` when its time has come; a test moves the time by
hand, `tun_network` and the light callers take it from the machine. One object is one direction.
The same seed and the same calls give the same faults.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What a direction does to datagrams. Shares are 0 to 1; the default does nothing."""

    loss: float = 0.0
    """Share that is lost."""
    burst: float = 1.0
    """Mean length of a loss in datagrams. Above 1 losses come in bursts (Gilbert-Elliott: a good
    state that loses nothing, a bad one that loses everything); at 1 each is a draw of its own."""
    delay_ms: float = 0.0
    """What each one takes."""
    jitter_ms: float = 0.0
    """Standard deviation of a normal distribution around the delay. It is cut at 0: give a delay
    of two or three times that."""
    keeps_order: bool = True
    """Jitter never lets one overtake another, as on one path; False: it may."""
    reorder: float = 0.0
    """Share that is held back, so that later ones overtake it."""
    held_ms: float = 30.0
    """How long those are held back."""
    duplicate: float = 0.0
    """Share that comes twice."""
    rate_bps: float = 0.0
    """What the link carries; 0: no limit."""
    queue_bytes: int = 64_000
    """What may wait for the link; what finds no room is dropped."""

    def __post_init__(self) -> None:
        """Refuse what no link can do."""
        shares = (self.loss, self.reorder, self.duplicate)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError("shares are 0 to 1")
        if self.burst < 1 or min(self.delay_ms, self.jitter_ms, self.held_ms, self.rate_bps) < 0:
            raise ValueError("a burst has at least one datagram, and nothing else is negative")
        # In the good state at least one datagram passes, so bursts bound the loss.
        if self.burst > 1 and self.loss > self.burst / (self.burst + 1):
            raise ValueError(f"bursts of {self.burst:g} cannot lose {self.loss:.0%}")


@dataclass(slots=True)
class Counts:
    """What has happened to datagrams."""

    sent: int = 0
    lost: int = 0
    dropped: int = 0
    """For want of room in the link's queue."""
    duplicated: int = 0
    held: int = 0
    delivered: int = 0
    losses: list[int] = field(default_factory=list)
    """The numbers of those that were lost or dropped; the first one sent is 0."""


class Network:
    """One direction. `faults` may be replaced at any time and holds for what is sent then."""

    def __init__(self, faults: Faults | None = None, seed: int = 0) -> None:
        self.faults = faults or Faults()
        self.counts = Counts()
        self._rng = random.Random(seed)
        self._bad = False
        self._waiting: list[tuple[int, int, bytes]] = []
        self._number = 0
        self._newest_ns = 0
        self._free_ns = 0

    def send(self, data: bytes, now_ns: int) -> None:
        """A datagram enters."""
        faults, counts = self.faults, self.counts
        number = counts.sent
        counts.sent += 1
        if self._loses(faults):
            counts.lost += 1
            counts.losses.append(number)
            return
        left_ns = self._through_link(faults, len(data), now_ns)
        if left_ns is None:
            counts.dropped += 1
            counts.losses.append(number)
            return
        self._put(data, self._arrival_ns(faults, left_ns))
        if faults.duplicate and self._rng.random() < faults.duplicate:
            counts.duplicated += 1
            self._put(data, self._arrival_ns(faults, left_ns))

    def due(self, now_ns: int) -> list[bytes]:
        """What has arrived by `now_ns`, in order of arrival."""
        arrived = []
        while self._waiting and self._waiting[0][0] <= now_ns:
            arrived.append(heapq.heappop(self._waiting)[2])
        self.counts.delivered += len(arrived)
        return arrived

    @property
    def next_ns(self) -> int | None:
        """When `due` will have something; None: nothing is on its way."""
        return self._waiting[0][0] if self._waiting else None

    def _loses(self, faults: Faults) -> bool:
        draw = self._rng.random()
        if faults.burst <= 1:
            return draw < faults.loss
        if self._bad:
            self._bad = draw >= 1 / faults.burst
        else:
            # So that the share of time in the bad state is the loss.
            self._bad = draw < faults.loss / (faults.burst * (1 - faults.loss))
        return self._bad

    def _through_link(self, faults: Faults, size: int, now_ns: int) -> int | None:
        """When the last bit has left the link; None when its queue is full."""
        if not faults.rate_bps:
            return now_ns
        start_ns = max(now_ns, self._free_ns)
        waiting_bytes = (start_ns - now_ns) * faults.rate_bps / 8 / NS_PER_S
        if waiting_bytes + size > faults.queue_bytes:
            return None
        self._free_ns = start_ns + round(size * 8 * NS_PER_S / faults.rate_bps)
        return self._free_ns

    def _arrival_ns(self, faults: Faults, left_ns: int) -> int:
        delay_ms = faults.delay_ms
        if faults.jitter_ms:
            delay_ms = max(0.0, self._rng.gauss(delay_ms, faults.jitter_ms))
        arrival_ns = left_ns + round(delay_ms * NS_PER_MS)
        if faults.reorder and self._rng.random() < faults.reorder:
            self.counts.held += 1
            return arrival_ns + round(faults.held_ms * NS_PER_MS)
        if faults.keeps_order:
            arrival_ns = self._newest_ns = max(arrival_ns, self._newest_ns)
        return arrival_ns

    def _put(self, data: bytes, arrival_ns: int) -> None:
        self._number += 1
        heapq.heappush(self._waiting, (arrival_ns, self._number, data))
