"""Names that were given out: a flood of them is refused, and takes nothing from anybody."""

from __future__ import annotations

import pytest

from engine.issued import Issued
from ipc.errors import LimitError, RateLimited

KEPT_S, LASTS_S = 10.0, 100.0


class Time:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def issued(time: Time) -> Issued[int]:
    return Issued(4, 2, kept_s=KEPT_S, lasts_s=LASTS_S, now_s=time)


def test_a_name_is_long_and_stands_for_its_value_until_it_is_taken(issued: Issued[int]) -> None:
    name = issued.add("a", 1)
    assert len(name) >= 32
    assert issued.get(name) == 1
    assert issued.get("other") is None
    assert issued.take(name) is not None
    assert issued.get(name) is None
    assert issued.take(name) is None
    assert len(issued) == 0


def test_a_client_with_its_share_is_refused_until_it_uses_one(issued: Issued[int]) -> None:
    first = issued.add("a", 1)
    issued.add("a", 2)
    with pytest.raises(RateLimited) as refused:
        issued.add("a", 3)
    assert refused.value.code == "too_many_tokens"
    assert refused.value.retryable
    issued.add("b", 4)
    issued.take(first)
    issued.add("a", 3)


def test_when_all_is_full_a_new_client_is_refused_and_no_young_name_goes(
    issued: Issued[int], time: Time
) -> None:
    names = [issued.add(client, 1) for client in "aabb"]
    time.now_s += KEPT_S
    with pytest.raises(LimitError) as refused:
        issued.add("c", 1)
    assert refused.value.code == "too_many_tokens"
    assert all(issued.get(name) for name in names)


def test_what_is_no_longer_young_makes_room_the_oldest_first(
    issued: Issued[int], time: Time
) -> None:
    names = [issued.add(client, 1) for client in "abab"]
    time.now_s += KEPT_S + 1
    issued.add("b", 1)
    assert [issued.get(name) for name in names] == [1, None, 1, 1], "its own"
    issued.add("c", 1)
    assert [issued.get(name) for name in names] == [None, None, 1, 1], "the oldest of all"


def test_old_names_are_good_for_nothing_and_take_no_room(issued: Issued[int], time: Time) -> None:
    names = [issued.add("a", 1), issued.add("a", 1)]
    time.now_s += LASTS_S + 1
    assert issued.get(names[0]) is None
    issued.add("a", 1)
    assert len(issued) == 1


def test_what_is_put_back_is_as_old_as_before_and_counts_again(
    issued: Issued[int], time: Time
) -> None:
    name = issued.add("a", 1)
    entry = issued.take(name)
    assert entry is not None
    time.now_s += KEPT_S
    issued.add("a", 2)
    issued.put_back(name, entry)
    with pytest.raises(RateLimited):
        issued.add("a", 3)
    time.now_s += LASTS_S - KEPT_S + 1
    assert issued.get(name) is None


@pytest.mark.parametrize(
    ("one", "same", "another"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("", "", "testclient"),
    ],
)
def test_an_ipv6_network_is_one_client(
    issued: Issued[int], one: str, same: str, another: str
) -> None:
    issued.add(one, 1)
    issued.add(same, 2)
    with pytest.raises(RateLimited):
        issued.add(one, 3)
    issued.add(another, 4)
