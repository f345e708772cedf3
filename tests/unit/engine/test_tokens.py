"""Tokens of WebSocket callers: good once, for a while, and for nobody who guesses."""

from __future__ import annotations

import pytest

from engine.session import Session
from engine.supervisor import WorkerHandle
from engine.tokens import MAX_UNUSED, UNUSED_S, Tokens
from ipc.errors import AuthError


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
    first, second = tokens.issue({"a": 1}), tokens.issue(None)
    assert first != second
    assert len(first) >= 32
    assert tokens.find(first).data == {"a": 1}
    assert code(tokens, "") == "no_token"
    assert code(tokens, first[:-1]) == "bad_token"


def test_one_that_nobody_uses_grows_old(tokens: Tokens, time: Time) -> None:
    token = tokens.issue(1)
    time.now_s += UNUSED_S
    assert tokens.find(token).data == 1
    time.now_s += 1
    assert code(tokens, token) == "bad_token"
    tokens.issue(2)
    assert len(tokens._unused) == 1


def test_a_used_one_lasts_as_long_as_its_session_and_no_longer(tokens: Tokens, time: Time) -> None:
    token = tokens.issue(1)
    ticket = tokens.find(token)
    call = session()
    tokens.use(ticket, call)
    time.now_s += 100 * UNUSED_S
    assert tokens.find(token).session is call
    tokens.ended(ticket)
    assert code(tokens, token) == "bad_token"


def test_one_whose_caller_was_never_in_is_good_again(tokens: Tokens, time: Time) -> None:
    token = tokens.issue(1)
    ticket = tokens.find(token)
    tokens.use(ticket, session())
    tokens.give_back(ticket)
    assert tokens.find(token).session is None
    time.now_s += UNUSED_S + 1
    assert code(tokens, token) == "bad_token"


def test_those_that_nobody_uses_are_bounded(tokens: Tokens) -> None:
    first = tokens.issue(0)
    rest = [tokens.issue(number) for number in range(MAX_UNUSED)]
    assert code(tokens, first) == "bad_token"
    assert tokens.find(rest[0]).data == 0
