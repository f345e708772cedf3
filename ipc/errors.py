"""The error tree: every failure that crosses a module or process border has a code.

Errors are raised where the cause is known and translated once at the edge: to an HTTP
status, a WebSocket close code or an `error` message of the bot API. Outcomes on the media
path (full, late, lost) are return values and counters, never exceptions.
"""

from __future__ import annotations

from typing import ClassVar


class BackbeatError(Exception):
    """Base of all errors of the project.

    `code` is stable and meant for programs, the message is a sentence for people, and
    `retryable` says whether the same call may succeed later without a change.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(
        self, message: str, *, code: str | None = None, retryable: bool | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code  # type: ignore[misc]  # narrows the class' code for this error
        if retryable is not None:
            self.retryable = retryable  # type: ignore[misc]  # same


class ConfigError(BackbeatError):
    """A setting or parameter that cannot be honoured."""

    code = "config"


class ProtocolError(BackbeatError):
    """A peer broke the wire protocol."""

    code = "protocol"


class VersionMismatch(ProtocolError):
    """The peer speaks another version of the protocol."""

    code = "version_mismatch"


class MalformedMessage(ProtocolError):
    """Bytes that are not a message, or a message with wrong fields."""

    code = "malformed_message"


class MessageTooLarge(ProtocolError):
    """A message over the size limit."""

    code = "message_too_large"


class UnknownMessage(ProtocolError):
    """A well-formed message of a type that this process does not handle."""

    code = "unknown_message"


class AuthError(BackbeatError):
    """The caller may not do this."""

    code = "unauthorized"


class LimitError(BackbeatError):
    """A limit is reached."""

    code = "limit"
    retryable = True


class Overloaded(LimitError):
    """No capacity is left on this machine."""

    code = "overloaded"


class QuotaExceeded(LimitError):
    """A configured quota is used up."""

    code = "quota_exceeded"


class RateLimited(LimitError):
    """Too many requests in too short a time."""

    code = "rate_limited"


class StateError(BackbeatError):
    """The call does not fit the present state."""

    code = "state"


class SessionNotFound(StateError):
    """No session, or no peer connection, has this id."""

    code = "session_not_found"


class SessionClosed(StateError):
    """The session has ended."""

    code = "session_closed"


class AlreadyAttached(StateError):
    """Something else holds that place already."""

    code = "already_attached"


class NegotiationError(BackbeatError):
    """The media connection could not be agreed upon."""

    code = "negotiation"


class SdpRejected(NegotiationError):
    """The session description is malformed or cannot be served."""

    code = "sdp_rejected"


class UnsupportedCodec(NegotiationError):
    """Caller and engine have no codec in common."""

    code = "unsupported_codec"


class IceFailed(NegotiationError):
    """No path between caller and worker was found."""

    code = "ice_failed"


class DtlsFailed(NegotiationError):
    """The DTLS handshake failed."""

    code = "dtls_failed"


class DialFailed(NegotiationError):
    """A server that was dialled could not be reached, or does not take us.

    `dial_timeout`, `dial_refused` (nobody listens there), `dial_unknown_host`, `dial_tls`,
    `dial_proxy`, `dial_redirects`, `dial_http_NNN` (its answer), `dial_protocol`.
    """

    code = "dial_failed"


class RingError(BackbeatError):
    """A shared-memory ring cannot be used."""

    code = "ring"


class StaleEpoch(RingError):
    """The segment belongs to an earlier bot or worker of the session."""

    code = "stale_epoch"


class LayoutMismatch(RingError):
    """The segment is not laid out as this version expects."""

    code = "layout_mismatch"


class RingClosed(RingError):
    """The segment is closed."""

    code = "ring_closed"


class WorkerError(BackbeatError):
    """A media worker failed."""

    code = "worker"
    retryable = True


class WorkerDied(WorkerError):
    """The worker process ended."""

    code = "worker_died"


class WorkerStalled(WorkerError):
    """The worker process does not answer."""

    code = "worker_stalled"


class NoWorker(WorkerError):
    """No live worker can take the session."""

    code = "no_worker"


class BotError(BackbeatError):
    """A bot failed."""

    code = "bot"
    retryable = True


class NoBot(BotError):
    """No registered bot has room for the caller."""

    code = "no_bot"


class BotGone(BotError):
    """The bot process ended or left."""

    code = "bot_gone"


class BotRejected(BotError):
    """The bot declined the session."""

    code = "bot_rejected"


def _classes(base: type[BackbeatError]) -> dict[str, type[BackbeatError]]:
    found = {base.code: base}
    for child in base.__subclasses__():
        found.update(_classes(child))
    return found


BY_CODE = _classes(BackbeatError)


def from_wire(code: str, kind: str, message: str, retryable: bool) -> BackbeatError:
    """The error that a peer reported: `kind` is the code of its class, `code` its own."""
    return BY_CODE.get(kind, BackbeatError)(message, code=code, retryable=retryable)
