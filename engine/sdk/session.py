"""One conversation as a bot sees it: hear, speak, stop speaking, exchange messages.

Samples live in rings that the media worker reads at its own pace. Cursors count samples per
channel since the session began. How speech becomes marks, positions and answers to a flush is
in `engine.sdk.speech`, how the caller is heard in `engine.sdk.hearing`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Literal, overload

import msgspec

from engine.sdk.events import AnyHandler, Events, Handler, Waiters
from engine.sdk.hearing import Hearing
from engine.sdk.signaling import REQUEST_DEADLINE_S, Line
from engine.sdk.speech import Speech
from ipc.audio_ring import NEVER
from ipc.clock import Clock, MonotonicClock
from ipc.codec import Application, Codec
from ipc.errors import ConfigError, StateError, WorkerError
from ipc.messages import CloseSession, Configure, GetStats, OpenMedia, SendMessage, Stats
from ipc.ring_handover import hear_on
from ipc.sound_file import SoundFile
from ipc.stats import as_report
from ipc.wire import check_data

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable

    from engine.sdk.flushes import Flushed
    from engine.sdk.marks import Mark
    from engine.sdk.media import Media
    from engine.sdk.playable import Playable, Played

MAX_MESSAGES = 256


class Session(Hearing):
    """A call that this bot serves. The bot makes it; `closed` tells when it is over."""

    def __init__(
        self,
        session_id: str,
        line: Line,
        request_data: Any,
        *,
        resumed: bool = False,
        codec: Codec | None = None,
        clock: Clock | None = None,
        pc_id: str = "",
        shape: OpenMedia | None = None,
        transport: Literal["webrtc", "websocket"] = "webrtc",
    ) -> None:
        codec = codec or Codec()
        super().__init__(
            session_id, line, pc_id, shape or OpenMedia(session=session_id, codec=codec)
        )
        self.request_data = request_data
        # How the caller comes.
        self.transport = transport
        # Whether another process has served this call before and went away.
        self.resumed = resumed
        self.connected = False
        self.dropped_messages = 0
        # The sound that the worker plays under the speech.
        self.mixer: SoundFile | None = None
        self._clock = clock or MonotonicClock()
        self._speech: Speech | None = None
        # Who waits for room in the speaker ring.
        self._writers = Waiters()
        self._events = Events(session_id)
        self._messages: deque[Any] = deque(maxlen=MAX_MESSAGES)

    @property
    def dropped_events(self) -> int:
        """Calls of handlers that were left out because 256 were running."""
        return self._events.dropped

    # -- speaking -------------------------------------------------------------------------

    async def play(
        self,
        pcm: Playable,
        *,
        hz: int | None = None,
        mark: str | None = None,
        interruptible: bool = True,
    ) -> Played:
        """Queue int16 samples; waits for room, not for the playing.

        Samples of another rate than the speaker's (a frame's own, or `hz` for bytes and arrays)
        are resampled on the way; their last 1 to 4 ms follow with what is played next or with
        `end_of_speech`. `mark` puts a mark at their end: `Played.mark` resolves once they have
        left, or were cut. With `interruptible=False` a flush does not take them: what is unsent
        is queued again right behind the flush, its marks with it.

        Concurrent calls queue up whole. A flush ends those that wait. Raises SessionClosed,
        ConfigError for samples that cannot be played, and LimitError(`too_many_marks`) beyond
        1024 open marks.
        """
        return await self._speaking.play(pcm, hz, mark, interruptible=interruptible)

    def flush(self, fade_ms: float = 0) -> asyncio.Future[Flushed]:
        """Stop speaking now: drop everything queued, and whatever waits in `play`.

        Works at once, by one store; await the result to learn what was sent and about what was
        heard. With `fade_ms` (0 to 20) one more packet leaves, in which that much of what would
        have come next fades out.
        """
        return self._speaking.flush(fade_ms)

    def mark(self, name: str) -> asyncio.Future[Mark]:
        """A mark at the end of what is queued now: resolves once, as played or as cut.

        Raises SessionClosed, and LimitError(`too_many_marks`) beyond 1024 open marks.
        """
        return self._speaking.mark(name)

    def end_of_speech(self) -> None:
        """Say that the utterance ends with what is queued: its last samples need no successor."""
        self._speaking.end_of_speech()

    async def wait_played(self) -> None:
        """Return when everything queued has left, or was flushed, or the session ended."""
        await self._speaking.wait_played()

    @property
    def position(self) -> int:
        """The sample up to which audio has really left for the caller."""
        return self._speaking.position

    @property
    def queued(self) -> int:
        """Samples that are queued and not yet sent."""
        return self._speaking.queued

    @property
    def speaker_hz(self) -> int:
        """Rate of the speaker's ring, its cursors and the encoder, in Hz."""
        return self._rings.ring.speaker.hz

    @property
    def speaker_channels(self) -> int:
        """Channels of the speaker's ring."""
        return self._rings.ring.speaker.channels

    async def configure(
        self,
        *,
        bitrate_bps: int | None = None,
        complexity: int | None = None,
        application: Application | None = None,
        fec: bool | None = None,
        expected_loss_percent: int | None = None,
        dtx: bool | None = None,
        silence: bool | None = None,
        mixer: SoundFile | msgspec.UnsetType | None = msgspec.UNSET,
    ) -> None:
        """Encode the speech differently from now on; what is not named stays as it is.

        The parameters are those of `Bot`, and `mixer`: a sound that the worker plays under the
        speech from now on, None for none. With the path of the one that plays it goes on where
        it stands. Neither cursors nor a flush count it. Raises ConfigError(`codec` or `mixer`)
        for a value that cannot be, and for a file `sound_missing`, `sound_unreadable` or
        `sound_too_long`; and SessionClosed. The call then goes on as it was.
        """
        self._check_open()
        named = {
            "bitrate_bps": bitrate_bps,
            "complexity": complexity,
            "application": application,
            "fec": fec,
            "expected_loss_percent": expected_loss_percent,
            "dtx": dtx,
            "silence": silence,
        }
        changes = {name: value for name, value in named.items() if value is not None}
        codec = msgspec.structs.replace(self.codec, **changes)
        if isinstance(mixer, SoundFile):
            mixer = mixer.absolute()
        elif mixer is not None and mixer is not msgspec.UNSET:
            raise ConfigError(f"mixer is a SoundFile or None, not {mixer!r}"[:200], code="mixer")
        await self._line.request(
            Configure(session=self.id, codec=codec if changes else None, mixer=mixer),
            timeout_s=REQUEST_DEADLINE_S,
        )
        self.codec = codec
        if mixer is not msgspec.UNSET:
            self.mixer = mixer

    async def stats(self) -> dict[str, dict[str, Any]]:
        """How the call does: records by their id, with W3C's names, as a browser's `getStats`.

        `inbound-audio`, `outbound-audio`, `remote-inbound-audio` (after the caller's first
        report), `candidate-pair`, `backbeat-media` and others; `ipc.stats` describes each.
        Raises SessionClosed, and WorkerError when the worker does not answer.
        """
        self._check_open()
        found = await self._line.request(GetStats(session=self.id), timeout_s=REQUEST_DEADLINE_S)
        if not isinstance(found, Stats):
            raise WorkerError("the engine's reply carries no statistics")
        return as_report(found.records)

    # -- messages and events --------------------------------------------------------------

    def send(self, data: Any, *, at: int | None = None) -> bool:
        """Send the caller an app message (anything JSON can hold, or bytes), up to 256 KiB.

        With `at` it leaves after that speaker sample; a flush drops what lies beyond. Raises
        ProtocolError for what cannot be sent; False when the engine does not read just now.
        """
        self._check_open()
        if at is not None and not isinstance(at, int):
            raise ConfigError(f"`at` is a cursor, an int, not {at!r}")
        check_data(data)
        return self._line.notify(SendMessage(session=self.id, data=data, at=at))

    async def messages(self) -> AsyncIterator[Any]:
        """The caller's app messages, until the session ends. At most 256 wait."""
        while True:
            while self._messages:
                self._events.taken("message")
                yield self._messages.popleft()
            if self.closed:
                return
            await self._waiters.changed()

    @overload
    def on(self, event: str) -> Callable[[AnyHandler], AnyHandler]: ...

    @overload
    def on(self, event: str, handler: AnyHandler) -> AnyHandler: ...

    def on(self, event: str, handler: Handler | None = None) -> object:
        """Call `handler` at an event, sync or async, in a task of its own; or decorate it.

        connected(resumed), disconnected(reason), closed(reason), message(data),
        track(receiver_index, enabled), mark(mark), and for a session that the bot has placed
        peer(state): connecting, connected, lost or closed; of a WebSocket raw(data), a message
        that is not audio. Handlers may take fewer arguments. At most 256 run at once; what
        happens beyond is counted in `dropped_events`. The first handler of an event also gets
        the last 256 that came before it, but for marks.
        """
        self._events.check(event)

        def register(handler: AnyHandler) -> AnyHandler:
            self._events.add(event, handler)
            return handler

        return register if handler is None else register(handler)

    async def close(self, reason: str = "bot_closed") -> None:
        """End the call."""
        if not self.closed:
            await self._line.request(
                CloseSession(session=self.id, reason=reason), timeout_s=REQUEST_DEADLINE_S
            )

    async def wait_closed(self) -> None:
        """Return when the session has ended."""
        while not self.closed:
            await self._waiters.changed()

    # -- what the bot process calls -------------------------------------------------------

    def attach(self, media: Media) -> None:
        """The rings are there, or new ones that go on where the others ended."""
        if self._media is not None and self._speech is not None:
            before, self._media = self._media, media
            hear_on(media.ring, before.ring)
            try:
                self._speech.move(media)
            finally:
                before.close()
            return
        self._media = media
        media.ring.want_mic(NEVER)  # until somebody listens
        self._speech = Speech(
            media, self._clock, self._writers, lambda mark: self._events.fire("mark", mark)
        )

    def detach(self) -> None:
        """Give the rings back; the session must have ended."""
        media, self._media = self._media, None
        if media is not None:
            media.close()

    def look(self) -> None:
        """The bell rang, for this session or another: look at the cursors."""
        media, speech = self._media, self._speech
        if media is None or speech is None or self.closed:
            return
        if speech.look():
            self._writers.wake()
        self._look_for_speech(media)

    def retry(self) -> None:
        """A write that was refused may be tried again."""
        if self._speech is not None:
            self._speech.retry()
        self.wake()

    def wake(self) -> None:
        """Something changed: whoever waits looks again."""
        self._writers.wake()
        self._hearers.wake()
        self._waiters.wake()

    def beat(self, now_ns: int) -> None:
        """The bot's loop turns."""
        if self._media is not None:
            self._media.ring.beat(now_ns)

    def peer_changed(self, state: str) -> None:
        """The caller's connection is connecting, connected, lost or closed."""
        self._events.fire("peer", state)

    def caller_connected(self, resumed: bool) -> None:
        """The caller's media flows."""
        self.connected = True
        self._events.fire("connected", resumed)

    def caller_disconnected(self, reason: str) -> None:
        """The caller's leg is gone."""
        self.connected = False
        self._events.fire("disconnected", reason)

    def message_arrived(self, data: Any, cursor: int) -> None:
        """The caller sent an app message at a mic cursor."""
        self._at(cursor, lambda: self._take_message(data))

    def track_changed(self, receiver_index: int, enabled: bool, cursor: int) -> None:
        """The caller turned a track on or off at a mic cursor."""
        self._at(cursor, lambda: self._events.fire("track", receiver_index, enabled))

    def ended(self, reason: str) -> None:
        """The session is over: whoever waits goes on."""
        if self.closed:
            return
        self._deliver(NEVER)
        self.closed = True
        self.close_reason = reason
        self.connected = False
        if self._speech is not None:
            self._speech.ended(reason)
        self._events.fire("closed", reason)
        self.wake()

    async def settle(self, grace_s: float) -> None:
        """Wait for running handlers, and end those that take longer."""
        await self._stay()
        await self._events.settle(grace_s)

    # -- inside ---------------------------------------------------------------------------

    @property
    def _speaking(self) -> Speech:
        if self._speech is None:
            self._check_open()
            raise StateError("the session has no media yet: await open_media()", code="no_media")
        return self._speech

    def _take_message(self, data: Any) -> None:
        if len(self._messages) == MAX_MESSAGES:
            self.dropped_messages += 1
        self._messages.append(data)
        self._events.fire("message", data)
        self.wake()
