"""Messages of both sockets: replies, what callers and bots send each other, and settings."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ipc.codec import Codec
from ipc.errors import BackbeatError, from_wire
from ipc.messages.base import Message
from ipc.sound_file import SoundFile
from ipc.stats import AnyRecord


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
