from __future__ import annotations

import pickle

import pytest

from ipc import errors
from ipc.errors import BY_CODE, BackbeatError, from_wire

TREE = {
    "config": "ConfigError",
    "protocol": "ProtocolError",
    "version_mismatch": "VersionMismatch < ProtocolError",
    "malformed_message": "MalformedMessage < ProtocolError",
    "message_too_large": "MessageTooLarge < ProtocolError",
    "unknown_message": "UnknownMessage < ProtocolError",
    "unauthorized": "AuthError",
    "limit": "LimitError",
    "overloaded": "Overloaded < LimitError",
    "quota_exceeded": "QuotaExceeded < LimitError",
    "rate_limited": "RateLimited < LimitError",
    "state": "StateError",
    "session_not_found": "SessionNotFound < StateError",
    "session_closed": "SessionClosed < StateError",
    "already_attached": "AlreadyAttached < StateError",
    "negotiation": "NegotiationError",
    "sdp_rejected": "SdpRejected < NegotiationError",
    "unsupported_codec": "UnsupportedCodec < NegotiationError",
    "ice_failed": "IceFailed < NegotiationError",
    "dtls_failed": "DtlsFailed < NegotiationError",
    "ring": "RingError",
    "stale_epoch": "StaleEpoch < RingError",
    "layout_mismatch": "LayoutMismatch < RingError",
    "ring_closed": "RingClosed < RingError",
    "worker": "WorkerError",
    "worker_died": "WorkerDied < WorkerError",
    "worker_stalled": "WorkerStalled < WorkerError",
    "no_worker": "NoWorker < WorkerError",
    "bot": "BotError",
    "bot_gone": "BotGone < BotError",
    "bot_rejected": "BotRejected < BotError",
}
RETRYABLE = (errors.LimitError, errors.WorkerError, errors.BotError)


@pytest.mark.parametrize("code", TREE)
def test_each_code_of_the_design_has_its_class_in_its_place(code: str) -> None:
    name, _, parent = TREE[code].partition(" < ")

    found = BY_CODE[code]

    assert found is getattr(errors, name)
    assert found.code == code
    assert found.__bases__ == (getattr(errors, parent or "BackbeatError"),)


def test_no_two_classes_share_a_code() -> None:
    def descendants(base: type[BackbeatError]) -> list[type[BackbeatError]]:
        children = base.__subclasses__()
        return children + [inner for child in children for inner in descendants(child)]

    codes = [cls.code for cls in descendants(BackbeatError)]

    assert len(codes) == len(set(codes))
    assert set(codes) < set(BY_CODE)


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_only_limits_workers_and_bots_are_worth_a_retry(code: str) -> None:
    cls = BY_CODE[code]

    assert cls("no").retryable is issubclass(cls, RETRYABLE)


def test_an_error_narrowed_by_code_does_not_change_its_class() -> None:
    narrowed = errors.Overloaded("full", code="shm_full", retryable=False)

    assert (narrowed.code, narrowed.retryable, str(narrowed)) == ("shm_full", False, "full")
    assert (errors.Overloaded.code, errors.Overloaded.retryable) == ("overloaded", True)


@pytest.mark.parametrize("kind", sorted(BY_CODE))
def test_an_error_comes_back_from_the_wire_as_its_own_class(kind: str) -> None:
    error = from_wire("narrowed", kind, "because", not BY_CODE[kind].retryable)

    assert type(error) is BY_CODE[kind]
    assert (error.code, error.message) == ("narrowed", "because")
    assert error.retryable is not BY_CODE[kind].retryable


def test_an_unknown_kind_from_the_wire_becomes_a_plain_error() -> None:
    error = from_wire("from_the_future", "kind_of_the_future", "?", True)

    assert type(error) is BackbeatError
    assert (error.code, error.retryable) == ("from_the_future", True)


def test_an_error_survives_pickling_with_its_code() -> None:
    error = pickle.loads(pickle.dumps(errors.RingError("gone", code="segment_missing")))

    assert type(error) is errors.RingError
    assert (error.code, error.message) == ("segment_missing", "gone")
