"""Tokens of WebSocket callers: good once, for a while, and for nobody who guesses."""

from __future__ import annotations

import pytest

from engine.session import Session
from engine.supervisor import WorkerHandle
from engine.tokens import MAX_UNUSED_OF_ONE, UNUSED_S, Tokens
from ipc.errors import AuthError, RateLimited


class Time:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def tokens(time: Time) -> Tokens:
    return Tokens(time)


def session() -> Session:
    return Session("s_1", "pc_1", "echo", WorkerHandle("w1", ""), None)


def code(tokens: Tokens, token: str) -> str:
    with pytest.raises(AuthError) as refused:
        tokens.find(token)
    return refused.value.code


def test_a_token_stands_for_the_data_of_its_start(tokens: Tokens) -> None:
    first, second = tokens.issue({"a": 1}, "::1"), tokens.issue(None, "::1")
    assert first != second
    assert len(first) >= 32
    assert tokens.find(first).data == {"a": 1}
    assert code(tokens, "") == "no_token"
    assert code(tokens, first[:-1]) == "bad_token"


def test_one_that_nobody_uses_grows_old(tokens: Tokens, time: Time) -> None:
    token = tokens.issue(1, "::1")
    time.now_s += UNUSED_S
    assert tokens.find(token).data == 1
    time.now_s += 1
    assert code(tokens, token) == "bad_token"
    tokens.issue(2, "::1")
    assert len(tokens._unused) == 1


def test_a_used_one_lasts_as_long_as_its_session_and_no_longer(tokens: Tokens, time: Time) -> None:
    token = tokens.issue(1, "::1")
    ticket = tokens.find(token)
    call = session()
    tokens.use(ticket, call)
    time.now_s += 100 * UNUSED_S
    assert tokens.find(token).session is call
    tokens.ended(ticket)
    assert code(tokens, token) == "bad_token"


def test_one_whose_caller_was_never_in_is_good_again(tokens: Tokens, time: Time) -> None:
    token = tokens.issue(1, "::1")
    ticket = tokens.find(token)
    tokens.use(ticket, session())
    tokens.give_back(ticket)
    assert tokens.find(token).session is None
    time.now_s += UNUSED_S + 1
    assert code(tokens, token) == "bad_token"


def test_one_that_was_given_back_is_as_old_as_before(tokens: Tokens, time: Time) -> None:
    token = tokens.issue(1, "::1")
    time.now_s += UNUSED_S - 1
    tokens.use(tokens.find(token), session())
    tokens.give_back(tokens.find(token))
    assert tokens.find(token).data == 1
    time.now_s += 2
    assert code(tokens, token) == "bad_token"
    tokens.issue(2, "::1")
    assert len(tokens._unused) == 1


def test_who_asks_for_many_is_refused_and_nobody_loses_one(tokens: Tokens) -> None:
    honest = tokens.issue("honest", "192.0.2.1")
    for number in range(MAX_UNUSED_OF_ONE):
        tokens.issue(number, "192.0.2.2")
    with pytest.raises(RateLimited) as refused:
        tokens.issue(None, "192.0.2.2")
    assert refused.value.code == "too_many_tokens"
    assert tokens.find(honest).data == "honest"
    tokens.issue(None, "192.0.2.3")
