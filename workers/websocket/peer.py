"""The WebSocket leg of a session that dials: dialled again if it may be, until it ends.

Owns the connection of the moment and the task that dials. Reports `connected`, `lost` (it is
being dialled again) and `closed`, with the reason.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Literal

from ipc.clock import NS_PER_S
from ipc.errors import DialFailed, StateError
from workers.websocket.dialer import dial
from workers.websocket.messages import Messages
from workers.websocket.queue_sender import QueueSender
from workers.websocket.receiver import Receiver
from workers.websocket.sender import Sender
from workers.websocket.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ipc.clock import Clock
    from ipc.message_stream import MessageStream
    from ipc.websocket import Reconnect, Websocket
    from workers.websocket.connection import Connection
    from workers.websocket.sockets import Sockets

log = logging.getLogger(__name__)

State = Literal["connecting", "connected", "lost", "closed"]
BACKOFF = 2.0


class PacedSender(Sender):
    """The sender that the pacer drives, with what else is due on each beat."""

    def __init__(self, clock: Clock, websocket: Websocket, wire: Wire) -> None:
        super().__init__(clock, websocket, wire)
        self.queue = QueueSender(websocket) if websocket.wire == "messages" else None
        self.on_beat: Callable[[int], None] = lambda _now_ns: None

    def send(self, now_ns: int) -> None:
        """On the beat."""
        super().send(now_ns)
        link = self.link
        if self.queue is not None and link is not None and link.is_open:
            self.queue.send(link, now_ns)
        self.on_beat(now_ns)

    def miss(self, frames: int) -> None:
        """So many beats were given up."""
        super().miss(frames)
        if self.queue is not None:
            self.queue.miss(frames)


class WebsocketPeer:
    """The leg. `close` is idempotent."""

    # What is said while the connection is lost waits for the next: so many messages.
    kept_messages = 0

    def __init__(
        self,
        websocket: Websocket,
        sockets: Sockets,
        clock: Clock,
        *,
        on_state: Callable[[WebsocketPeer, State], None],
        on_mic: Callable[[], None],
        on_message: Callable[[str | bytes, int], None],
    ) -> None:
        """`on_message` gets what is not audio, and the mic cursor at which it came."""
        wire = Wire(websocket)
        self.websocket = websocket
        self._sockets = sockets
        self._clock = clock
        self._on_state = on_state
        self.sender = PacedSender(clock, websocket, wire)
        self.receiver = self._new_receiver(wire, on_mic, on_message)
        self.data = Messages(wire, self.kept_messages)
        self.state: State | None = None
        self.fault = ""
        self.close_code = 0
        self.close_reason = ""
        self.dialled = 0
        # What the connections before this one have sent and received.
        self._before = (0, 0, 0, 0)
        self._stream: MessageStream | None = None
        self._offered: tuple[MessageStream, Callable[[], Awaitable[None]]] | None = None
        self._release: Callable[[], None] = lambda: None
        self._offered_release: Callable[[], None] = lambda: None
        self._link: Connection | None = None
        self._again: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self.sender.on_beat = self.receiver.feed

    def _new_receiver(
        self, wire: Wire, on_mic: Callable[[], None], on_message: Callable[[str | bytes, int], None]
    ) -> Receiver:
        return Receiver(self._clock, wire, on_mic, on_message)

    @property
    def closing(self) -> bool:
        """Whether it is at its end."""
        return self._closing is not None

    @property
    def connection(self) -> Connection | None:
        """The connection of the moment."""
        return self._link

    def totals(self) -> tuple[int, int, int, int]:
        """Messages and bytes sent, messages and bytes received, over all connections."""
        before, link = self._before, self._link
        if link is None:
            return before
        return (
            before[0] + link.sent,
            before[1] + link.sent_bytes,
            before[2] + link.received,
            before[3] + link.received_bytes,
        )

    async def dial(self) -> Connection:
        """Dial the server for the first time. Raises DialFailed."""
        connection = await dial(self.websocket, self._sockets, self._clock)
        if self._closing is not None:
            connection.abort()
            raise StateError("the session has ended", code="session_closed")
        self.take(connection)
        return connection

    def take(self, connection: Connection) -> None:
        """This connection is open: use it from now on."""
        self.dialled += 1
        self._link = self.sender.link = self.data.link = connection
        if self.sender.queue is not None:
            self.sender.queue.rest()
            connection.on_message = self._pass_on
            connection.is_full = self._stream_full
        else:
            connection.on_message = self.receiver.take
            connection.is_full = self.receiver.is_full
            self.receiver.on_room = connection.resume
        connection.on_end = self._ended
        self.fault, self.close_code, self.close_reason = "", 0, ""
        self._become("connected")
        connection.listen()

    # -- whole messages, for serializers that run in the bot ------------------------------------

    def offer_messages(
        self,
        stream: MessageStream,
        claimed: Callable[[], Awaitable[None]],
        release: Callable[[], None],
    ) -> None:
        """Keep a stream for a bot; `claimed` raises BotRejected when it does not claim it."""
        self._offered_release()
        self._offered, self._offered_release = (stream, claimed), release

    def offers(self, epoch: int) -> bool:
        """Whether a stream of that epoch is kept."""
        return self._offered is not None and self._offered[0].epoch == epoch

    async def attach_messages(self) -> None:
        """The bot says that it has claimed it. Raises BotRejected when it has not."""
        assert self._offered is not None  # noqa: S101 - the caller looked
        stream, claimed = self._offered
        await claimed()
        self._release()
        self._stream, self._release = stream, self._offered_release
        self._offered, self._offered_release = None, lambda: None
        if self.sender.queue is not None:
            self.sender.queue.stream = stream
        stream.on_room = self._resume
        self._resume()

    def withdraw_messages(self) -> None:
        """The bot did not come."""
        self._offered_release()
        self._offered, self._offered_release = None, lambda: None

    def _stream_full(self) -> bool:
        return self._stream is None or self._stream.full

    def _pass_on(self, message: str | bytes, _now_ns: int) -> None:
        if self._stream is not None:
            self._stream.put(message)

    def _resume(self) -> None:
        if self._link is not None:
            self._link.resume()

    # -- when it ends -----------------------------------------------------------------------------

    def _ended(self, connection: Connection, reason: str) -> None:
        if connection is not self._link:
            return
        self._before = self.totals()
        self._link = self.sender.link = self.data.link = None
        self.fault = reason
        self.close_code, self.close_reason = connection.close_code, connection.close_reason
        if self._closing is None:
            self._go_on(reason)

    def _go_on(self, reason: str) -> None:
        """The connection has ended, for this reason: what becomes of the leg."""
        again = self.websocket.reconnect
        if again is None or reason == "internal":
            self._become("closed")
            return
        self._become("lost")
        self._again = asyncio.create_task(self._dial_again(again), name="dial again")

    async def _dial_again(self, again: Reconnect) -> None:
        """Until it succeeds, the server refuses for good, or the engine ends the session."""
        pause_s = again.first_s
        began_ns = self._clock.now_ns()
        while True:
            await asyncio.sleep(pause_s)
            try:
                connection = await dial(self.websocket, self._sockets, self._clock)
            except DialFailed as error:
                log.info("a server could not be dialled again: %s", error.code)
                over = self._clock.now_ns() - began_ns > again.within_s * NS_PER_S
                if over or not error.retryable:
                    self.fault = error.code
                    self._become("closed")
                    return
                pause_s = min(pause_s * BACKOFF, again.longest_s)
            else:
                self.take(connection)
                return

    def _become(self, state: State) -> None:
        if self.state != "closed":
            self.state = state
            self._on_state(self, state)

    async def close(self) -> None:
        """End it politely; also what is being dialled."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="websocket close")
        await asyncio.shield(self._closing)

    async def _take_leave(self, link: Connection) -> None:
        await link.close()

    async def _close(self) -> None:
        self.sender.ring = self.receiver.ring = None
        if self._again is not None:
            self._again.cancel()
            await asyncio.gather(self._again, return_exceptions=True)
        link, self._link = self._link, None
        self.sender.link = self.data.link = None
        if link is not None:
            await self._take_leave(link)
        self.withdraw_messages()
        self._release()
