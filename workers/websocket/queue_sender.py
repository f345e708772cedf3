"""From a stream of whole messages to a WebSocket, at the pace of their durations.

For serializers that run in the bot: the same rules as `workers.websocket.sender`, in µs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipc.audio_ring import FRAME_MS
from ipc.clock import NS_PER_S
from workers.websocket.sender import MAX_BURST, MAX_WAITING_BYTES

if TYPE_CHECKING:
    from ipc.message_stream import MessageStream
    from ipc.websocket import Websocket
    from workers.websocket.connection import Connection

BEAT_US = FRAME_MS * 1000


class QueueSender:
    """Sends the messages of one session. Called every 20 ms."""

    def __init__(self, websocket: Websocket) -> None:
        lead_ms = websocket.chunk_ms if websocket.lead_ms is None else websocket.lead_ms
        self._lead = lead_ms * 1000
        self._stall_ns = round(websocket.stall_s * NS_PER_S)
        self._ahead = 0
        self._dry = True
        self._since_ns = 0
        self.stream: MessageStream | None = None

    def rest(self) -> None:
        """Another connection: its receiver has nothing yet."""
        self._ahead, self._dry = 0, True
        self._since_ns = 0

    def miss(self, frames: int) -> None:
        """The receiver has played on meanwhile."""
        if not self._dry:
            self._ahead = max(0, self._ahead - frames * BEAT_US)

    def send(self, link: Connection, now_ns: int) -> None:
        """Let the messages go that are due."""
        stream = self.stream
        if stream is None:
            return
        if not self._dry:
            self._ahead -= BEAT_US
        # The bot's own serializer has sent what its format says of an interruption.
        if stream.apply_flush():
            self._ahead = max(self._ahead, 0)
        if link.unsent_bytes > MAX_WAITING_BYTES:
            self._play_out()
            self._since_ns = self._since_ns or now_ns
            if now_ns - self._since_ns >= self._stall_ns:
                link.end("slow_reader")
            return
        self._since_ns = 0
        for _ in range(MAX_BURST):
            message = stream.peek()
            if message is None:
                self._play_out()
                return
            # What lasts no time follows what it stands behind at once.
            if self._ahead >= self._lead + BEAT_US and message.duration > 1:
                return
            if message.data is not None and not link.send(message.data):
                self._play_out()
                return
            stream.pop()
            self._ahead += message.duration
            self._dry = False

    def _play_out(self) -> None:
        """Nothing leaves now: once the receiver has played all, its time stands still."""
        if self._ahead <= 0:
            self._ahead, self._dry = 0, True
