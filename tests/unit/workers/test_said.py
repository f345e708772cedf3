"""What a caller says reaches the engine in order, and so much of it a beat."""

from __future__ import annotations

import pytest

from workers.said import MAX_LAST, MAX_WAITING, MAX_WAITING_BYTES, SHARE, SHARE_BYTES, Said

pytestmark = pytest.mark.unit


class World:
    def __init__(self) -> None:
        self.said = Said()
        self.told: list[int] = []

    def say(self, *numbers: int, size: int = 10) -> list[bool]:
        return [self.said.add(lambda n=n: self.told.append(n), size) for n in numbers]  # type: ignore[misc]


@pytest.fixture
def world() -> World:
    return World()


def test_a_conversation_is_told_at_once(world: World) -> None:
    for number in range(10 * SHARE):
        assert world.say(number) == [True]
        assert world.told[-1] == number
        world.said.beat()
    assert not world.said


def test_more_than_a_share_waits_for_the_next_beats_and_keeps_its_order(world: World) -> None:
    assert all(world.say(*range(3 * SHARE)))
    assert world.told == [*range(SHARE)]
    world.said.beat()
    assert world.told == [*range(2 * SHARE)]
    world.say(3 * SHARE)  # behind what waits
    world.said.beat()
    world.said.beat()
    assert world.told == [*range(3 * SHARE + 1)]
    assert not world.said


def test_long_messages_use_a_share_up_by_their_size(world: World) -> None:
    world.say(1, 2, 3, size=SHARE_BYTES)
    assert world.told == [1]
    world.said.beat()
    assert world.told == [1, 2]


@pytest.mark.parametrize(
    ("size", "most"), [(10, MAX_WAITING), (SHARE_BYTES, MAX_WAITING_BYTES // SHARE_BYTES)]
)
def test_what_waits_is_bounded_by_number_and_size(world: World, size: int, most: int) -> None:
    taken = world.say(*range(2 * MAX_WAITING), size=size)
    now = len(world.told)
    assert taken == [True] * (now + most) + [False] * (2 * MAX_WAITING - now - most)
    assert len(world.said) == most
    world.said.beat()
    assert world.say(0, size=size) == [True]


def test_the_last_words_are_told_at_the_end_as_far_as_there_is_time(world: World) -> None:
    world.say(*range(SHARE + 3))
    assert world.said.end() == 0
    assert world.told == [*range(SHARE + 3)]
    world.said.beat()
    world.say(*range(SHARE + MAX_LAST + 5))
    assert world.said.end() == 5
    assert not world.said
