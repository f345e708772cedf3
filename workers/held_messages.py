"""Messages to a caller that wait until the speech they belong to has left.

In the order of their samples; so many, and so many bytes, that no bot can fill the worker.
"""

from __future__ import annotations

import heapq
import itertools
import json
import logging
from typing import TYPE_CHECKING, Any

from workers.webrtc.data_channel import MAX_TEXT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

# So many, and so much as JSON.
MAX_HELD = 256
MAX_HELD_BYTES = 4 << 20


class HeldMessages:
    """What waits in one session."""

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._heap: list[tuple[int, int, Any, int]] = []
        self._bytes = 0
        self._order = itertools.count()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._heap)

    def add(self, at: int, data: Any) -> bool:
        """Hold a message until sample `at` has left; False when it cannot be sent or held."""
        try:
            # Bytes inside may still be sent in another wire form: here only the size matters.
            size = len(data) if isinstance(data, bytes) else len(json.dumps(data, default=str))
        except (TypeError, ValueError) as error:
            log.warning("message to the caller of %s cannot be sent: %s", self._session_id, error)
            return False
        if size > MAX_TEXT_BYTES:
            log.warning(
                "a message of %d bytes to the caller of %s is dropped", size, self._session_id
            )
            return False
        if len(self._heap) >= MAX_HELD or self._bytes + size > MAX_HELD_BYTES:
            return False
        self._bytes += size
        heapq.heappush(self._heap, (at, next(self._order), data, size))
        return True

    def due(self, sent: int) -> Iterator[Any]:
        """Those that wait for samples up to `sent`, which wait no longer."""
        heap = self._heap
        while heap and heap[0][0] <= sent:
            _, _, data, size = heapq.heappop(heap)
            self._bytes -= size
            yield data

    def clear(self) -> None:
        """Forget all of them."""
        self._heap.clear()
        self._bytes = 0
