"""The caller's data channel: app messages both ways, pings, track status.

Wire semantics of Pipecat's JavaScript client: the caller makes the channel, text that begins
with `ping` is a sign of life, JSON `{"type": "signalling", ...}` is for the transport, and
everything else belongs to the bot.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiortc import RTCDataChannel

MAX_QUEUED = 50
MAX_BUFFERED_BYTES = 1 << 20
MAX_TEXT_BYTES = 256 * 1024


class DataChannel:
    """Messages to and from one caller. What cannot be delivered is counted in `dropped`."""

    def __init__(
        self, on_message: Callable[[Any], None], on_track_status: Callable[[int, bool], None]
    ) -> None:
        self._on_message = on_message
        self._on_track_status = on_track_status
        self._channel: RTCDataChannel | None = None
        self._waiting: deque[str | bytes] = deque()
        self.pings = 0
        self.dropped = 0
        self.malformed = 0

    def adopt(self, channel: RTCDataChannel) -> None:
        """Use the first channel that the caller makes."""
        if self._channel is not None:
            return
        self._channel = channel
        channel.on("message", self._receive)
        channel.on("open", self._drain)
        self._drain()

    def send(self, data: Any) -> None:
        """Send bytes as they are and anything else as JSON; kept until the channel opens."""
        message = data if isinstance(data, bytes) else json.dumps(data)
        if len(message) > MAX_TEXT_BYTES:
            raise ValueError(f"{len(message)} bytes are over the limit of {MAX_TEXT_BYTES}")
        if len(self._waiting) >= MAX_QUEUED:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(message)
        self._drain()

    def inherit(self, old: DataChannel) -> None:
        """Take over what waits on the channel of the connection before."""
        self._waiting.extendleft(reversed(old._waiting))
        old._waiting.clear()
        self._drain()

    def say_goodbye(self) -> None:
        """Tell the caller that the call ends here."""
        self.send({"type": "signalling", "message": {"type": "peerLeft"}})

    def _drain(self) -> None:
        channel = self._channel
        if channel is None or channel.readyState != "open":
            return
        while self._waiting:
            message = self._waiting.popleft()
            if channel.bufferedAmount > MAX_BUFFERED_BYTES:
                self.dropped += 1
                continue
            try:
                channel.send(message)
            except ValueError:  # a peer may take less than we do
                self.dropped += 1

    def _receive(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._on_message(message)
            return
        if message.startswith("ping"):
            self.pings += 1
            return
        if len(message) > MAX_TEXT_BYTES:
            self.malformed += 1
            return
        try:
            data = json.loads(message)
        except (ValueError, RecursionError):
            data = message
        if isinstance(data, dict) and data.get("type") == "signalling":
            self._signalling(data.get("message"))
        else:
            self._on_message(data)

    def _signalling(self, message: object) -> None:
        if isinstance(message, dict) and message.get("type") == "trackStatus":
            index, enabled = message.get("receiver_index"), message.get("enabled")
            if isinstance(index, int) and 0 <= index <= 2 and isinstance(enabled, bool):
                self._on_track_status(index, enabled)
                return
        self.malformed += 1
