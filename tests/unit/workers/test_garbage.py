"""Collections happen by hand, in gaps that are long enough."""

from __future__ import annotations

import gc
import time
import weakref
from typing import TYPE_CHECKING

import pytest

from ipc.clock import NS_PER_MS, NS_PER_S
from workers import garbage as garbage_module
from workers.garbage import (
    APART_NS,
    FULL_NS,
    LAST_RESORT_SESSIONS,
    MAX_RESTING,
    MOST_YOUNG,
    OVERDUE_SESSIONS,
    REST_NS,
    SESSION_NS,
    SHORT_NS,
    YOUNG,
    Garbage,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

GAP_NS = 4 * NS_PER_MS
FITTING = GAP_NS // SESSION_NS - 1  # so many live sessions are looked through in such a gap
BUSY = SHORT_NS // SESSION_NS - 1
CROWD = SHORT_NS // SESSION_NS + 1


class Collector:
    """Stands in for `gc`: a collection of generation g takes `took_ns[g]`."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ran: list[int] = []
        self.young = 0
        self.now_ns = 0
        self.took_ns = {1: 2 * NS_PER_MS, 2: 30 * NS_PER_MS}
        patch.setattr(garbage_module, "gc", self)
        patch.setattr(time, "perf_counter_ns", lambda: self.now_ns)
        self.calls: list[str] = []

    def collect(self, generation: int = 2) -> None:
        self.ran.append(generation)
        self.now_ns += self.took_ns[generation]
        self.young = 0

    def freeze(self) -> None:
        self.calls.append("freeze")

    def disable(self) -> None:
        self.calls.append("disable")

    def get_count(self) -> tuple[int, int, int]:
        return self.young, 0, 0


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    return Collector(monkeypatch)


@pytest.fixture
def garbage(collector: Collector) -> Garbage:
    garbage = Garbage()
    garbage.begin(0)
    collector.ran.clear()
    return garbage


def end(garbage: Garbage, sessions: int) -> None:
    for _ in range(sessions):
        garbage.session_ended()


def test_at_the_beginning_all_modules_are_frozen_and_automatic_collection_ends(
    garbage: Garbage, collector: Collector
) -> None:
    assert collector.calls == ["freeze", "disable"]


# -- the young ----------------------------------------------------------------------------------


def test_few_new_objects_are_not_worth_a_collection(garbage: Garbage, collector: Collector) -> None:
    collector.young = YOUNG
    garbage.collect(NS_PER_S, GAP_NS, 1)
    assert collector.ran == []


def test_a_collection_of_the_young_needs_a_gap_longer_than_the_last_one_took(
    garbage: Garbage, collector: Collector
) -> None:
    for gap_ms, wanted in ((1, 1), (1, 1), (2, 1), (2.1, 2), (1.9, 2), (0, 2)):
        collector.young = YOUNG + 1
        garbage.collect(NS_PER_S, round(gap_ms * NS_PER_MS), 1)
        assert len(collector.ran) == wanted
    assert garbage.collections == 2
    assert garbage.longest_ns == 2 * NS_PER_MS


def test_where_there_is_never_a_gap_the_young_do_not_pile_up(
    garbage: Garbage, collector: Collector
) -> None:
    for collector.young in (MOST_YOUNG, MOST_YOUNG + 1):
        garbage.collect(NS_PER_S, 0, 100)
    assert collector.ran == [1]


# -- everything -----------------------------------------------------------------------------------


def test_while_no_session_ends_nothing_is_looked_through(
    garbage: Garbage, collector: Collector
) -> None:
    garbage.collect(100 * FULL_NS, NS_PER_S, 1)
    assert collector.ran == []


def test_after_a_session_everything_is_looked_through_once_a_minute(
    garbage: Garbage, collector: Collector
) -> None:
    end(garbage, 1)
    garbage.collect(FULL_NS - 1, GAP_NS, 1)
    assert collector.ran == []
    garbage.collect(FULL_NS, GAP_NS, 1)
    garbage.collect(3 * FULL_NS, GAP_NS, 1)
    assert collector.ran == [2], "nobody else has ended"


def test_the_first_time_does_not_take_as_long_as_what_was_done_at_the_start(
    garbage: Garbage, collector: Collector
) -> None:
    """Which went through all modules; they are frozen since."""
    end(garbage, 1)
    garbage.collect(FULL_NS, GAP_NS, FITTING)
    assert collector.ran == [2]


def test_what_it_takes_depends_on_how_many_are_live(garbage: Garbage, collector: Collector) -> None:
    end(garbage, 1)
    garbage.collect(FULL_NS, GAP_NS, FITTING + 2)
    assert collector.ran == [], "it would not fit"
    garbage.collect(FULL_NS, GAP_NS, FITTING)
    assert collector.ran == [2]
    # That took long: for half a millisecond each from now on, and not for more, as it may have
    # been interrupted.
    for minute, sessions, wanted in ((2, 20, 1), (4, 10, 1), (6, 8, 1), (8, 7, 2)):
        end(garbage, 1)
        garbage.collect(minute * FULL_NS, GAP_NS, sessions)
        assert len(collector.ran) == wanted, sessions


def test_when_nobody_is_there_any_gap_is_long_enough_but_there_must_be_one(
    garbage: Garbage, collector: Collector
) -> None:
    end(garbage, 1)
    garbage.collect(FULL_NS, 0, 0)
    assert collector.ran == [], "somebody comes"
    garbage.collect(FULL_NS, 1, 0)
    assert collector.ran == [2]


@pytest.mark.parametrize(
    ("sessions", "most"), [(BUSY, OVERDUE_SESSIONS), (CROWD, LAST_RESORT_SESSIONS)]
)
def test_without_a_gap_it_waits_until_many_have_ended_and_longer_the_longer_it_takes(
    garbage: Garbage, collector: Collector, sessions: int, most: int
) -> None:
    end(garbage, most - 1)
    garbage.collect(2 * FULL_NS, 0, sessions)
    assert collector.ran == []
    end(garbage, 1)
    garbage.collect(2 * FULL_NS, 0, sessions)
    assert collector.ran == [2]


# -- what sessions leave --------------------------------------------------------------------------


class Node:
    """One that refers to itself."""

    def __init__(self) -> None:
        self.self = self


@pytest.fixture
def real_gc() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def remains(count: int) -> tuple[list[Node], list[weakref.ref[Node]]]:
    nodes = [Node() for _ in range(count)]
    return nodes, [weakref.ref(node) for node in nodes]


@pytest.mark.usefixtures("real_gc")
def test_what_a_session_leaves_is_gone_a_few_seconds_later_without_a_collection() -> None:
    garbage = Garbage()
    garbage.begin(0)
    nodes, alive = remains(3)
    garbage.leave(nodes, NS_PER_S)
    del nodes
    garbage.collect(NS_PER_S + REST_NS - 1, GAP_NS, 1)
    garbage.collect(NS_PER_S + REST_NS, APART_NS, 1)
    assert all(one() for one in alive), "it is too early, or the gap too short"
    garbage.collect(NS_PER_S + REST_NS, APART_NS + 1, 1)
    assert not any(one() for one in alive)
    assert garbage.collections == 0


def test_one_session_is_taken_apart_in_a_gap(garbage: Garbage) -> None:
    for _ in range(3):
        garbage.leave([Node()], 0)
    for left in (2, 1, 0, 0):
        garbage.collect(REST_NS, GAP_NS, 1)
        assert len(garbage._resting) == left


def test_where_there_is_never_a_gap_what_sessions_leave_does_not_pile_up(garbage: Garbage) -> None:
    for _ in range(2 * MAX_RESTING):
        garbage.leave([Node()], 0)
        garbage.collect(REST_NS, 0, 100)
    assert len(garbage._resting) == MAX_RESTING


@pytest.mark.usefixtures("real_gc")
def test_what_else_sessions_leave_is_really_collected() -> None:
    garbage = Garbage()
    garbage.begin(0)
    assert not gc.isenabled()
    nodes, alive = remains(YOUNG + 1)
    del nodes
    assert all(one() for one in alive)
    garbage.collect(1, NS_PER_S, 1)
    assert not any(one() for one in alive)
