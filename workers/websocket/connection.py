"""One open WebSocket: bytes in and out of the loop's transport, whole messages on this side.

The protocol is the sans-I/O core of `websockets`. What comes is queued, bounded, and handled
in the slots (`drain`); what leaves is written there. Pings, the close handshake and the limits
are ours. Knows no audio.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import CONNECTING, OPEN, Side

from ipc.clock import NS_PER_S
from workers.websocket.fragments import Fragments
from workers.websocket.framing import Framing, Masks, binary
from workers.websocket.handshake import Handshake
from workers.websocket.pings import Pings
from workers.websocket.protocol import max_bytes, why_ended
from workers.websocket.reading import MAX_READS, PIECE_BYTES, Reader
from workers.websocket.sockets import shorten_queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.client import ClientProtocol
    from websockets.server import ServerProtocol

    from ipc.clock import Clock
    from workers.websocket.sockets import Sockets

# Above it the transport reads no more, until the slots have taken some.
MAX_RECEIVED_BYTES = 256 << 10
# What one slot handles of one connection.
MAX_DRAIN_BYTES = MAX_READS * PIECE_BYTES
MAX_DRAIN_FRAMES = 32
# What may wait for a server that does not read: then messages are refused.
MAX_UNSENT_BYTES = 1 << 20
# With the answers to its pings, which cannot be refused: then it is given up.
MAX_UNANSWERED_BYTES = 4 << 20
# Over so long the frames of one connection are counted.
COUNTED_S = 10
COUNTED_NS = COUNTED_S * NS_PER_S
# A normal closure would tell the other side not to come again.
END_CODES = {"slow_reader": CloseCode.TRY_AGAIN_LATER}


class Connection(asyncio.Protocol):
    """A client's or a server's end. `on_message` gets text or bytes, `on_end` the reason, once."""

    def __init__(
        self,
        protocol: ClientProtocol | ServerProtocol,
        sockets: Sockets,
        clock: Clock,
        *,
        ping_interval_s: float | None = None,
        ping_timeout_s: float | None = None,
        close_timeout_s: float = 1.0,
        data_is_life: bool = False,
        max_frames_per_s: int = 0,
    ) -> None:
        """With `data_is_life` whatever comes counts as much as the answer to a ping.

        Who sends more than `max_frames_per_s` (0: any number) is not listened to any longer. They
        are counted over ten seconds: what a network has held up comes at once.
        """
        self.protocol = protocol
        self._sockets = sockets
        self._clock = clock
        self._pings = Pings(ping_interval_s, ping_timeout_s, data_is_life=data_is_life)
        self._heard_ns = 0
        self._close_timeout_s = close_timeout_s
        self.on_message: Callable[[str | bytes, int], None] = lambda _data, _now_ns: None
        self.on_end: Callable[[Connection, str], None] = lambda _connection, _reason: None
        # Whether what was received has to wait: whoever takes it is full.
        self.is_full: Callable[[], bool] = lambda: False
        self._handshake = Handshake(protocol)
        self.response = self._handshake.response
        self.gone = asyncio.Event()
        self.remote_address: tuple[str | int, ...] = ()
        self.rtt_ns = 0
        self.received = self.received_bytes = self.sent = self.sent_bytes = 0
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(self.data_received)
        self._received: deque[bytes] = deque()
        # Whether all that is left of it is a frame's beginning that does not say its length yet.
        self._incomplete = False
        self._max_frames = max_frames_per_s * COUNTED_S
        self._span = self._frames = 0
        self._waiting_bytes, self._paused = 0, False
        self._listening = self._closing = self._lost = self._ended = False
        self._reason = ""
        self._masks = Masks() if protocol.side is Side.CLIENT else None
        self._framing = Framing(masked=self._masks is None, max_bytes=max_bytes(protocol))
        # Whether messages may be compressed: those that we send go past the protocol if not.
        self._packs = False
        # What has come of a message in fragments; None while there is none.
        self._parts: Fragments | None = None
        self._events: deque[object] = deque()
        self._aborting: asyncio.TimerHandle | None = None

    # -- the transport ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is a path: what the protocol wants to say first is said."""
        self._transport = cast("asyncio.Transport", transport)
        self._reader.begin(self._transport)
        shorten_queue(self._transport)
        self.remote_address = tuple((transport.get_extra_info("peername") or ())[:2])
        self._write()

    def data_received(self, data: bytes) -> None:
        """Bytes: kept for the slot, but for those of the handshake."""
        if self.protocol.state is CONNECTING:
            data = self._handshake.take(data)
            self._write()
            if not data:
                return
        self._received.append(data)
        self._incomplete = False
        self._waiting_bytes += len(data)
        if self._waiting_bytes > MAX_RECEIVED_BYTES:
            self._paused = True
            self._reader.hold()
        if self._closing:  # there may be no more slots
            self.drain(self._clock.now_ns())
        else:
            self._wait_for_slot()

    def connection_lost(self, exc: Exception | None) -> None:
        """No more will come; what has come is still handled."""
        self._lost = True
        self._reader.end()
        self._incomplete = False
        if self._aborting is not None:
            self._aborting.cancel()
        self.gone.set()
        self._handshake.fail(exc or ConnectionResetError("it closed the connection"))
        self._wait_for_slot()

    def _wait_for_slot(self) -> None:
        if self._listening:
            self._sockets.add(self)

    def listen(self) -> None:
        """The callbacks are set: handle what has come, and what comes."""
        self._listening = True
        self._packs = bool(self.protocol.extensions)
        self._pings.begin(self._clock.now_ns())
        if not self._lost and not self._closing:
            self._reader.join(self._sockets.reading)
        self._sockets.add(self)

    # -- in the slots -------------------------------------------------------------------------

    def drain(self, now_ns: int) -> bool:
        """Handle some of what has come; whether more is left that can be handled now."""
        left, frames = MAX_DRAIN_BYTES, MAX_DRAIN_FRAMES
        if self._received:
            self._heard_ns = now_ns
        # Whether the protocol may have something to say, or be at its end.
        asked = bool(self._events or self._lost)
        while True:
            while self._events:
                if self.is_full():
                    return False  # `resume` says when it is not
                self._take(self._events.popleft(), now_ns)
            if not self._received or left <= 0 or frames <= 0:
                break
            piece = self._received.popleft()
            message = None
            if self._parts is None and self.protocol.state is OPEN and not self.is_full():
                message = self._framing.whole(piece)
            if message is not None:
                self._waiting_bytes -= len(piece)
                left -= len(piece)
                frames -= 1
                self._count(1, now_ns)
                self._give(message, len(message), now_ns)
                continue
            asked = True
            # What a frame unfolds to is not known before it has.
            piece, count = self._cut(piece, 1 if self._packs else frames)
            if not piece:
                break
            frames -= count
            self._count(count, now_ns)
            self._waiting_bytes -= len(piece)
            left -= len(piece)
            if not self.protocol.reader.eof:
                self.protocol.receive_data(piece)
                events = self.protocol.events_received()
                self._events.extend(events)
                if self._packs:
                    left -= sum(len(event.data) for event in events if isinstance(event, Frame))
        if asked or self._reason:
            if self._lost and not self._received and not self._events:
                self.protocol.receive_eof()
            if self._write() and self.unsent_bytes > MAX_UNANSWERED_BYTES:
                self.end("slow_reader")
            self._look_at_state()
        if self._paused and self._waiting_bytes < MAX_RECEIVED_BYTES // 2:
            self._paused = False
            self._reader.release()
        return bool(self._events) or bool(self._received and not self._incomplete)

    def _cut(self, data: bytes, frames: int) -> tuple[bytes, int]:
        """The first of these bytes, in which at most `frames` begin, and how many do.

        The others are put back. Nothing while the beginning of a frame does not say its length.
        """
        if self._received and len(data) < PIECE_BYTES:  # crumbs cost as much as pieces
            crumbs, size = [data], len(data)
            while self._received and size < PIECE_BYTES:
                crumbs.append(self._received.popleft())
                size += len(crumbs[-1])
            data = b"".join(crumbs)
        size, count = self._framing.cut(data[:PIECE_BYTES], frames)
        if not size and self._lost:  # it never will
            return data, 0
        self._incomplete = not size
        if size < len(data):
            self._received.appendleft(data[size:])
        return data[:size], count

    def _count(self, frames: int, now_ns: int) -> None:
        span = now_ns // COUNTED_NS
        if span != self._span:
            self._span, self._frames = span, 0
        self._frames += frames
        if self._max_frames and self._frames > self._max_frames:
            self.end("too_many_messages", CloseCode.POLICY_VIOLATION)

    def resume(self) -> None:
        """Whoever takes what comes has room again."""
        if self._events or (self._received and not self._incomplete):
            self._wait_for_slot()

    def failed(self) -> None:
        """Something of ours failed."""
        self.end("internal", CloseCode.INTERNAL_ERROR)

    def _take(self, event: object, now_ns: int) -> None:
        if not isinstance(event, Frame) or self._reason:
            return  # behind what has ended it, nothing counts
        opcode = event.opcode
        if opcode is Opcode.PONG:
            self.rtt_ns = self._pings.answer(bytes(event.data), now_ns) or self.rtt_ns
            return
        if opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        data: bytes = event.data if isinstance(event.data, bytes) else bytes(event.data)
        message: str | bytes = data
        size = len(data)
        try:
            if not event.fin and opcode is not Opcode.CONT:
                self._parts = Fragments(text=opcode is Opcode.TEXT)
            parts = self._parts
            if parts is not None:
                parts.add(data, last=event.fin)
                if not event.fin:
                    return
                self._parts = None
                message, size = parts.message(), len(parts.data)
            elif opcode is Opcode.TEXT:
                message = data.decode()
        except UnicodeDecodeError:
            self.end("protocol_error", CloseCode.INVALID_DATA)
            return
        self._give(message, size, now_ns)

    def _give(self, message: str | bytes, size: int, now_ns: int) -> None:
        if self._reason:
            return
        self.received += 1
        self.received_bytes += size
        self.on_message(message, now_ns)

    def keep_alive(self, now_ns: int) -> None:
        """Each beat: ping when it is time, and give up a server that does not answer."""
        pings = self._pings
        if now_ns < pings.due_ns or not self.is_open:
            return
        if not pings.awaited:
            self.protocol.send_ping(pings.ask(now_ns))
            self._write()
        elif pings.is_overdue(now_ns, self._heard_ns):
            self._reader.receive()
            # The answer may be among what has come and was not handled yet.
            if not self._events and (not self._received or self._incomplete):
                self.end("ping_timeout", CloseCode.INTERNAL_ERROR)

    # -- out ----------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether messages may be sent."""
        return self.protocol.state is OPEN and not self._lost and not self._reason

    @property
    def unsent_bytes(self) -> int:
        """What the transport holds because the other side does not read."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def send(self, message: str | bytes) -> bool:
        """Send a message; False when the connection is not open or too much waits already."""
        if not self.is_open or self.unsent_bytes > MAX_UNSENT_BYTES:
            return False
        transport = self._transport
        if isinstance(message, bytes) and not self._packs and transport is not None:
            data = message
            if not transport.is_closing():
                masks = self._masks
                transport.write(binary(data, masks.take() if masks is not None else b""))
        else:
            if isinstance(message, str):
                data = message.encode()
                self.protocol.send_text(data)
            else:
                data = message
                self.protocol.send_binary(data)
            self._write()
        self.sent += 1
        self.sent_bytes += len(data)
        return True

    def _write(self) -> bool:
        """Send what the protocol has to say; whether there was any."""
        transport = self._transport
        outgoing = self.protocol.data_to_send()
        for data in outgoing:
            if transport is None or transport.is_closing():
                continue
            if data:
                transport.write(data)
            elif transport.can_write_eof():
                transport.write_eof()
            else:  # TLS has no half-close
                transport.close()
        return bool(outgoing)

    # -- the end ------------------------------------------------------------------------------

    def end(self, reason: str, code: int | None = None) -> None:
        """Close it from our side, for this reason."""
        if code is None:
            code = END_CODES.get(reason, CloseCode.NORMAL_CLOSURE)
        if not self._reason:
            self._reason = reason
        if self.protocol.state is OPEN:
            self.protocol.fail(code)
            self._write()
        self._look_at_state()

    async def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Say goodbye and wait a moment for the other side's."""
        self.on_message = lambda _data, _now_ns: None
        self.is_full = lambda: False
        self._reason = self._reason or "closed"
        self._closing = True
        self._reader.leave()
        if self.protocol.state is OPEN:
            self.protocol.send_close(code, reason)
            self._write()
        self.drain(self._clock.now_ns())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._close_timeout_s):
                await self.gone.wait()
        self.abort()

    def abort(self) -> None:
        """Drop it at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def close_code(self) -> int:
        """How it ended, RFC 6455 section 7.4.1; 0 while it has not."""
        if self.protocol.state is OPEN and not self._lost:
            return 0
        close = self.protocol.close_rcvd or self.protocol.close_sent
        return int(close.code if close is not None else CloseCode.ABNORMAL_CLOSURE)

    @property
    def close_reason(self) -> str:
        """What was said of it."""
        close = self.protocol.close_rcvd or self.protocol.close_sent
        return close.reason if close is not None else ""

    def _look_at_state(self) -> None:
        if self._ended or (self.protocol.state is OPEN and not self._reason):
            return
        if self._events and not self._reason:
            return  # what was said before the goodbye is heard first
        self._ended = True
        if self._transport is not None and not self._lost:
            loop = asyncio.get_running_loop()
            self._aborting = loop.call_later(self._close_timeout_s, self.abort)
        self.on_end(self, self._reason or why_ended(self.protocol))
