"""One conversation as a bot sees it: hear, speak, stop speaking, exchange messages.

Samples live in rings that the media worker reads at its own pace; nothing here keeps audio
that a flush could not reach. Cursors count samples per channel since the session began.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, overload

import numpy as np

from ipc.audio_ring import FRAME_MS, NEVER
from ipc.audio_ring import Flushed as RingFlushed
from ipc.errors import ConfigError, SessionClosed
from ipc.frames import AudioFrame, Pcm
from ipc.messages import CloseSession, Message, SendMessage, check_data

if TYPE_CHECKING:
    from engine.sdk.media import Media

log = logging.getLogger("backbeat.bot")

EVENTS = ("connected", "disconnected", "closed", "message", "track")
FLUSH_DEADLINE_S = 0.1
EVENT_LATE_S = 0.1
MAX_MESSAGES = 256
MAX_RUNNING = 256
CLOSE_DEADLINE_S = 5.0
Playable = AudioFrame | bytes | bytearray | memoryview | Pcm
Handler = Callable[..., Awaitable[object] | object]
AnyHandler = TypeVar("AnyHandler", bound=Handler)


class Line(Protocol):
    """The way to the engine."""

    async def request(self, message: Message, *, timeout_s: float) -> Message:
        """Ask the engine."""
        ...

    def notify(self, message: Message) -> bool:
        """Tell the engine."""
        ...


class Played(NamedTuple):
    """What `play` did: it queued samples `start` to `end`; `cut` of those given never left."""

    start: int
    end: int
    cut: int


class Flushed(NamedTuple):
    """What a flush left: `cursor` is the last sample that was sent.

    `exact` is False when the worker did not answer in 100 ms and the newest anchor stands in.
    """

    cursor: int
    exact: bool


class Session:
    """A call that this bot serves. The bot makes it; `closed` tells when it is over."""

    def __init__(
        self, session_id: str, line: Line, request_data: Any, *, resumed: bool = False
    ) -> None:
        self.id = session_id
        self.request_data = request_data
        # Whether another process has served this call before and went away.
        self.resumed = resumed
        self.connected = False
        self.closed = False
        self.close_reason = ""
        self.dropped_messages = 0
        self.dropped_events = 0
        self._line = line
        self._media: Media | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._playing = asyncio.Lock()
        self._flushes = 0
        self._flushed_to = 0
        self._last_position = 0
        self._flushing: list[tuple[int, asyncio.Future[Flushed], asyncio.TimerHandle]] = []
        self._messages: deque[Any] = deque(maxlen=MAX_MESSAGES)
        self._handlers: dict[str, list[Handler]] = {name: [] for name in EVENTS}
        self._running: set[asyncio.Task[None]] = set()
        self._due: deque[tuple[int, Callable[[], None]]] = deque()
        self._readers = 0
        self._heard = 0
        self._wanted = NEVER
        self._marked = NEVER
        self._marks: list[int] = []

    # -- hearing --------------------------------------------------------------------------

    async def audio(
        self, *, frame_ms: int = FRAME_MS, max_lag_ms: int | None = None, zero_copy: bool = False
    ) -> AsyncIterator[AudioFrame]:
        """What the caller says, in frames of `frame_ms` (up to 20), until the session ends.

        A reader that falls behind loses nothing short of the ring's 5 s; with `max_lag_ms` it
        skips to the newest frame when it lags more. What was lost stands in `frame.lost`. With
        `zero_copy` a frame's samples hold only until the next await.
        """
        if not 1 <= frame_ms <= FRAME_MS:
            raise ConfigError(f"frame_ms is 1 to {FRAME_MS}, not {frame_ms}")
        ring = self._rings.ring
        count = ring.mic.hz * frame_ms // 1000
        max_lag = None if max_lag_ms is None else max(count, ring.mic.hz * max_lag_ms // 1000)
        self._readers += 1
        try:
            while True:
                lost = 0
                if max_lag is not None and (lag := ring.mic_lag()) > max_lag:
                    lost = lag - count
                    ring.skip_mic(ring.mic_read + lost)
                frame = self._next_frame(count, zero_copy)
                if frame is None:
                    if self.closed:  # only now: what was said before the end is heard
                        return
                    await self._changed()
                    continue
                if lost:
                    lost += frame.lost
                    frame = AudioFrame(frame.pcm, frame.hz, frame.channels, frame.cursor, lost)
                self._deliver(frame.cursor)
                yield frame
                if ring.mic_waiting() >= count:
                    # Behind: without this, a bot that is slower than speech would keep its
                    # loop from everything else, its beats among it.
                    await asyncio.sleep(0)
        finally:
            self._readers -= 1

    def _next_frame(self, count: int, zero_copy: bool) -> AudioFrame | None:
        ring = self._rings.ring
        mic = ring.mic
        read = ring.mic_view(count) if zero_copy else ring.read_mic(count)
        return read and AudioFrame(read.pcm, mic.hz, mic.channels, read.cursor, read.lost)

    # -- speaking -------------------------------------------------------------------------

    async def play(self, pcm: Playable) -> Played:
        """Queue int16 samples at the speaker's rate; waits for room, not for the playing.

        Concurrent calls queue up whole. A flush ends those that wait. Raises SessionClosed,
        and ConfigError for samples of another rate or shape.
        """
        if self.closed:
            raise SessionClosed(f"the session ended: {self.close_reason}")
        data = self._as_bytes(pcm)
        flushes = self._flushes
        async with self._playing:
            media = self._rings
            stride = media.ring.speaker.stride
            start = media.ring.speaker_written
            end = start + len(data) // stride
            try:
                while data and self._flushes == flushes:
                    data = data[media.write(data) * stride :]
                    if data:
                        self._want_room(len(data) // stride)
                        await self._changed()
                        if self.closed:
                            raise SessionClosed(f"the session ended: {self.close_reason}")
            finally:
                self._wanted = NEVER
                if not self.closed:
                    media.ring.want(NEVER)
            queued = end - len(data) // stride
        if self._flushes == flushes:
            return Played(start, end, 0)
        sent = (await self._flush_result()).cursor
        return Played(start, queued, end - min(max(start, sent), queued))

    def _want_room(self, samples: int) -> None:
        # A quarter of the ring at a time: waking for every freed frame would cost more than
        # it gains, and three quarters outlast any sensible pause of the writer.
        ring = self._rings.ring
        capacity = ring.speaker.capacity
        self._wanted = max(0, ring.speaker_written + min(samples, capacity // 4) - capacity)
        ring.want(self._wanted)

    def flush(self) -> asyncio.Future[Flushed]:
        """Stop speaking now: drop everything queued, and whatever waits in `play`.

        Works at once, by one store; await the result to learn what was sent.
        """
        loop = asyncio.get_running_loop()
        if self.closed:
            nothing: asyncio.Future[Flushed] = loop.create_future()
            nothing.set_result(Flushed(self._last_position, exact=False))
            return nothing
        media = self._rings
        self._flushed_to = flush_to = media.flush()
        self._flushes += 1
        result: asyncio.Future[Flushed] = loop.create_future()
        acknowledged = media.ring.flushed()
        if flush_to <= acknowledged.flush_to:  # nothing came since the last one
            result.set_result(Flushed(acknowledged.sent, exact=True))
            return result
        timer = loop.call_later(FLUSH_DEADLINE_S, self._flush_overdue, result)
        self._flushing.append((flush_to, result, timer))
        self.wake()
        return result

    def _flush_overdue(self, result: asyncio.Future[Flushed]) -> None:
        if not result.done():
            result.set_result(Flushed(self.position, exact=False))
        self._flushing = [entry for entry in self._flushing if not entry[1].done()]

    async def _flush_result(self) -> Flushed:
        if self._flushing:
            return await asyncio.shield(self._flushing[-1][1])
        return Flushed(self._rings.ring.flushed().sent, exact=True)

    def end_of_speech(self) -> None:
        """Say that the utterance ends with what is queued: its last samples need no successor."""
        self._rings.end()

    async def wait_played(self) -> None:
        """Return when everything queued has left, or was flushed, or the session ended."""
        ring = self._rings.ring
        target = ring.speaker_written
        self._marks.append(target)
        try:
            while not self.closed and ring.speaker_sent < target:
                self._arm()
                await self._changed()
        finally:
            self._marks.remove(target)
            self._arm()

    def _arm(self) -> None:
        if self._media is not None:
            self._marked = min(self._marks, default=NEVER)
            self._media.ring.mark(self._marked)

    @property
    def position(self) -> int:
        """The sample up to which audio has really left for the caller."""
        return self._rings.ring.playback().cursor

    @property
    def queued(self) -> int:
        """Samples that are queued and not yet sent."""
        ring = self._rings.ring
        return max(0, ring.speaker_written - max(ring.speaker_sent, self._flushed_to))

    @property
    def mic_hz(self) -> int:
        """Rate of `audio` in Hz."""
        return self._rings.ring.mic.hz

    @property
    def speaker_hz(self) -> int:
        """Rate of `play` in Hz."""
        return self._rings.ring.speaker.hz

    def _as_bytes(self, pcm: Playable) -> memoryview:
        speaker = self._rings.ring.speaker
        if isinstance(pcm, AudioFrame):
            if (pcm.hz, pcm.channels) != (speaker.hz, speaker.channels):
                raise ConfigError(
                    f"the frame has {pcm.hz} Hz and {pcm.channels} channels, the speaker "
                    f"{speaker.hz} Hz and {speaker.channels}: choose equal ones for the Bot"
                )
            pcm = pcm.pcm
        elif isinstance(pcm, np.ndarray):
            if pcm.dtype != np.int16:
                raise ConfigError(f"samples are int16, not {pcm.dtype}")
            if pcm.shape[1:] not in ((), (speaker.channels,)):
                raise ConfigError(
                    f"an array has the shape (n,) or (n, {speaker.channels}), not {pcm.shape}"
                )
            pcm = np.ascontiguousarray(pcm).data
        data = memoryview(pcm).cast("B")
        if len(data) % speaker.stride:
            raise ConfigError(f"{len(data)} bytes are no whole samples of {speaker.stride} bytes")
        return data

    # -- messages and events --------------------------------------------------------------

    def send(self, data: Any, *, at: int | None = None) -> bool:
        """Send the caller an app message (anything JSON can hold, or bytes), up to 256 KiB.

        With `at` it leaves after that speaker sample; a flush drops what lies beyond. Raises
        ProtocolError for what cannot be sent; False when the engine does not read just now.
        """
        if self.closed:
            raise SessionClosed(f"the session ended: {self.close_reason}")
        if at is not None and not isinstance(at, int):
            raise ConfigError(f"`at` is a cursor, an int, not {at!r}")
        check_data(data)
        return self._line.notify(SendMessage(session=self.id, data=data, at=at))

    async def messages(self) -> AsyncIterator[Any]:
        """The caller's app messages, until the session ends. At most 256 wait."""
        while True:
            while self._messages:
                yield self._messages.popleft()
            if self.closed:
                return
            await self._changed()

    @overload
    def on(self, event: str) -> Callable[[AnyHandler], AnyHandler]: ...

    @overload
    def on(self, event: str, handler: AnyHandler) -> AnyHandler: ...

    def on(self, event: str, handler: Handler | None = None) -> object:
        """Call `handler` at an event, sync or async, in a task of its own; or decorate it.

        connected(resumed), disconnected(reason), closed(reason), message(data),
        track(receiver_index, enabled). Handlers may take fewer arguments. At most 256 run at
        once; what happens beyond is counted in `dropped_events`.
        """
        if event not in EVENTS:
            raise ConfigError(f"{event!r} is no event; there are {', '.join(EVENTS)}")

        def register(handler: AnyHandler) -> AnyHandler:
            self._handlers[event].append(handler)
            return handler

        return register if handler is None else register(handler)

    async def close(self, reason: str = "bot_closed") -> None:
        """End the call."""
        if not self.closed:
            await self._line.request(
                CloseSession(session=self.id, reason=reason), timeout_s=CLOSE_DEADLINE_S
            )

    async def wait_closed(self) -> None:
        """Return when the session has ended."""
        while not self.closed:
            await self._changed()

    # -- what the bot process calls -------------------------------------------------------

    def attach(self, media: Media) -> None:
        """The rings are there."""
        self._media = media

    def detach(self) -> None:
        """Give the rings back; the session must have ended."""
        media, self._media = self._media, None
        if media is not None:
            media.close()

    def look(self) -> None:
        """The bell rang, for this session or another: look at the cursors."""
        media = self._media
        if media is None:
            return
        ring = media.ring
        if self._flushing:
            self._resolve_flushes(ring.flushed())
        heard, sent = ring.mic_written, ring.speaker_sent
        if heard != self._heard or sent >= self._wanted or sent >= self._marked:
            self._heard = heard
            self.wake()

    def _resolve_flushes(self, flushed: RingFlushed) -> None:
        for flush_to, result, timer in self._flushing:
            if flush_to <= flushed.flush_to and not result.done():
                timer.cancel()
                result.set_result(Flushed(flushed.sent, exact=True))
        self._flushing = [entry for entry in self._flushing if not entry[1].done()]

    def wake(self) -> None:
        """Something changed: whoever waits looks again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def beat(self, now_ns: int) -> None:
        """The bot's loop turns."""
        if self._media is not None:
            self._media.ring.beat(now_ns)

    def caller_connected(self, resumed: bool) -> None:
        """The caller's media flows."""
        self.connected = True
        self._fire("connected", resumed)

    def caller_disconnected(self, reason: str) -> None:
        """The caller's leg is gone."""
        self.connected = False
        self._fire("disconnected", reason)

    def message_arrived(self, data: Any, cursor: int) -> None:
        """The caller sent an app message at a mic cursor."""
        self._at(cursor, lambda: self._take_message(data))

    def track_changed(self, receiver_index: int, enabled: bool, cursor: int) -> None:
        """The caller turned a track on or off at a mic cursor."""
        self._at(cursor, lambda: self._fire("track", receiver_index, enabled))

    def ended(self, reason: str) -> None:
        """The session is over: whoever waits goes on."""
        if self.closed:
            return
        self._deliver(NEVER)
        if self._media is not None:
            self._last_position = self.position
        self.closed = True
        self.close_reason = reason
        self.connected = False
        for _, result, timer in self._flushing:
            timer.cancel()
            if not result.done():
                result.set_result(Flushed(self.position, exact=False))
        self._flushing.clear()
        self._fire("closed", reason)
        self.wake()

    async def settle(self, grace_s: float) -> None:
        """Wait for running handlers, and end those that take longer."""
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    # -- inside ---------------------------------------------------------------------------

    @property
    def _rings(self) -> Media:
        if self._media is None:
            raise SessionClosed(f"the session ended: {self.close_reason}")
        return self._media

    async def _changed(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)

    def _at(self, cursor: int, deliver: Callable[[], None]) -> None:
        """Deliver an event where it happened in the caller's speech, at most 100 ms late."""
        reading = self._readers and self._media is not None
        if not self._due and not (reading and self._rings.ring.mic_read < cursor):
            deliver()
            return
        self._due.append((cursor, deliver))
        asyncio.get_running_loop().call_later(EVENT_LATE_S, self._deliver, cursor)

    def _deliver(self, cursor: int) -> None:
        while self._due and self._due[0][0] <= cursor:
            self._due.popleft()[1]()

    def _take_message(self, data: Any) -> None:
        if len(self._messages) == MAX_MESSAGES:
            self.dropped_messages += 1
        self._messages.append(data)
        self._fire("message", data)
        self.wake()

    def _fire(self, event: str, *arguments: Any) -> None:
        for handler in self._handlers[event]:
            if len(self._running) >= MAX_RUNNING:
                self.dropped_events += 1
                continue
            task = asyncio.create_task(self._handle(handler, arguments), name=f"on {event}")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _handle(self, handler: Handler, arguments: tuple[Any, ...]) -> None:
        try:
            result = handler(*arguments[: _takes(handler)])
            if inspect.isawaitable(result):
                await result
        except Exception:
            log.exception("an event handler of session %s failed", self.id)


def _takes(handler: Handler) -> int | None:
    """How many positional arguments a handler accepts; None for any number."""
    count = 0
    try:
        parameters = inspect.signature(handler).parameters.values()
    except ValueError:  # some builtins, such as dict.update, tell nobody
        return None
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            return None
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            count += 1
    return count
