"""The beat as a pure function of `now`: who sends when, in which order, and what a stall costs."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.clock import NS_PER_MS
from tests.fakes.paced import BEGIN_NS, Fake, pacer_with, run_for
from workers.pacer import FRAME_NS, MAX_BURST_FRAMES, Paced, Pacer

# -- slots --------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [4, 10])
@pytest.mark.parametrize("count", [1, 4, 7, 10, 40])
def test_sessions_spread_evenly_over_the_slots(slots: int, count: int) -> None:
    sessions = [Fake() for _ in range(count)]
    pacer = pacer_with(*sessions, slots=slots)
    run_for(pacer, 1)
    times = [session.sent_ns for session in sessions]
    assert all(len(sent) == 1 for sent in times)
    starts = [sent[0] for sent in times]
    loads = [starts.count(BEGIN_NS + (slot + 1) * FRAME_NS // slots) for slot in range(slots)]
    assert sum(loads) == count
    assert max(loads) - min(loads) <= 1


@pytest.mark.parametrize(
    ("count", "wakes"), [(0, 1), (1, 5), (99, 5), (101, 6), (105, 10), (140, 10)]
)
def test_few_sessions_wake_the_worker_half_as_often_as_a_crowd(count: int, wakes: int) -> None:
    pacer = pacer_with(*(Fake() for _ in range(count)), slots=10, stride=2)
    pacer.run(pacer.due_ns)
    before = pacer.ticks
    run_for(pacer, 1)
    assert pacer.ticks - before == wakes


def test_nobody_changes_place_when_it_gets_crowded() -> None:
    first = Fake()
    pacer = pacer_with(first, *(Fake() for _ in range(99)), slots=10, stride=2)
    run_for(pacer, 2)
    crowd = [Fake() for _ in range(150)]
    for session in crowd:
        pacer.add(session)
    run_for(pacer, 3)
    assert {later - earlier for earlier, later in pairwise(first.sent_ns)} == {FRAME_NS}
    starts = [session.sent_ns[-1] % FRAME_NS for session in crowd]
    assert len(set(starts)) == 10
    for _ in range(50):
        pacer.remove(crowd.pop())
    run_for(pacer, 3)
    assert {later - earlier for earlier, later in pairwise(first.sent_ns)} == {FRAME_NS}


def test_a_slot_that_was_left_is_filled_next() -> None:
    sessions = [Fake() for _ in range(8)]
    pacer = pacer_with(*sessions)
    pacer.remove(sessions[2])
    newcomer = Fake()
    pacer.add(newcomer)
    run_for(pacer, 1)
    assert newcomer.sent_ns == sessions[6].sent_ns
    assert sessions[2].calls == []


def test_a_slot_sends_its_own_and_then_encodes_the_next_ones() -> None:
    log: list[tuple[str, Fake]] = []
    sessions = [Fake(log) for _ in range(8)]
    pacer = pacer_with(*sessions)
    pacer.run(pacer.due_ns)
    assert log == [
        ("send", sessions[0]),
        ("send", sessions[4]),
        ("encode", sessions[1]),
        ("encode", sessions[5]),
        ("settle", sessions[0]),
        ("settle", sessions[4]),
    ]


def test_a_packet_is_encoded_exactly_one_slot_before_it_is_sent() -> None:
    session = Fake()
    pacer = pacer_with(Fake(), Fake(), session)
    pacer.run(pacer.due_ns)
    assert session.calls == []
    pacer.run(pacer.due_ns)
    assert session.calls == ["encode"]
    pacer.run(pacer.due_ns)
    assert session.calls == ["encode", "send"]


def test_one_slot_still_sends_before_it_encodes() -> None:
    session = Fake()
    pacer = pacer_with(session, slots=1)
    run_for(pacer, 2)
    assert session.calls == ["send", "encode", "send", "encode"]


def test_nothing_runs_before_it_is_due() -> None:
    session = Fake()
    pacer = pacer_with(session)
    assert pacer.run(BEGIN_NS + 5 * NS_PER_MS - 1) == BEGIN_NS + 5 * NS_PER_MS
    assert (session.calls, pacer.ticks) == ([], 0)
    assert pacer.run(BEGIN_NS + 5 * NS_PER_MS) == BEGIN_NS + 10 * NS_PER_MS
    assert (session.calls, pacer.ticks) == (["send"], 1)


def test_the_session_hears_the_time_of_the_run_and_not_of_the_slot() -> None:
    session = Fake()
    pacer = pacer_with(session)
    pacer.run(pacer.due_ns + 123)
    assert session.sent_ns == [BEGIN_NS + 5 * NS_PER_MS + 123]


def test_a_frame_begins_once_in_every_four_slots() -> None:
    pacer = pacer_with(Fake())
    seen = []
    for _ in range(8):
        seen.append(pacer.at_frame)
        pacer.run(pacer.due_ns)
    assert seen == [True, False, False, False] * 2


# -- any schedule -------------------------------------------------------------------------


def dues(place: int, slots: int, now_ns: int) -> int:
    """How often the sessions of slot `place` are due from the beginning until `now_ns`."""
    first = BEGIN_NS + (place + 1) * FRAME_NS // slots
    return 0 if now_ns < first else (now_ns - first) // FRAME_NS + 1


GAPS_NS = st.lists(
    st.one_of(
        st.integers(0, 25 * NS_PER_MS),
        st.integers(0, 300 * NS_PER_MS),
        st.integers(0, 80).map(lambda quarters: quarters * 5 * NS_PER_MS),
    ),
    max_size=60,
)


@given(GAPS_NS, st.integers(0, 9), st.sampled_from([4, 10]))
def test_every_frame_is_sent_or_told_as_missed(gaps: list[int], count: int, slots: int) -> None:
    sessions = [Fake() for _ in range(count)]
    pacer = pacer_with(*sessions, slots=slots)
    now_ns = BEGIN_NS
    for gap in gaps:
        now_ns += gap
        before = [len(session.sent_ns) for session in sessions]
        due_ns = pacer.run(now_ns)
        assert now_ns < due_ns <= now_ns + (pacer.slot_ns if count else FRAME_NS)
        for index, session in enumerate(sessions):
            assert len(session.sent_ns) - before[index] <= MAX_BURST_FRAMES
            sent = len(session.sent_ns)
            assert sent + session.missed == dues(index % slots, slots, now_ns)
            assert session.missed == pacer.missed_frames
    for session in sessions:
        turns = [call for call in session.calls if call != "miss"]
        assert all(first != second for first, second in pairwise(turns))


@given(st.lists(st.integers(0, 40 * NS_PER_MS - 1), max_size=60))
def test_delays_of_less_than_two_frames_lose_nothing(delays: list[int]) -> None:
    sessions = [Fake() for _ in range(5)]
    pacer = pacer_with(*sessions)
    for delay in delays:
        now_ns = pacer.due_ns + delay
        pacer.run(now_ns)
        for index, session in enumerate(sessions):
            assert len(session.sent_ns) == dues(index % 4, 4, now_ns)
    assert pacer.missed_frames == 0
    assert all(session.missed == 0 for session in sessions)


@given(st.integers(2 * FRAME_NS, 5_000 * FRAME_NS))
def test_a_stall_is_given_up_to_at_least_one_and_at_most_two_frames(late_ns: int) -> None:
    sessions = [Fake() for _ in range(4)]
    pacer = pacer_with(*sessions)
    pacer.run(pacer.due_ns + late_ns)
    assert all(1 <= len(session.sent_ns) <= MAX_BURST_FRAMES for session in sessions)
    assert [session.calls.count("miss") for session in sessions] == [1] * 4
    assert pacer.missed_frames == late_ns // FRAME_NS - 1


def test_the_grid_stays_where_it_was_after_a_stall() -> None:
    pacer = pacer_with(Fake())
    pacer.run(BEGIN_NS + 1_234 * NS_PER_MS)
    assert (pacer.due_ns - BEGIN_NS) % pacer.slot_ns == 0


def test_the_missed_frames_are_told_before_what_is_sent_late() -> None:
    session = Fake()
    pacer = pacer_with(session)
    pacer.run(pacer.due_ns + 5 * FRAME_NS)
    assert session.calls[:2] == ["miss", "send"]
    assert session.missed == 4


# -- sessions that fail, come and go ------------------------------------------------------


@pytest.mark.parametrize("fails_at", ["send", "encode", "miss", "settle"])
def test_a_failing_session_goes_and_the_others_go_on(fails_at: str) -> None:
    reported: list[Paced] = []
    bad = Fake(fails_at=fails_at)
    sessions = [Fake(), bad, Fake()]
    pacer = Pacer(BEGIN_NS, slots=4, stride=1, on_fault=reported.append)
    for session in sessions:
        for _ in range(3):
            pacer.add(Fake())
        pacer.add(session)  # all three in one slot
    pacer.run(pacer.due_ns + 3 * FRAME_NS)
    run_for(pacer, 3)
    assert reported == [bad]
    assert bad.calls.count(fails_at) == 1
    for good in (sessions[0], sessions[2]):
        assert len(good.sent_ns) + good.missed == dues(3, 4, pacer.due_ns - pacer.slot_ns)
        assert good.missed == 2
    assert sessions[0].sent_ns == sessions[2].sent_ns


def test_the_fault_is_reported_in_the_handler_of_its_exception() -> None:
    seen: list[str] = []
    pacer = pacer_with(
        Fake(fails_at="send"), on_fault=lambda _paced: seen.append(str(sys.exception()))
    )
    run_for(pacer, 2)
    assert seen == ["send"]


def test_a_failed_session_may_be_removed_by_its_report_and_added_again() -> None:
    session = Fake(fails_at="send")
    pacer = Pacer(BEGIN_NS, on_fault=lambda paced: pacer.remove(paced))
    pacer.add(session)
    run_for(pacer, 2)
    assert session.calls == ["send"]
    session.fails_at = ""
    pacer.add(session)
    run_for(pacer, 2)
    assert session.calls.count("send") == 3


def test_what_failed_or_left_is_not_settled() -> None:
    class Leaver(Fake):
        def send(self, now_ns: int) -> None:
            super().send(now_ns)
            pacer.remove(self)

    reported: list[Paced] = []
    leaver, bad, good = Leaver(), Fake(fails_at="send"), Fake()
    pacer = pacer_with(leaver, bad, good, slots=1, on_fault=reported.append)
    pacer.run(pacer.due_ns)
    assert [len(session.settled_ns) for session in (leaver, bad, good)] == [0, 0, 1]
    assert reported == [bad]


def test_removing_what_is_not_there_is_harmless() -> None:
    stays = Fake()
    pacer = pacer_with(stays)
    pacer.remove(Fake())
    gone = Fake()
    pacer.add(gone)
    pacer.remove(gone)
    pacer.remove(gone)
    run_for(pacer, 2)
    assert (gone.calls, stays.calls.count("send")) == ([], 2)


def test_a_session_that_leaves_while_it_sends_takes_no_turn_from_its_neighbour() -> None:
    class Leaver(Fake):
        def send(self, now_ns: int) -> None:
            super().send(now_ns)
            pacer.remove(self)

    leaver, neighbour = Leaver(), Fake()
    pacer = pacer_with(leaver, Fake(), Fake(), Fake(), neighbour)
    run_for(pacer, 3)
    assert len(leaver.sent_ns) == 1
    assert len(neighbour.sent_ns) == 3


def test_a_session_that_leaves_and_fails_is_reported_and_the_beat_goes_on() -> None:
    class Leaver(Fake):
        def send(self, now_ns: int) -> None:
            pacer.remove(self)
            super().send(now_ns)

    reported: list[Paced] = []
    leaver, neighbour = Leaver(fails_at="send"), Fake()
    pacer = pacer_with(leaver, Fake(), Fake(), Fake(), neighbour, on_fault=reported.append)
    run_for(pacer, 3)
    assert reported == [leaver]
    assert len(neighbour.sent_ns) == 3


def test_a_session_that_comes_while_another_sends_waits_for_its_turn() -> None:
    newcomer = Fake()

    class Inviter(Fake):
        def send(self, now_ns: int) -> None:
            super().send(now_ns)
            if not newcomer.calls and len(self.sent_ns) == 1:
                pacer.add(newcomer)

    pacer = pacer_with(Inviter(), slots=1)
    pacer.run(pacer.due_ns)
    assert newcomer.calls == ["encode"]
    run_for(pacer, 1)
    assert newcomer.calls == ["encode", "send", "encode"]


# -- counters -----------------------------------------------------------------------------


def test_lateness_is_the_worst_since_it_was_last_taken() -> None:
    pacer = pacer_with()
    for late_ns in (0, 700, 300):
        pacer.run(pacer.due_ns + late_ns)
    assert pacer.late_ns == 700
    pacer.late_ns = 0
    pacer.run(pacer.due_ns + 200)
    assert pacer.late_ns == 200
    pacer.run(pacer.due_ns - 1)
    assert pacer.late_ns == 200


def test_lateness_tells_the_whole_of_a_stall() -> None:
    pacer = pacer_with()
    pacer.run(pacer.due_ns + 7 * FRAME_NS)
    assert pacer.late_ns == 7 * FRAME_NS


def test_ticks_count_the_slots_that_ran() -> None:
    pacer = pacer_with(Fake())
    run_for(pacer, 3)
    assert pacer.ticks == 12
    pacer.run(pacer.due_ns + 2 * pacer.slot_ns)
    assert pacer.ticks == 15


# -- rest ---------------------------------------------------------------------------------


def test_only_a_pacer_without_sessions_sleeps_through_slots() -> None:
    pacer = pacer_with()
    due_ns = pacer.due_ns
    pacer.rest(due_ns - 1)
    assert pacer.due_ns == due_ns
    pacer.rest(due_ns + 10 * FRAME_NS)
    assert pacer.due_ns == due_ns + 10 * FRAME_NS
    busy = pacer_with(Fake())
    busy.rest(due_ns + 10 * FRAME_NS)
    assert busy.due_ns == due_ns


def test_the_first_who_comes_is_not_kept_waiting_and_those_there_are_not_disturbed() -> None:
    session = Fake()
    pacer = pacer_with()
    pacer.rest(pacer.due_ns + 10 * FRAME_NS)
    now_ns = BEGIN_NS + 3 * FRAME_NS + 1
    pacer.wake(now_ns)
    pacer.add(session)
    assert pacer.due_ns == now_ns + pacer.slot_ns
    run_for(pacer, 1)
    due_ns = pacer.due_ns
    pacer.wake(due_ns - 2 * pacer.slot_ns)
    assert pacer.due_ns == due_ns
    assert session.sent_ns == [now_ns + pacer.slot_ns]
    assert (pacer.missed_frames, session.missed) == (0, 0)
