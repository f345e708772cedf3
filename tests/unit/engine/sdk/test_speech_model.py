"""Play, mark, flush, stall and close in any order: each mark is truthful, no sample goes astray."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.unit.engine.sdk.speech_world import run_case

CASES = 10_000
PARTS = 8
pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("part", range(PARTS))
def test_speech_is_what_the_packets_say(part: int) -> None:
    """The parts differ by chance only, or by their seeds: they share the work among processes."""

    @settings(
        max_examples=CASES // PARTS,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
    )
    @given(script=st.binary(min_size=16, max_size=100))
    def search(script: bytes) -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            run_case(script, monkeypatch)

    if settings.default is not None and settings.default.derandomize:
        search = seed(part)(search)
    search()
