"""Whole messages that a bot paces by their duration: for serializers that run in the bot.

Such a session has no speaker ring. Each message goes to the worker with its cursor (µs since
the session began) and waits there, at most 1 s of them, for its time. A flush takes what is
not sent, but for what was played as not interruptible.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipc.errors import ConfigError, MessageTooLarge, SessionClosed
from ipc.media_stream import LASTING, PAUSE, TEXT, Kind, StreamFrame, StreamLink, pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.sdk.events import Waiters

MAX_QUEUED_US = 1_000_000
MAX_MESSAGE_MS = 60_000
MAX_MESSAGE_BYTES = 4 << 20
MAX_WAITING = 64
RETRY_S = 0.02


@dataclass(slots=True)
class _Entry:
    """A message that is on its way."""

    end: int
    duration: int
    flags: int
    payload: bytes
    left: asyncio.Future[bool] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def start(self) -> int:
        """Where it begins."""
        return self.end - self.duration

    @property
    def lasting(self) -> bool:
        """Whether a flush leaves it."""
        return bool(self.flags & LASTING)

    def frame(self, stream: int) -> bytes:
        """As it goes to the worker."""
        return pack(
            Kind.MESSAGE,
            stream,
            flags=self.flags,
            cursor=self.start,
            arg=self.duration,
            payload=self.payload,
        )


class Outgoing:
    """What a session plays as messages. Cursors are µs."""

    def __init__(
        self,
        link: StreamLink,
        stream: int,
        token: str,
        waiters: Waiters,
        on_message: Callable[[str | bytes], None],
    ) -> None:
        """Claim the stream; `on_message` hears what the server sends."""
        self._link = link
        self._stream = stream
        self._waiters = waiters
        self._on_message = on_message
        self._entries: deque[_Entry] = deque()
        # Frames that the socket did not take; few, for senders wait while there are any.
        self._unsent: deque[bytes] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._flushes = 0
        # Up to where a flush took what it could that the worker has not answered.
        self._flush_to = -1
        self._sending = asyncio.Lock()
        self._closed = ""
        # The cursor behind the last message that was queued, and behind the last that has left.
        self.written = self.position = 0
        link.watch_messages(stream, self._told)
        self._say(pack(Kind.EPOCH, stream, payload=token.encode()))

    def move(self, link: StreamLink, stream: int, token: str) -> None:
        """Go on at another worker: what is not known to have left goes there once more."""
        self._link.detach(self._stream)
        self._unsent.clear()
        self._flushed(self._flush_to)
        self._link, self._stream = link, stream
        link.watch_messages(stream, self._told)
        first = self._entries[0].start if self._entries else self.written
        self._say(pack(Kind.EPOCH, stream, arg=first, payload=token.encode()))
        for entry in self._entries:
            self._say(entry.frame(stream))
        self._waiters.wake()

    @property
    def queued_ms(self) -> float:
        """How much of what was queued has not left."""
        return sum(entry.duration for entry in self._entries) / 1000

    async def play(
        self, message: str | bytes, duration_ms: float, *, interruptible: bool = True
    ) -> int:
        """Queue a message that plays for `duration_ms`; waits while 1 s is queued.

        It leaves when what was queued before it has been played. One without a duration leaves
        right behind what stands before it. Returns the cursor behind it, for `wait`. One that a
        flush overtakes while it waits here is never sent. Raises SessionClosed, ConfigError.
        """
        entry = await self._queue(message, duration_ms, interruptible)
        return self.written if entry is None else entry.end

    async def put(
        self, message: str | bytes | None, duration_ms: float, *, interruptible: bool = True
    ) -> asyncio.Future[bool]:
        """`play`, for whoever wants to hear of that message: True once it has left, else False.

        None is a pause: for so long nothing leaves.
        """
        entry = await self._queue(message, duration_ms, interruptible)
        if entry is not None:
            return entry.left
        cut: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        cut.set_result(False)
        return cut

    async def _queue(
        self, message: str | bytes | None, duration_ms: float, interruptible: bool
    ) -> _Entry | None:
        """Queue it when there is room; None when a flush was quicker."""
        if not 0 <= duration_ms <= MAX_MESSAGE_MS:
            raise ConfigError(f"a message lasts 0 to {MAX_MESSAGE_MS} ms, not {duration_ms}")
        payload = message.encode() if isinstance(message, str) else bytes(message or b"")
        if len(payload) > MAX_MESSAGE_BYTES:
            raise MessageTooLarge(f"{len(payload)} bytes are over {MAX_MESSAGE_BYTES}")
        # Never nothing, so that the cursor tells whether it has left.
        flushes, duration = self._flushes, max(1, round(duration_ms * 1000))
        async with self._sending:
            while not self._closed and not (interruptible and flushes != self._flushes):
                queued = sum(entry.duration for entry in self._entries)
                room = not self._entries or queued + duration <= MAX_QUEUED_US
                if room and len(self._entries) < MAX_WAITING and not self._unsent:
                    break
                await self._waiters.changed()
            if self._closed:
                raise SessionClosed(f"the session ended: {self._closed}")
            if interruptible and flushes != self._flushes:
                return None
            self.written += duration
            flags = TEXT * isinstance(message, str) | LASTING * (not interruptible)
            flags |= PAUSE * (message is None)
            entry = _Entry(self.written, duration, flags, payload)
            self._entries.append(entry)
            self._say(entry.frame(self._stream))
        return entry

    async def wait(self, cursor: int) -> bool:
        """True once the message that ends at `cursor` has left, False when a flush cut it."""
        if cursor <= self.position:
            return True
        entry = next((e for e in self._entries if e.start < cursor <= e.end), None)
        return await asyncio.shield(entry.left) if entry is not None else False

    def flush(self) -> None:
        """Drop at once what is queued and has not left; what is not interruptible stays."""
        if self._closed:
            return
        self._flushes += 1
        self._flush_to = self.written
        self._say(pack(Kind.FLUSH, self._stream, cursor=self.written))
        self._waiters.wake()

    def close(self, reason: str) -> None:
        """The session is over: every wait ends."""
        if self._closed:
            return
        self._closed = reason or "closed"
        if self._retry is not None:
            self._retry.cancel()
        self._cut(lambda _entry: True)
        self._link.detach(self._stream)

    def _told(self, frame: StreamFrame) -> None:
        """The worker has sent messages, has flushed, or passes one on."""
        if frame.kind == Kind.MESSAGE:
            data = bytes(frame.payload)
            self._on_message(data.decode(errors="replace") if frame.flags & TEXT else data)
            return
        if frame.kind == Kind.ANCHOR:
            self._passed(frame.cursor)
        elif frame.kind == Kind.FLUSHED:
            self._passed(frame.cursor)
            self._flushed(frame.arg)
        self._waiters.wake()

    def _passed(self, cursor: int) -> None:
        self.position = max(self.position, cursor)
        while self._entries and self._entries[0].end <= cursor:
            _resolve(self._entries.popleft(), True)

    def _flushed(self, flush_to: int) -> None:
        if flush_to >= self._flush_to:
            self._flush_to = -1
        self._cut(lambda entry: entry.end <= flush_to and not entry.lasting)

    def _cut(self, is_cut: Callable[[_Entry], bool]) -> None:
        kept: deque[_Entry] = deque()
        for entry in self._entries:
            if is_cut(entry):
                _resolve(entry, False)
            else:
                kept.append(entry)
        self._entries = kept

    def _say(self, frame: bytes) -> None:
        self._unsent.append(frame)
        if self._retry is None:  # else the worker does not read just now
            self._say_unsent()

    def _say_unsent(self) -> None:
        self._retry = None
        while self._unsent:
            if not self._link.send(self._unsent[0]):
                self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._say_unsent)
                return
            self._unsent.popleft()
        self._waiters.wake()


def _resolve(entry: _Entry, left: bool) -> None:
    if not entry.left.done():
        entry.left.set_result(left)
