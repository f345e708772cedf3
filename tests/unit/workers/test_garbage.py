"""Collections happen by hand, in gaps that are long enough."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

import pytest

from ipc.clock import NS_PER_MS, NS_PER_S
from workers import garbage as garbage_module
from workers.garbage import FULL_NS, OVERDUE_SESSIONS, YOUNG, Garbage

if TYPE_CHECKING:
    from collections.abc import Iterator


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


def test_at_the_beginning_all_modules_are_frozen_and_automatic_collection_ends(
    garbage: Garbage, collector: Collector
) -> None:
    assert collector.calls == ["freeze", "disable"]


def test_few_new_objects_are_not_worth_a_collection(garbage: Garbage, collector: Collector) -> None:
    collector.young = YOUNG
    garbage.collect(NS_PER_S, 4 * NS_PER_MS, idle=False)
    assert collector.ran == []


def test_a_collection_needs_a_gap_longer_than_the_last_one_took(
    garbage: Garbage, collector: Collector
) -> None:
    for gap_ms, wanted in ((1, 1), (1, 1), (2, 1), (2.1, 2), (1.9, 2)):
        collector.young = YOUNG + 1
        garbage.collect(NS_PER_S, round(gap_ms * NS_PER_MS), idle=False)
        assert len(collector.ran) == wanted
    assert garbage.collections == 2
    assert garbage.longest_ns == 2 * NS_PER_MS


def test_while_no_session_ends_nothing_is_looked_through(
    garbage: Garbage, collector: Collector
) -> None:
    garbage.collect(100 * FULL_NS, NS_PER_S, idle=False)
    assert collector.ran == []


def test_after_a_session_everything_is_looked_through_once_a_minute_if_a_gap_allows(
    garbage: Garbage, collector: Collector
) -> None:
    garbage.session_ended()
    garbage.collect(FULL_NS - 1, 4 * NS_PER_MS, idle=False)
    assert collector.ran == []
    garbage.collect(FULL_NS, 29 * NS_PER_MS, idle=False)
    assert collector.ran == [], "the first one, at the start, took longer"
    garbage.collect(FULL_NS, 31 * NS_PER_MS, idle=False)
    garbage.collect(3 * FULL_NS, NS_PER_S, idle=False)
    assert collector.ran == [2], "nobody else has ended"
    garbage.session_ended()
    garbage.collect(4 * FULL_NS, 20 * NS_PER_MS, idle=False)
    assert collector.ran == [2]
    garbage.collect(4 * FULL_NS, 31 * NS_PER_MS, idle=False)
    assert collector.ran == [2, 2]


def test_a_worker_without_gaps_collects_all_the_same_before_it_is_too_late(
    garbage: Garbage, collector: Collector
) -> None:
    for _ in range(OVERDUE_SESSIONS - 1):
        garbage.session_ended()
    garbage.collect(2 * FULL_NS, NS_PER_MS, idle=False)
    assert collector.ran == []
    garbage.session_ended()
    garbage.collect(2 * FULL_NS, NS_PER_MS, idle=False)
    assert collector.ran == [2]


def test_when_nobody_is_there_to_be_disturbed_no_gap_is_needed(
    garbage: Garbage, collector: Collector
) -> None:
    garbage.session_ended()
    garbage.collect(FULL_NS, 0, idle=True)
    assert collector.ran == [2]


@pytest.fixture
def real_gc() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.usefixtures("real_gc")
def test_what_sessions_leave_behind_is_really_collected() -> None:
    class Node:
        alive = 0

        def __init__(self) -> None:
            self.self = self
            Node.alive += 1

        def __del__(self) -> None:
            Node.alive -= 1

    garbage = Garbage()
    garbage.begin(0)
    assert not gc.isenabled()
    for _ in range(YOUNG + 1):
        Node()
    assert Node.alive > YOUNG - 1
    garbage.collect(1, NS_PER_S, idle=False)
    assert Node.alive == 0
