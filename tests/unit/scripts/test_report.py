"""Verdicts, ratios and the two renderings of a report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from scripts.benchmarks import report
from scripts.benchmarks.report import Report, Row

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("values", "must", "verdict"),
    [
        ({"p50": 1.0}, {}, ""),
        ({"p50": 1.0}, {"p50": 1.0}, "kept"),
        ({"p50": 1.1}, {"p50": 1.0}, "MISSED"),
        ({"p50": 0.1, "p99": 3.0}, {"p50": 0.2, "p99": 2.0}, "MISSED"),
        ({"p50": 0.1, "p99": 2.0}, {"p50": 0.2, "p99": 2.0}, "kept"),
        ({}, {"p99": 2.0}, "MISSED"),
    ],
)
def test_a_verdict_needs_every_limit(
    values: dict[str, float], must: dict[str, float], verdict: str
) -> None:
    assert Row("x", "ms", values, 1, must).verdict == verdict


def test_a_void_run_has_no_verdict_but_its_reason() -> None:
    assert Row("x", "", {"p50": 0.0}, 1, {"p50": 1.0}, void="callers late").verdict.startswith(
        "VOID"
    )
    assert Row("x", "", {}, 0, {"p50": 1.0}, void="not held: 50 %").verdict == "not held: 50 %"


def test_samples_become_percentiles_and_a_ratio_of_medians() -> None:
    made = Report("t")
    made.add("a", "ms", [1.0, 2.0, 3.0], budget=2.0, peer=[8.0, 8.0])
    row = made.rows[0]
    assert (row.values["p50"], row.values["max"], row.ratio, row.verdict) == (2.0, 3.0, 4.0, "kept")


def test_nothing_measured_is_void() -> None:
    made = Report("t")
    made.add("a", "ms", [], budget=2.0)
    assert made.rows[0].verdict == "VOID: nothing was measured"


def test_markdown_has_a_line_for_each_row_and_note() -> None:
    made = Report("Title", notes=["a note"])
    made.put("pace", "ms", {"p50": 0.05, "p99": 1.5}, 10, must={"p50": 0.2, "p99": 2.0}, ratio=9.96)
    lines = made.markdown().splitlines()
    assert lines[0] == "**Title**"
    assert "| pace, ms | 0.05 |  | 1.5 |  | 10 | p50 0.2, p99 2 | kept | 10.0x |" in lines
    assert "a note  " in lines
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_json_holds_rows_verdicts_machine_and_date(tmp_path: Path) -> None:
    made = Report("t")
    made.put("x", "µs", 95.0, 3, must=90.0)
    report.save_json([made], tmp_path / "deep" / "r.json")
    content = json.loads((tmp_path / "deep" / "r.json").read_text())
    assert content["reports"][0]["rows"][0]["verdict"] == "MISSED"
    assert content["machine"]["cores"]
    assert len(content["date"]) == 10


def test_a_part_that_fails_is_noted_and_the_others_go_on() -> None:
    report = Report("title")

    def fails() -> None:
        raise RuntimeError("no worker\nand its log")

    report.attempt("first", fails)
    report.attempt("second", lambda: report.put("row", "", 1.0, 1))
    first, second = report.rows
    assert (first.verdict, second.name) == (
        "not held: RuntimeError: no worker and its log",
        "row",
    )
    assert report.notes == ["first: RuntimeError: no worker and its log"]
