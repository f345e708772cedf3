"""The worker's end of a stream of whole WebSocket messages, for serializers that run in the bot.

Out: messages wait here with cursor and duration, in µs, until the pacer takes them; a flush
drops what has not left. In: what the server sent waits for the bot, bounded by bytes. Knows
neither socket nor clock.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from ipc.media_stream import LASTING, PAUSE, TEXT, Kind, StreamFrame, pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipc.media_stream import Send

# A bot keeps to 1 s; what it sends beyond twice that is refused.
MAX_QUEUED_US = 2_000_000
MAX_QUEUED = 256
MAX_QUEUED_BYTES = 8 << 20
MAX_INCOMING_BYTES = 1 << 20
MAX_DURATION_US = 60_000_000
# Cursors of a bot are believed up to here, so that none outgrows its field in a frame.
MAX_CURSOR = 1 << 62


class Outbound(NamedTuple):
    """A message for the server: it plays from `cursor` on for `duration`. None is a pause."""

    cursor: int
    duration: int
    data: str | bytes | None
    lasting: bool

    @property
    def end(self) -> int:
        """The cursor behind it."""
        return self.cursor + self.duration


class MessageStream:
    """Messages between a bot and the socket's sender and receiver."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._queue: deque[Outbound] = deque()
        self._queued_bytes = self._queued_us = 0
        self._written = 0
        # The cursor behind the last message that has left, and the last that a bot was told.
        self._sent = self._told = 0
        # Flushes that are not applied, and those that are and not told: up to, sent.
        self._flush_to = -1
        self._flushed: deque[tuple[int, int]] = deque(maxlen=16)
        self._incoming: deque[str | bytes] = deque()
        self._incoming_bytes = 0
        # Called when the bot has taken what came: there is room again.
        self.on_room: Callable[[], None] = lambda: None
        # Called when something came: the bot may be told before the next frame.
        self.on_incoming: Callable[[], None] = lambda: None

    # -- toward the server --------------------------------------------------------------------

    def peek(self) -> Outbound | None:
        """The next message."""
        return self._queue[0] if self._queue else None

    def pop(self) -> None:
        """It has left."""
        message = self._queue.popleft()
        self._forget(message)
        self._sent = max(self._sent, message.end)

    def apply_flush(self) -> bool:
        """Drop what the bot has flushed; whether a flush was asked for."""
        flush_to = self._flush_to
        if flush_to < 0:
            return False
        self._flush_to = -1
        kept: deque[Outbound] = deque()
        for message in self._queue:
            if message.lasting or message.cursor >= flush_to:
                kept.append(message)
            else:
                self._forget(message)
        self._queue = kept
        self._flushed.append((flush_to, self._sent))
        return True

    def _forget(self, message: Outbound) -> None:
        self._queued_bytes -= len(message.data or b"")
        self._queued_us -= message.duration

    # -- from the server ----------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether what came has to wait before it."""
        return self._incoming_bytes >= MAX_INCOMING_BYTES

    def put(self, data: str | bytes) -> None:
        """The server sent this."""
        self._incoming.append(data)
        self._incoming_bytes += len(data)
        self.on_incoming()

    # -- the bot (a MessageEnd) ---------------------------------------------------------------

    def attached(self, arg: int) -> None:
        """The bot has claimed the stream; its next message is at `arg`."""
        self._written = self._sent = self._told = min(arg, MAX_CURSOR)

    def take(self, frame: StreamFrame) -> bool:
        """A message or a flush of the bot's; False when it cannot be."""
        if frame.kind == Kind.FLUSH:
            self._flush_to = min(frame.cursor, self._written)
            return True
        if frame.kind != Kind.MESSAGE:
            return frame.kind == Kind.EPOCH
        size, duration = len(frame.payload), frame.arg
        full = len(self._queue) >= MAX_QUEUED or self._queued_bytes + size > MAX_QUEUED_BYTES
        late = self._queue and self._queued_us + duration > MAX_QUEUED_US
        # Cursors may leave some out: what a flush took at the worker before this one.
        if not self._written <= frame.cursor <= MAX_CURSOR:
            return False
        if full or late or duration > MAX_DURATION_US:
            return False
        data: str | bytes | None = bytes(frame.payload)
        if frame.flags & PAUSE:
            data = None
        elif frame.flags & TEXT:
            try:
                data = bytes(frame.payload).decode()
            except UnicodeDecodeError:
                return False
        self._written = frame.cursor + duration
        self._queue.append(Outbound(frame.cursor, duration, data, bool(frame.flags & LASTING)))
        self._queued_bytes += len(data or b"")
        self._queued_us += duration
        return True

    def pump(self, number: int, send: Send) -> None:
        """Tell the bot what has left, what a flush cut, and what the server has sent."""
        was_full = self.full
        while self._incoming:
            data = self._incoming[0]
            text = isinstance(data, str)
            payload = data.encode() if isinstance(data, str) else data
            if not send(pack(Kind.MESSAGE, number, flags=TEXT * text, payload=payload)):
                break
            self._incoming.popleft()
            self._incoming_bytes -= len(data)
        if was_full and not self.full:
            self.on_room()
        while self._flushed:
            flush_to, sent = self._flushed[0]
            if not send(pack(Kind.FLUSHED, number, cursor=sent, arg=flush_to)):
                return
            self._flushed.popleft()
        if self._sent != self._told and send(pack(Kind.ANCHOR, number, cursor=self._sent)):
            self._told = self._sent
