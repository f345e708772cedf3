"""Messages between the engine and bots: hello, sessions that are offered or placed, their ends."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ipc.codec import Codec
from ipc.ice_server import IceServer
from ipc.messages.base import Message
from ipc.websocket import Websocket


class Hello(Message):
    """A bot process' first message. Request; answered with `Welcome`.

    `capacity` is a promise: how many sessions it takes at once. `pid` and `started` (seconds,
    as the system tells) let the engine notice the death of a local process. `bell` is the file
    name of its bell socket in the runtime directory, made as `bell-` and 8-16 hex digits.
    `codec` says how its speech is encoded; a refused value answers with the code `codec`.
    """

    name: str
    capacity: int = 1
    mic_hz: int = 48_000
    speaker_hz: int = 48_000
    mic_channels: int = 1
    speaker_channels: int = 1
    media: Literal["shm", "zmq"] = "shm"
    codec: Codec = Codec()
    pid: int = 0
    started: float = 0.0
    bell: str = ""
    token: str = ""


class Welcome(Message):
    """The engine takes the bot. Send a `beat` request every `beat_ms`."""

    bot: str
    engine: str
    beat_ms: int


class Beat(Message):
    """The bot's event loop has turned. The engine answers with another, or `Ok` to a request."""

    number: int


class Goodbye(Message):
    """The bot process, or the engine, leaves by its own will."""


class OfferSession(Message):
    """Will the bot take this session? Request; `Ok` means that it has attached the rings.

    With `media: "shm"` attach `segment`; with `media: "zmq"` connect a DEALER to `endpoint`
    and send `token` in the first frame of stream `stream`.
    """

    session: str
    epoch: int
    key: bytes
    media: Literal["shm", "zmq", "messages"]
    segment: str = ""
    endpoint: str = ""
    stream: int = 0
    token: str = ""
    mic_hz: int = 48_000
    speaker_hz: int = 48_000
    mic_channels: int = 1
    speaker_channels: int = 1
    mic_ms: int = 5_000
    speaker_ms: int = 1_000
    mic_base: int = 0
    speaker_base: int = 0
    speaker_written: int = 0
    resumed: bool = False
    request_data: Any = None
    pc_id: str = ""
    # How the caller came; with `websocket` audio and messages are as with any other.
    transport: Literal["webrtc", "websocket"] = "webrtc"


class OpenWebrtc(Message):
    """Bot to engine: answer this SDP offer of a caller of mine. Request; answered with `Placed`.

    The session is the bot's own and counts for no capacity. It ends when the caller has not
    connected after `connect_s` (up to a day). Rings are made by `open_media`.
    """

    sdp: str
    ice_servers: list[IceServer] = msgspec.field(default_factory=list)
    request_data: Any = None
    connect_s: float = 60.0


class OpenWebsocket(Message):
    """Bot to engine: dial this server for me. Request; answered with `Dialled`.

    The session is the bot's own and counts for no capacity. Rings are made by `open_media`;
    what the server says before waits for them.
    """

    websocket: Websocket
    request_data: Any = None


class Renegotiate(Message):
    """Bot to engine: a further SDP offer of the session's caller. Request; answered with `Placed`.

    With `restart` on a new peer connection and under a new `pc_id`.
    """

    session: str
    sdp: str
    restart: bool = False


class Placed(Message):
    """The answer to a bot's offer."""

    session: str
    sdp: str
    pc_id: str


class OpenMedia(Message):
    """Bot to engine: offer me rings of this shape for the session. Request.

    `Ok` when the bot has attached them. Rates and channels of 0 are those of its hello. The
    cursors begin at the bases: with rings that are to take the place of others, where the worker
    had stopped writing the mic and reading the speaker.
    With `messages` no rings, but a stream of whole WebSocket messages (`ipc.message_stream`).
    """

    session: str
    messages: bool = False
    mic_hz: int = 0
    speaker_hz: int = 0
    mic_channels: int = 0
    speaker_channels: int = 0
    codec: Codec = Codec()
    mic_base: int = 0
    speaker_base: int = 0


class MediaMoved(Message):
    """Engine to bot: another worker carries the session; ask it for rings by `open_media`."""

    session: str


class Connected(Message):
    """The caller's media flows; `resumed` after an interruption."""

    session: str
    resumed: bool = False


class Disconnected(Message):
    """The caller's leg is gone; the session may still be resumed."""

    session: str
    reason: str


class SessionClosed(Message):
    """The session has ended, once and for all."""

    session: str
    reason: str
