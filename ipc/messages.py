"""Every control message, typed; `ipc.wire` makes bytes of them.

What is called a request is answered, with `Ok` or a message of its own, or with `Failure`; the
others are notifications. Samples never travel here.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from ipc.codec import Codec
from ipc.errors import BackbeatError, from_wire
from ipc.ice_server import IceServer as IceServer
from ipc.sound_file import SoundFile
from ipc.stats import AnyRecord
from ipc.websocket import Websocket


def _tag(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Message(msgspec.Struct, kw_only=True, tag_field="t", tag=_tag, omit_defaults=True):
    """Base of all messages."""


# -- both sockets -------------------------------------------------------------------------


class Ok(Message):
    """The request was carried out; there is nothing more to say."""


class Failure(Message):
    """The request, or a message that could not be read, was refused.

    `code` says why, `kind` is the code of the class of errors that it belongs to.
    """

    code: str
    message: str
    kind: str = ""
    retryable: bool = False

    def error(self) -> BackbeatError:
        """The failure as the exception it began as."""
        return from_wire(self.code, self.kind or self.code, self.message, self.retryable)

    @classmethod
    def of(cls, error: BackbeatError) -> Failure:
        """The wire form of an error."""
        return cls(
            code=error.code,
            message=error.message,
            kind=type(error).code,
            retryable=error.retryable,
        )


class Candidate(msgspec.Struct, kw_only=True):
    """One trickled ICE candidate; an empty `candidate` ends them."""

    candidate: str
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None


class SendMessage(Message):
    """Bot to engine to worker: an app message for the caller.

    With `at` it leaves after that speaker sample was sent, and a flush drops what lies beyond.
    """

    session: str
    data: Any
    at: int | None = None


class AppMessage(Message):
    """Worker to engine to bot: an app message of the caller, at mic cursor `cursor`.

    With `unread`, `data` is a text that is still to be read as JSON, and is meant as it is if it
    is none: long ones are not read where the beat would wait for it.
    """

    session: str
    data: Any
    cursor: int = 0
    unread: bool = False


class RawMessage(Message):
    """Worker to engine to bot: a WebSocket message that is not audio, at mic cursor `cursor`.

    `text` tells a text message, in UTF-8, from a binary one.
    """

    session: str
    data: bytes
    text: bool = False
    cursor: int = 0


class SendRaw(Message):
    """Bot to engine to worker: send this WebSocket message now, as text or binary. Request.

    Fails with `not_connected`, or `slow_reader` when too much waits already.
    """

    session: str
    data: bytes
    text: bool = False


class TrackStatus(Message):
    """Worker to engine to bot: the caller turned a track on or off (0 mic, 1 camera, 2 screen)."""

    session: str
    receiver_index: int
    enabled: bool
    cursor: int = 0


class LegState(Message):
    """Worker to engine: the caller's leg changed. Engine to bot: that of a session it placed.

    Of a WebSocket, `close_code` and `close_reason` (RFC 6455 section 7.4) say how it ended.
    """

    session: str
    state: Literal["connecting", "connected", "lost", "closed"]
    reason: str = ""
    close_code: int = 0
    close_reason: str = ""


class CloseSession(Message):
    """Bot to engine, engine to worker: end the session. Request.

    A caller who is still connecting is let in first, so that it can be told, but for `at_once`.
    """

    session: str
    reason: str = "closed"
    at_once: bool = False


class Configure(Message):
    """Bot to engine to worker: from now on encode the speech like this, and play this under it.

    Request. What is not said stays as it is; `mixer: nil` ends the background. A file that
    cannot be played answers with `sound_missing`, `sound_unreadable` or `sound_too_long`.
    """

    session: str
    codec: Codec | None = None
    mixer: SoundFile | msgspec.UnsetType | None = msgspec.UNSET


class GetStats(Message):
    """Bot to engine to worker: how does the session do? Request; answered with `Stats`."""

    session: str


class Stats(Message):
    """The records that `ipc.stats` describes."""

    records: list[AnyRecord]


# -- `workers`: engine and worker ---------------------------------------------------------


class WorkerHello(Message):
    """A worker's first message. Request; answered with `WorkerSettings`."""

    worker: str
    pid: int
    token: str


class WorkerSettings(Message):
    """All that a worker needs to know."""

    beat_ms: int
    runtime_dir: str
    ice_addresses: list[str]
    mic_ms: int
    speaker_ms: int
    log_level: str = "info"
    priority: Literal["auto", "none"] = "auto"
    # Certificates of authorities to trust besides the system's, a PEM file; "" for none.
    tls_ca_file: str = ""
    # UDP ports to try, in this order; none means any.
    udp_ports: list[int] = msgspec.field(default_factory=list)
    # Addresses that callers see: PUBLIC or LOCAL=PUBLIC.
    public_addresses: list[str] = msgspec.field(default_factory=list)


class WorkerBeat(Message):
    """Every 50 ms: the worker is alive and this is how it does."""

    number: int
    ticks: int
    sessions: int
    load: float
    late_ms: float
    missed_frames: int = 0
    # Which rung of the priority ladder the pacer stands on: fifo 5, nice -10 or none.
    priority: str = ""
    udp_port: int = 0
    # How callers' requests for a WebSocket ended: `accepted`, or the code of the refusal.
    upgrades: dict[str, int] = {}


class Offer(Message):
    """Answer this SDP offer for the session, on a new peer with `restart`. Request.

    A new peer uses `ice_servers`.
    """

    session: str
    sdp: str
    restart: bool = False
    ice_servers: list[IceServer] = msgspec.field(default_factory=list)


class Answer(Message):
    """The worker's SDP answer."""

    sdp: str


class Dial(Message):
    """Dial this server for the session. Request; answered with `Dialled` once it has accepted."""

    session: str
    websocket: Websocket


class Dialled(Message):
    """A WebSocket is open; to a bot that has placed it, too. Headers are those of the answer."""

    session: str
    remote_address: list[str | int] = []
    headers: list[tuple[str, str]] = []
    subprotocol: str | None = None


class Claim(Message):
    """Worker to engine: may somebody with this token have a WebSocket? Request.

    Answered with `Claimed` or `Refused`. `caller` is the worker's number for the connection, `host`
    and `origin` are what the HTTP request said.
    """

    caller: int
    token: str
    host: str
    origin: str | None = None


class Admit(Message):
    """Engine to worker: the caller of that claim is this session's. Request, before `Claimed`.

    A session that the worker does not have begins there.
    """

    session: str
    caller: int


class Claimed(Message):
    """Let the caller in."""

    session: str


class Refused(Message):
    """Answer the caller with this HTTP status and `{"code", "detail"}`."""

    status: int
    code: str
    detail: str


class Accepting(Message):
    """Engine to worker: take connections from the listening socket, or leave them to others."""

    on: bool


class Candidates(Message):
    """Bot to engine to worker: trickled candidates of the caller. Request."""

    session: str
    candidates: list[Candidate]


class OpenRing(Message):
    """Make the session's rings for a bot that is about to attach. Request.

    Cursors begin at the bases, unless rings of the same shape go on.
    """

    session: str
    epoch: int
    media: Literal["shm", "zmq", "messages"]
    mic_hz: int
    speaker_hz: int
    mic_channels: int
    speaker_channels: int
    segment: str
    bell: str = ""
    codec: Codec = Codec()
    mic_base: int = 0
    speaker_base: int = 0


class RingOpened(Message):
    """The rings are there. `stream` and `token` are for bots with `media: "zmq"`.

    The bases are above 0 and speech may be written already when an earlier bot's go on.
    """

    mic_base: int = 0
    speaker_base: int = 0
    speaker_written: int = 0
    stream: int = 0
    token: str = ""
    endpoint: str = ""


class RingAttached(Message):
    """The bot says that it has attached: unlink the segment and let media flow. Request.

    Fails with `bot_rejected` when nobody has mapped the rings, or claimed the stream.
    """

    session: str
    epoch: int


class DropRing(Message):
    """The bot of this epoch did not attach."""

    session: str
    epoch: int


# -- `bots`: engine and bot ---------------------------------------------------------------


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
