"""When bots heard that callers were gone, as the bench reads it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from scripts.benchmarks import departures

if TYPE_CHECKING:
    from pathlib import Path


def test_each_caller_counts_once_and_from_the_kill_on(tmp_path: Path) -> None:
    told = [(0, 50), (0, 120), (1, 130), (0, 140)]
    lines = [json.dumps({"caller": caller, "ns": ns}) + "\n" for caller, ns in told]
    (tmp_path / "departures-1.jsonl").write_text("".join(lines))
    assert departures.read(tmp_path, 100) == {0: 120, 1: 130}


def test_a_line_that_is_still_being_written_is_left_for_later(tmp_path: Path) -> None:
    departures.note(tmp_path, 3)
    (written,) = tmp_path.glob("departures-*.jsonl")
    with written.open("a") as file:
        file.write('{"caller": 4, "n')
    assert list(departures.read(tmp_path, 0)) == [3]
