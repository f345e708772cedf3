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


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_sleeps(path: Path) -> None:
    assert sleeps(path.read_text()) == [], "await a condition: tests.support.until"


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_file_is_longer_than_its_readers_patience(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_names_a_path_of_one_machine(path: Path) -> None:
    text = path.read_text()

    assert str(ROOT) + "/" not in text
    assert str(Path.home()) + "/" not in text or Path.home() == Path("/")


def test_the_rings_know_no_loop_no_socket_and_no_clock() -> None:
    assert not imported(ROOT / "ipc" / "audio_ring.py") & {"asyncio", "zmq", "time", "selectors"}


@pytest.mark.parametrize("path", sorted((ROOT / "ipc").rglob("*.py")), ids=lambda path: path.name)
def test_ipc_imports_no_sibling(path: Path) -> None:
    assert not imported(path) & {"engine", "workers", "tests"}


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
