"""The load test: what it refuses, what it makes of what it saw, and when it fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from scripts.benchmarks import wire
from scripts.load import chart, result
from scripts.load.__main__ import cli
from scripts.load.result import Call, Histogram, Seen, Thresholds, judge
from scripts.load.run import MAX_NOTES, Plan
from scripts.load.target import Target, WrongUse, advice, explain

if TYPE_CHECKING:
    from pathlib import Path

FRAME_NS = 20_000_000
GOOD = Call(5.0, 40.0, 60.0)


def stream(caller: int, packets: int, *, lost: int = 0, late_ms: float = 0) -> wire.Stream:
    """20 ms apart; `lost` numbers are missing in the middle, every tenth packet is late."""
    numbers = np.arange(packets + lost, dtype=np.int64)
    numbers = np.delete(numbers, slice(5, 5 + lost))
    arrival = 10**18 + numbers * FRAME_NS
    arrival[::10] += round(late_ms * 1e6)
    return wire.Stream(caller, numbers, numbers * 960, arrival, np.full(packets, 100, np.int64))


def seen(*streams: wire.Stream, mode: str = "both", **changes: Any) -> Seen:
    """2 s of that many callers, one window."""
    made = Seen(mode, changes.pop("asked", len(streams)))
    made.calls = changes.pop("calls", [GOOD] * len(streams))
    made.add_window(list(streams), 2.0, np.full(100, 50_000, np.int64))
    return made


# -- what may be loaded -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:7860", "http://127.0.0.1:7860"),
        ("http://127.0.0.1:7860/", "http://127.0.0.1:7860"),
        ("http://localhost:7860/api/offer", "http://localhost:7860"),
        ("https://[::1]:1/sub/api/offer/", "https://[::1]:1/sub"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://bot.localhost:80", "http://bot.localhost:80"),
    ],
)
def test_servers_on_this_machine_are_taken(url: str, base: str) -> None:
    assert Target.parse(url) == Target(base, "127.0.0.1")


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1:7860",
        "http://0.0.0.0:7860",
        "http://example.invalid",
        "http://127.0.0.1.example.invalid",
        "http://localhost.example.invalid",
        "http://127.0.0.1@192.0.2.1/",
        "http://2130706433/",
    ],
)
def test_other_hosts_are_refused_by_their_names_alone(url: str) -> None:
    with pytest.raises(WrongUse, match="--allow-remote"):
        Target.parse(url)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:7860", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999", "x" * 99,
            "http://127.0.0.1/?token=1"],
)  # fmt: skip
def test_what_is_no_server_is_wrong_use(url: str) -> None:
    with pytest.raises(WrongUse):
        Target.parse(url, allow_remote=True)


def test_a_remote_server_gets_media_from_the_address_that_leads_there() -> None:
    assert Target.parse("http://127.0.0.2:9", allow_remote=True).local_address == "127.0.0.1"


@pytest.mark.parametrize(
    "arguments",
    [
        ["http://192.0.2.1"],
        ["http://127.0.0.1:9", "--calls", "501"],
        ["http://127.0.0.1:9", "--calls", "0"],
        ["http://127.0.0.1:9", "--duration", "3601"],
        ["http://127.0.0.1:9", "--mode", "shout"],
        ["http://127.0.0.1:9", "--min-received-percent", "101"],
        ["http://127.0.0.1:9", "--mode", "talk", "--min-received-percent", "99"],
        [],
    ],
)
def test_wrong_use_ends_with_two_before_anything_is_sent(arguments: list[str]) -> None:
    assert CliRunner().invoke(cli, arguments).exit_code == 2


@given(st.integers(1, 500), st.floats(1, 3600), st.sampled_from(["talk", "echo"]))
def test_no_window_holds_more_packets_than_can_be_noted(
    calls: int, duration_s: float, mode: Any
) -> None:
    plan = Plan(
        target=Target("http://127.0.0.1"), calls=calls, ramp_s=0, duration_s=duration_s, mode=mode
    )
    assert 0 < plan.window_s <= duration_s
    assert plan.window_s * calls * 50 <= MAX_NOTES


# -- what to do about failures ------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("ConnectError: All connection attempts failed", "start the server"),
        ('HTTP 503: {"code":"bots_busy"}', "--bots N"),
        ('HTTP 503: {"code":"no_bot","detail":"x"}', "--bot NAME"),
        ('HTTP 503: {"code":"overloaded","detail":"x"}', "more cores"),
        ("HTTP 404: ", "root or prefix"),
        ("HTTP 500: Internal Server Error", "log"),
        ("HTTP 422: x", "pc_id"),
        ("ReadTimeout: ", "--ramp"),
        ("ConnectionError: it did not connect in 15 s", "UDP"),
        ("ConnectionError: no SDP in the answer: 'hello'", "SmallWebRTC"),
    ],
)
def test_every_known_failure_says_what_to_do_next(error: str, says: str) -> None:
    assert says in advice(error)


def test_failures_are_told_by_how_often_they_were() -> None:
    lines = explain(["HTTP 404: a"] * 2 + ["odd"] * 5)
    assert lines[0] == "5x odd"
    assert lines[1].startswith("2x HTTP 404: a -> ")


# -- numbers ------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1_500), min_size=1, max_size=200))
def test_percentiles_are_those_of_the_values_to_a_step(values: list[float]) -> None:
    histogram = Histogram()
    for part in (values[: len(values) // 2], values[len(values) // 2 :]):
        histogram.add(part)
    assert len(histogram) == len(values)
    assert histogram.max == max(values)
    for name, percent in result.STATISTICS.items():
        exact = float(np.percentile(values, percent, method="inverted_cdf"))
        found = histogram.statistics[name]
        assert found == pytest.approx(min(exact, 1_000), abs=0.0101)


def test_nothing_has_no_percentiles() -> None:
    assert Histogram().statistics == {}


def test_windows_add_up() -> None:
    made = seen(stream(0, 100), stream(1, 90, lost=10))
    made.add_window([stream(0, 100)], 2.0, np.zeros(1, np.int64))
    assert (made.packets, made.lost, made.seconds) == (290, 10, 4.0)
    assert made.received_percent == (45.0, 72.5)
    assert [round(percent) for _, percent in made.timeline] == [95, 50]


# -- the verdict --------------------------------------------------------------------------


def test_a_good_run_breaks_no_threshold() -> None:
    limits = Thresholds(
        max_setup_ms=100, max_late_percent=1, min_received_percent=99, max_lost_percent=0,
        max_interval_error_ms=1,
    )  # fmt: skip
    assert judge(seen(stream(0, 100), stream(1, 100)), limits) == []


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Thresholds(max_setup_ms=59), "set-up"),
        (Thresholds(max_late_percent=2), "late packets"),
        (Thresholds(min_received_percent=95), "worst caller received 90.0 %"),
        (Thresholds(max_lost_percent=1), "lost packets"),
        (Thresholds(max_interval_error_ms=1), "interval error"),
        (Thresholds(max_own_late_ms=0.01), "overloaded here"),
    ],
)
def test_each_threshold_is_judged_by_itself(limits: Thresholds, says: str) -> None:
    (line,) = judge(seen(stream(0, 100), stream(1, 90, lost=10, late_ms=9)), limits)
    assert says in line


def test_failed_calls_are_a_failure_unless_allowed() -> None:
    made = seen(stream(0, 100), asked=2, calls=[GOOD, Call(error="HTTP 503: x")])
    (line,) = judge(made, Thresholds())
    assert "failed calls: 50 %" in line
    assert judge(made, Thresholds(max_failed_percent=50)) == []


def test_a_silent_server_is_a_failure_unless_nobody_listens() -> None:
    assert "no audio" in judge(seen(calls=[GOOD], asked=1), Thresholds())[0]
    left = seen(calls=[GOOD, GOOD], asked=2)
    left.ended = 2
    failed, why = judge(left, Thresholds())
    assert "failed calls: 100 %" in failed
    assert "2 of 2 calls were ended by the other side" in why
    assert judge(seen(calls=[GOOD], asked=1, mode="talk"), Thresholds()) == []


def test_an_echo_that_was_asked_for_and_not_heard_is_a_failure() -> None:
    made = seen(stream(0, 100), mode="echo")
    assert "nothing was measured" in judge(made, Thresholds(max_echo_ms=100))[0]
    made.echo_ms.add([30.0, 90.0])
    made.echo_packets = 3
    assert "67% found" in judge(made, Thresholds(max_echo_ms=100))[0]
    made.echo_packets = 2
    assert judge(made, Thresholds(max_echo_ms=100)) == []
    assert judge(made, Thresholds(max_echo_ms=50))


def test_the_report_and_its_json_tell_the_same(tmp_path: Path) -> None:
    made = seen(stream(0, 100), stream(1, 90, lost=10), asked=3,
                calls=[GOOD, GOOD, Call(error="HTTP 404: x")])  # fmt: skip
    limits = Thresholds(min_received_percent=95)
    table = result.report(made, limits, "title")
    rows = {row.name: row for row in table.rows}
    assert rows["failed calls"].verdict == "MISSED"
    assert rows["offer to first audio"].values["p50"] == 60
    assert rows["packets missing by caller (p50: mean)"].verdict == "MISSED"
    broken = judge(made, limits)
    told = json.loads(json.dumps(result.content(made, limits, table, broken)))
    assert told["passed"] is False
    assert len(told["broken"]) == 2
    assert told["calls"] == {"asked": 3, "connected": 2, "live": 0}
    assert told["received_percent"] == {"worst": 90.0, "mean": 95.0}
    assert any("HTTP 404" in note for note in table.notes)
    pytest.importorskip("matplotlib")
    (drawn,) = chart.draw(made, tmp_path / "a.png", "title")
    assert drawn.read_bytes().startswith(b"\x89PNG")
