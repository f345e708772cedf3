"""What the receiver of a stream reports about it: highest number, losses, jitter, delays.

RFC 3550 section 6.4.1 and appendix A.3, A.8. Takes numbers and `now`; no clock, no socket.
"""

from __future__ import annotations

from workers.webrtc import rtcp

NS_PER_S = 1_000_000_000


class Arrivals:
    """The bookkeeping of one source (SSRC)."""

    def __init__(self, ssrc: int, clock_hz: int) -> None:
        self.ssrc = ssrc
        self.packets = 0
        self.octets = 0
        self.clock_hz = clock_hz
        self._base = -1
        self._highest = 0  # with the number of wraps above its 16 bits
        self._transit = 0
        self._jitter_q4 = 0
        self._expected_before = self._packets_before = 0
        self._sender_ntp = 0
        self._sender_heard_ns = 0

    def add(self, sequence: int, timestamp: int, octets: int, now_ns: int) -> None:
        """A packet of the source has come."""
        self.packets += 1
        self.octets += octets
        transit = now_ns * self.clock_hz // NS_PER_S - timestamp
        if self._base < 0:
            self._base = self._highest = sequence
            self._transit = transit
            return
        ahead = (sequence - self._highest) & 0xFFFF
        if ahead < 0x8000:
            self._highest += ahead
        # The difference of two transits is small and signed, whatever wraps in them.
        change = (transit - self._transit) & 0xFFFFFFFF
        self._transit = transit
        if change >= 1 << 31:
            change = (1 << 32) - change
        # A step of more than a second is a new timeline, not jitter.
        if change < self.clock_hz:
            self._jitter_q4 += change - (self._jitter_q4 + 8 >> 4)

    def sender_reported(self, ntp: int, now_ns: int) -> None:
        """The source's own report, to be echoed so that it can measure the round trip."""
        self._sender_ntp, self._sender_heard_ns = ntp >> 16 & 0xFFFFFFFF, now_ns

    @property
    def expected(self) -> int:
        """Packets that were sent as far as we know."""
        return self._highest - self._base + 1 if self._base >= 0 else 0

    @property
    def lost(self) -> int:
        """Expected and not come; below 0 when some came twice."""
        return self.expected - self.packets

    @property
    def jitter_s(self) -> float:
        """The interarrival jitter."""
        return (self._jitter_q4 >> 4) / self.clock_hz

    def report_block(self, now_ns: int) -> bytes:
        """What RTCP says of it now; the fraction lost is since the last such block."""
        expected = self.expected - self._expected_before
        lost = expected - (self.packets - self._packets_before)
        self._expected_before, self._packets_before = self.expected, self.packets
        fraction = min(255, (lost << 8) // expected) if expected > 0 and lost > 0 else 0
        delay_ns = now_ns - self._sender_heard_ns if self._sender_heard_ns else 0
        return rtcp.report_block(
            self.ssrc,
            fraction=fraction,
            lost=self.lost,
            highest=self._highest,
            jitter=self._jitter_q4 >> 4,
            last=self._sender_ntp,
            delay=(delay_ns << 16) // NS_PER_S,
        )
