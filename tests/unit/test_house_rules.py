"""What no linter says: tests wait for conditions, and the audio path knows no time."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support import ROOT

TESTS = ROOT / "tests"
# Bots and callers under test may stall or keep time on purpose; tests may not.
TEST_FILES = sorted(
    path for path in TESTS.rglob("*.py") if "fakes" not in path.relative_to(TESTS).parts
)
SLEEPERS = {"time", "asyncio", "anyio", "trio", "gevent"}
KINDS = {"unit", "integration", "browser", "chaos", "fuzz", "pipecat"}
MAX_LINES = 400


def sleeps(source: str) -> list[int]:
    """Lines that sleep, under whatever name the module or the function was imported."""
    if "sleep" not in source:  # most files; to parse them all takes seconds
        return []
    tree = ast.parse(source)
    modules: set[str] = set()
    functions: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {
                alias.asname or alias.name for alias in node.names if alias.name in SLEEPERS
            }
        elif isinstance(node, ast.ImportFrom) and node.module in SLEEPERS:
            functions |= {
                alias.asname or alias.name for alias in node.names if alias.name == "sleep"
            }
    found: list[int] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute) and called.attr == "sleep":
            if isinstance(called.value, ast.Name) and called.value.id in modules:
                found.append(node.lineno)
        elif isinstance(called, ast.Name) and called.id in functions:
            found.append(node.lineno)
    return found


def count_lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def imported(path: Path) -> set[str]:
    """The top-level names of all that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("import time\ntime.sleep(1)", [2]),
        ("import asyncio as a\n\nawait a.sleep(0)", [3]),
        ("from time import sleep as nap\nnap(1)", [2]),
        ("import time\ntime.monotonic()\nother.sleep(1)", []),
    ],
)
def test_the_search_for_sleeps_finds_them(source: str, lines: list[int]) -> None:
    assert sleeps(source) == lines


def test_no_test_sleeps() -> None:
    asleep = {path: lines for path in TEST_FILES if (lines := sleeps(path.read_text()))}

    assert asleep == {}, "await a condition: tests.support.until"


def test_no_test_file_is_longer_than_its_readers_patience() -> None:
    long = {path: lines for path in TEST_FILES if (lines := count_lines(path)) > MAX_LINES}

    assert long == {}


def test_no_test_names_a_path_of_one_machine() -> None:
    home = str(Path.home()) + "/"
    machines = [str(ROOT) + "/", *([home] if home != "//" else [])]

    named = [path for path in TEST_FILES if any(place in path.read_text() for place in machines)]

    assert named == []


def test_the_rings_know_no_loop_no_socket_and_no_clock() -> None:
    assert not imported(ROOT / "ipc" / "audio_ring.py") & {"asyncio", "zmq", "time", "selectors"}


def test_ipc_imports_no_sibling() -> None:
    siblings = {"engine", "workers", "tests"}

    assert [path for path in (ROOT / "ipc").rglob("*.py") if imported(path) & siblings] == []


def test_every_test_has_the_marker_of_its_directory_and_no_other(
    request: pytest.FixtureRequest,
) -> None:
    marked = {
        item.nodeid: {mark.name for mark in item.iter_markers()} & KINDS
        for item in request.session.items
    }

    wrong = [node for node, kinds in marked.items() if kinds != {node.split("/")[1]}]

    assert request.node.nodeid in marked
    assert wrong == []


def test_every_group_of_tests_is_known_to_the_scheduler(request: pytest.FixtureRequest) -> None:
    """Which knows names, not markers: a group must be named in so many words in its module."""
    from tests.conftest import group_of

    marked = {
        item.nodeid.partition("::")[0]: mark.args
        for item in request.session.items
        for mark in item.iter_markers("xdist_group")
    }

    assert {path: (group_of(path),) for path in marked} == marked
    assert group_of("tests/integration/test_http_input.py") == "http input"
    assert group_of("tests/unit/ipc/test_clock.py") == ""
