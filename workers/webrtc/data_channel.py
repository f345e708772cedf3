"""The caller's data channel: app messages both ways, pings, track status.

Wire semantics of Pipecat's JavaScript client: the caller makes the channel, text that begins
with `ping` is a sign of life, JSON `{"type": "signalling", ...}` is for the transport, and
everything else belongs to the bot. What the bot says before the channel opens waits for it,
at most 50 messages; a caller who has none 10 s after connecting gets none.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import TYPE_CHECKING, Any

from ipc.clock import NS_PER_S, MonotonicClock
from workers.webrtc import hooks

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiortc import RTCDataChannel

    from ipc.clock import Clock

MAX_QUEUED = 50
MAX_BUFFERED_BYTES = 1 << 20
MAX_TEXT_BYTES = 256 * 1024
# Longer texts are read where no beat waits: 256 KiB of brackets take a third of a second.
MAX_READ_CHARACTERS = 1_024
# How long a caller who is connected may go without a channel.
ABSENT_NS = 10 * NS_PER_S
# How long the last words wait for the caller's acknowledgement: what a network has lost is sent
# again after a second.
FLUSH_S = 2.0
# From a worker that ends, the end of the connection itself must still reach the caller.
HASTE_S = 0.3
LOOK_S = 0.005


class Unread(str):
    """A text that is still to be read as JSON."""

    __slots__ = ()


def as_read(text: str) -> Any:
    """What a text says as JSON, or the text; a long one is `Unread`."""
    if len(text) > MAX_READ_CHARACTERS:
        return Unread(text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


class DataChannel:
    """Messages to and from one caller.

    What cannot be delivered is counted in `dropped`, what came and cannot be understood in
    `malformed`. `on_alive` hears of everything that comes. A text of more than 1024 characters
    reaches `on_message` as `Unread`, and is never for the transport.
    """

    def __init__(
        self,
        on_message: Callable[[Any], None],
        on_track_status: Callable[[int, bool], None],
        *,
        clock: Clock | None = None,
        on_alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_message = on_message
        self._on_track_status = on_track_status
        self._on_alive = on_alive
        self._clock = clock or MonotonicClock()
        self._channel: RTCDataChannel | None = None
        self._waiting: deque[str | bytes] = deque()
        # Whether the caller is here, and whether one who was has gone: then the channel still
        # counts as open for a moment, and nobody is at its end.
        self._connected = self._gone = False
        # Since when a connected caller has had no open channel.
        self._absent_ns = 0
        self._leaving, self._patience_s = False, FLUSH_S
        self.pings = 0
        self.ping_ns: int | None = None
        self.dropped = 0
        self.malformed = 0
        self.sent = self.sent_bytes = self.received = self.received_bytes = 0

    # -- the channel ------------------------------------------------------------------------

    @property
    def state(self) -> str | None:
        """`connecting`, `open`, `closing` or `closed`; None before the caller has made one."""
        return None if self._channel is None else self._channel.readyState

    @property
    def label(self) -> str:
        """The name that the caller gave it."""
        return "" if self._channel is None else self._channel.label[:64]

    @property
    def ping_age_ns(self) -> int | None:
        """How long ago the newest ping came; None before any."""
        return None if self.ping_ns is None else self._clock.now_ns() - self.ping_ns

    def adopt(self, channel: RTCDataChannel) -> None:
        """Use the first channel that the caller makes, or the next after it was closed."""
        if self._channel is not None and self._channel.readyState not in ("closing", "closed"):
            return
        self.expire()
        self._channel = channel
        channel.on("message", self._receive)
        channel.on("open", self._drain)
        channel.on("close", self._closed)
        self._drain()

    def connected(self) -> None:
        """The caller's media flows: a channel is due."""
        self._connected = True
        self._absent_ns = self._clock.now_ns()

    def disconnected(self) -> None:
        """The caller is gone, perhaps to come back: what waits is for then."""
        self.expire()
        self._connected, self._gone = False, True

    def _closed(self) -> None:
        self._absent_ns = self._clock.now_ns()

    def expire(self) -> bool:
        """Give up what waits for a channel that does not come; True when it is overdue."""
        if not self._connected or self.state == "open":
            return False
        if self._clock.now_ns() - self._absent_ns < ABSENT_NS:
            return False
        self.dropped += len(self._waiting)
        self._waiting.clear()
        return True

    def inherit(self, old: DataChannel) -> None:
        """Take over from the connection before: what waits there, and what was counted."""
        old.expire()
        self._waiting.extendleft(reversed(old._waiting))
        old._waiting.clear()
        while len(self._waiting) > MAX_QUEUED:
            self._waiting.popleft()
            self.dropped += 1
        self.pings += old.pings
        self.ping_ns = self.ping_ns or old.ping_ns
        self.dropped += old.dropped
        self.malformed += old.malformed
        self.sent += old.sent
        self.sent_bytes += old.sent_bytes
        self.received += old.received
        self.received_bytes += old.received_bytes
        self._drain()

    # -- to the caller ----------------------------------------------------------------------

    def send(self, data: Any) -> None:
        """Send bytes as they are and anything else as JSON; kept until the channel opens.

        Raises TypeError or ValueError for what JSON cannot hold, and for more than 256 KiB.
        """
        message = data if isinstance(data, bytes) else json.dumps(data, allow_nan=False)
        if len(message) > MAX_TEXT_BYTES:
            raise ValueError(f"{len(message)} bytes are over the limit of {MAX_TEXT_BYTES}")
        if self.expire():
            self.dropped += 1
            return
        if len(self._waiting) >= MAX_QUEUED:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(message)
        self._drain()

    def say_goodbye(self, *, in_haste: bool = False) -> None:
        """Tell the caller that the call ends here; `flush` waits less for one `in_haste`."""
        self._leaving, self._patience_s = True, HASTE_S if in_haste else FLUSH_S
        self.send({"type": "signalling", "message": {"type": "peerLeft"}})

    async def flush(self) -> None:
        """Return when the caller has acknowledged the goodbye, if one was said, or is slow."""
        channel = self._channel
        if not self._leaving or not self._connected or channel is None:
            return
        deadline_ns = self._clock.now_ns() + int(self._patience_s * NS_PER_S)
        while not self._gone and channel.readyState == "open":
            if self._clock.now_ns() >= deadline_ns:
                return
            if not channel.bufferedAmount and hooks.is_acknowledged(channel):
                return
            await asyncio.sleep(LOOK_S)

    def _drain(self) -> None:
        channel = self._channel
        if channel is None or self._gone or channel.readyState != "open":
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
            else:
                self.sent += 1
                self.sent_bytes += len(message)

    # -- from the caller --------------------------------------------------------------------

    def _receive(self, message: str | bytes) -> None:
        self._on_alive()
        if isinstance(message, str) and message.startswith("ping"):
            self.pings += 1
            self.ping_ns = self._clock.now_ns()
            return
        size = len(message) if isinstance(message, bytes) else _utf8_bytes(message)
        if size > MAX_TEXT_BYTES:
            self.malformed += 1
            return
        self.received += 1
        self.received_bytes += size
        if isinstance(message, bytes):
            self._on_message(message)
            return
        data = as_read(message)
        if isinstance(data, dict) and data.get("type") == "signalling":
            self._signalling(data.get("message"))
        else:
            self._on_message(data)

    def _signalling(self, message: object) -> None:
        if isinstance(message, dict) and message.get("type") == "trackStatus":
            index, enabled = message.get("receiver_index"), message.get("enabled")
            # A bool is an int to Python, and no index to anybody.
            if type(index) is int and 0 <= index <= 2 and isinstance(enabled, bool):
                self._on_track_status(index, enabled)
                return
        self.malformed += 1


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
