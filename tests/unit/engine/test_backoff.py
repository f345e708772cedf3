"""A process that keeps ending is started again ever more slowly, one that was well at once."""

from __future__ import annotations

from engine.backoff import HIGHEST_S, LOWEST_S, WELL_AFTER_S, Backoff


def test_the_wait_doubles_with_every_short_life_up_to_a_limit() -> None:
    backoff = Backoff()
    waits = [backoff.ended(0) for _ in range(12)]
    assert waits[:4] == [LOWEST_S, 2 * LOWEST_S, 4 * LOWEST_S, 8 * LOWEST_S]
    assert waits[-1] == HIGHEST_S
    assert waits == sorted(waits)


def test_a_long_life_begins_the_waiting_anew() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.ended(1)
    assert backoff.ended(WELL_AFTER_S + 1) == 0
    assert backoff.ended(0) == LOWEST_S


def test_a_process_that_never_works_never_overflows_the_wait() -> None:
    backoff = Backoff()
    backoff.failures = 10**6
    assert backoff.ended(0) == HIGHEST_S
