"""How much of what was sent is sent again: RED, more when the peer loses packets.

Up by a level when a report says that over 3 % were lost (to two at once over 10 %), down by one
after five reports in a row below 1 %. Almost free: nothing is encoded twice. No clock, no socket.
"""

from __future__ import annotations

from collections import deque

from workers.audio import red

MAX_LEVEL = 2
RAISE_ABOVE, RAISE_FAR_ABOVE, LOWER_BELOW = 0.03, 0.10, 0.01
CALM_REPORTS = 5
# What fits into a datagram on any path, with header, extension and SRTP's trailer.
MAX_BYTES = 1_120
BLOCK_HEADER_BYTES = 4


class Redundancy:
    """The level, and the payloads that may be sent again."""

    def __init__(self) -> None:
        self.level = 0
        self._calm = 0
        self._sent: deque[tuple[int, int, bytes]] = deque(maxlen=MAX_LEVEL)

    def reported(self, fraction_lost: float) -> None:
        """The peer's newest report; a fraction of 1."""
        if fraction_lost > RAISE_ABOVE:
            self._calm = 0
            by = 2 if fraction_lost > RAISE_FAR_ABOVE else 1
            self.level = min(MAX_LEVEL, self.level + by)
        elif fraction_lost < LOWER_BELOW:
            self._calm += 1
            if self._calm == CALM_REPORTS:
                self._calm = 0
                self.level = max(0, self.level - 1)
                if not self.level:
                    self._sent.clear()
        else:
            self._calm = 0

    def forget(self) -> None:
        """What was sent belongs to another stream."""
        self._sent.clear()

    def wrap(self, payload_type: int, timestamp: int, payload: bytes) -> bytes:
        """The RED payload that carries this one and those before it; remembers it for the next."""
        blocks: list[tuple[int, int, int]] = []
        old, size = b"", len(payload)
        for kind, then, data in reversed(list(self._sent)[-self.level :]):
            back = (timestamp - then) & 0xFFFFFFFF
            size += len(data) + BLOCK_HEADER_BYTES
            if size > MAX_BYTES:
                break  # one datagram: what does not fit is not sent again
            if 0 < back <= red.MAX_OFFSET and len(data) <= red.MAX_BLOCK_BYTES:
                blocks.insert(0, (kind, back, len(data)))
                old = data + old
        self._sent.append((payload_type, timestamp, payload))
        return red.header(blocks, payload_type) + old + payload
