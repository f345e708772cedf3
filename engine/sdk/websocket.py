"""A session with a WebSocket server that the bot had dialled.

A worker has the socket: it paces what is played and writes what comes into the mic ring. Here
is what a WebSocket has beyond a call: whole messages as they are on the wire, and how it ended.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from engine.sdk.outgoing import Outgoing
from engine.sdk.session import Session
from engine.sdk.signaling import REQUEST_DEADLINE_S
from ipc.errors import AlreadyAttached, BackbeatError, ConfigError, StateError
from ipc.frames import InputTransportMessageFrame
from ipc.messages import Dialled, OpenMedia, SendRaw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ipc.media_stream import StreamLink
    from ipc.messages import LegState, OfferSession
    from ipc.serializers import FrameSerializer
    from ipc.websocket import Websocket, Wire

log = logging.getLogger("backbeat.bot")

# Minutes of speech in messages of 20 ms, as a server may send them all at once.
MAX_RAW, MAX_RAW_BYTES = 16_384, 8 << 20

SERIALIZERS: tuple[Wire, ...] = ("protobuf", "raw_pcm", "messages")
# Serializers of other projects that speak exactly what one of ours does: module, class, wire.
FOREIGN: dict[tuple[str, str], Wire] = {
    ("pipecat.serializers.protobuf", "ProtobufFrameSerializer"): "protobuf",
}


class WebsocketSession(Session):
    """A conversation over a WebSocket; `Bot.open_websocket` makes it.

    `audio`, `play`, `flush`, `mark`, `position` are those of any session. `connected` tells
    whether the socket is open now.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # The server's address and the headers of its answer, since it was dialled last.
        self.remote_address: tuple[str | int, ...] = ()
        self.response_headers: list[tuple[str, str]] = []
        self.subprotocol: str | None = None
        # How the last connection ended (RFC 6455 section 7.4.1): 0 while it has not.
        self.close_code = 0
        self.close_text = ""
        self._raw: deque[str | bytes] = deque()
        self._raw_bytes = 0
        self._decoder: FrameSerializer | None = None
        self._outgoing: Outgoing | None = None

    @property
    def outgoing(self) -> Outgoing:
        """Whole messages, paced; for sessions whose serializer runs in the bot."""
        if self._outgoing is None:
            self._check_open()
            raise StateError("the session has no stream of messages", code="no_media")
        return self._outgoing

    async def open_messages(self) -> None:
        """Have the server's messages come as they are, and `outgoing` to pace one's own.

        In the place of `open_media`. Raises AlreadyAttached, SessionClosed, WorkerError.
        """
        self._check_open()
        if self._media is not None or self._outgoing is not None or self.awaits_media:
            raise AlreadyAttached("the session has its media, or is about to")
        await self._ask_for_media(OpenMedia(session=self.id, messages=True))

    async def send_raw(self, data: str | bytes) -> bool:
        """Send a message as it is, now; whether it went to the open socket.

        False while there is no connection, and when too much waits that the server does not
        take. Raises MessageTooLarge above 1 MiB.
        """
        if self.closed:
            return False
        raw = data.encode() if isinstance(data, str) else bytes(data)
        message = SendRaw(session=self.id, data=raw, text=isinstance(data, str))
        try:
            await self._line.request(message, timeout_s=REQUEST_DEADLINE_S)
        except BackbeatError as error:
            if error.code == "message_too_large":
                raise
            return False
        return True

    async def raw_messages(self) -> AsyncIterator[str | bytes]:
        """The server's messages that are not audio, as they came, until the session ends.

        With a serializer that runs here that is every message. At most 8 MiB wait, the newest.
        """
        while True:
            while self._raw:
                self._events.taken("raw")
                message = self._raw.popleft()
                self._raw_bytes -= len(message)
                yield message
            if self.closed:
                return
            await self._waiters.changed()

    # -- what the bot process calls -------------------------------------------------------

    def dialled(self, reply: Dialled, websocket: Websocket) -> None:
        """The connection is there."""
        self.remote_address = tuple(reply.remote_address)
        self.response_headers = reply.headers
        self.subprotocol = reply.subprotocol
        self._decoder = _decoder(websocket)

    def attach_messages(self, offer: OfferSession, link: StreamLink) -> None:
        """The stream of messages is there, or another worker's in its place."""
        if self._outgoing is not None:
            self._outgoing.move(link, offer.stream, offer.token)
            return
        self._outgoing = Outgoing(
            link, offer.stream, offer.token, self._waiters, lambda data: self.raw_arrived(data, 0)
        )

    def media_moved(self) -> None:
        """Another worker carries the session."""
        if self._outgoing is None:
            super().media_moved()
        elif not self.closed:
            self._move_by(self._ask_again())

    async def _ask_again(self) -> None:
        try:
            await self._ask_for_media(OpenMedia(session=self.id, messages=True))
        except BackbeatError as error:  # the engine decides what becomes of the session
            log.warning("session %s has no messages: %s", self.id, error.message)

    def ended(self, reason: str) -> None:
        """The session is over."""
        if self._outgoing is not None:
            self._outgoing.close(reason)
        super().ended(reason)

    def leg_changed(self, message: LegState) -> None:
        """The connection is there, lost or closed."""
        if message.state in ("lost", "closed"):
            self.close_code, self.close_text = message.close_code, message.close_reason
        elif message.state == "connected":
            self.close_code, self.close_text = 0, ""

    def raw_arrived(self, data: str | bytes, cursor: int) -> None:
        """The server sent a message that is not audio, at a mic cursor."""
        self._at(cursor, lambda: self._take_raw(data))

    def _take_raw(self, data: str | bytes) -> None:
        self._raw_bytes += len(data)
        self._raw.append(data)
        while len(self._raw) > MAX_RAW or self._raw_bytes > MAX_RAW_BYTES:
            self._raw_bytes -= len(self._raw.popleft())
            self.dropped_messages += 1
        self._events.fire("raw", data)
        if self._decoder is not None:
            try:
                frame = self._decoder.decode(data)
            except BackbeatError:
                frame = None  # the worker has counted it
            if isinstance(frame, InputTransportMessageFrame):
                self._take_message(frame.message)
        self.wake()


def wire_of(serializer: object) -> tuple[Wire, dict[str, int]]:
    """What a worker speaks in the place of a serializer, and the format's rate.

    `messages` for None and for any object that is not exactly of a type we know: that one runs
    in the bot.
    """
    if isinstance(serializer, str):
        if serializer not in SERIALIZERS:
            known = ", ".join(SERIALIZERS)
            raise ConfigError(
                f"no serializer is called {serializer!r}: there are {known}", code="websocket"
            )
        return serializer, {}
    kind = type(serializer)
    foreign = FOREIGN.get((kind.__module__, kind.__qualname__))
    if foreign is not None:
        return foreign, {}
    from ipc.serializers import ProtobufFrameSerializer, RawPcmFrameSerializer

    if kind is ProtobufFrameSerializer:
        return "protobuf", {}
    if isinstance(serializer, RawPcmFrameSerializer) and kind is RawPcmFrameSerializer:
        return "raw_pcm", {"hz": serializer.hz, "channels": serializer.channels}
    return "messages", {}


def proxy_for(uri: str, proxy: str | bool | None) -> str | None:
    """The proxy that leads to a server: the given one, or with True that of the environment."""
    if isinstance(proxy, str):
        return proxy
    if not proxy:
        return None
    parts = urlsplit(uri)
    if proxy_bypass(parts.hostname or ""):
        return None
    found = getproxies()
    names = ("https", "http", "all") if parts.scheme == "wss" else ("http", "https", "all")
    return next((found[name] for name in names if name in found), None)


def _decoder(websocket: Websocket) -> FrameSerializer | None:
    from ipc.serializers import ProtobufFrameSerializer, RawPcmFrameSerializer

    if websocket.wire == "protobuf":
        return ProtobufFrameSerializer()
    if websocket.wire == "raw_pcm":
        return RawPcmFrameSerializer(hz=websocket.in_hz, channels=websocket.in_channels)
    return None
