"""Messages between the engine and its workers: calls, their rings, and beats."""

from __future__ import annotations

from typing import Literal

import msgspec

from ipc.codec import Codec
from ipc.ice_server import IceServer
from ipc.messages.base import Message
from ipc.messages.common import Candidate
from ipc.websocket import Websocket


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
    # Between the beats of one that has nothing to do and rests; with 0 it does not.
    resting_beat_ms: int = 0
    log_level: str = "info"
    priority: Literal["auto", "none"] = "auto"
    # Certificates of authorities to trust besides the system's, a PEM file; "" for none.
    tls_ca_file: str = ""
    # UDP ports to try, in this order; none means any.
    udp_ports: list[int] = msgspec.field(default_factory=list)
    # Addresses that callers see: PUBLIC or LOCAL=PUBLIC.
    public_addresses: list[str] = msgspec.field(default_factory=list)


class WorkerBeat(Message):
    """Every 50 ms, more rarely without sessions: the worker is alive and this is how it does."""

    number: int
    ticks: int
    sessions: int
    load: float
    late_ms: float
    missed_frames: int = 0
    # Packets of callers that were dropped because there was no time for them.
    unheard: int = 0
    # Which rung of the priority ladder the pacer stands on: fifo 5, nice -10 or none.
    priority: str = ""
    udp_port: int = 0
    # How callers' requests for a WebSocket ended: `accepted`, or the code of the refusal.
    upgrades: dict[str, int] = msgspec.field(default_factory=dict)


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
    remote_address: list[str | int] = msgspec.field(default_factory=list)
    headers: list[tuple[str, str]] = msgspec.field(default_factory=list)
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
