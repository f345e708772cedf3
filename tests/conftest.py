"""Every test: a marker from its directory, and proof that nothing is left behind it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import zmq

from ipc.clock import ManualClock
from tests import support
from tests.support import Leaks, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ipc.sockets import Context
    from tests.fakes.serve import ServeProcess
    from tests.fakes.shared_serve import SharedServe

TESTS = Path(__file__).resolve().parent
# Longer than the 2 s of `engine.sdk.registration`, for which a core may be taken away.
ENGINE_SILENT_S = 5.0
KINDS = ("unit", "integration", "browser", "chaos", "fuzz", "pipecat")

# Hundreds of processes start here. Where nothing is kept of what each has compiled (images for
# containers ask for that), this alone would take minutes.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# No example database: a failure prints what reproduces it, and the tree stays clean.
hypothesis.settings.register_profile("backbeat", deadline=None, database=None, print_blob=True)
# What a change must pass has the same examples each time; new ones are for who can look at them.
hypothesis.settings.register_profile(
    "ci", hypothesis.settings.get_profile("backbeat"), derandomize=True
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") == "true" else "backbeat")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """`-n auto`: half as many again as processors, as most callers wait for sound, not for one."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return max(2, processors() * 3 // 2)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadgroup`, a module that names an `xdist_group` is worked off by one process.

    xdist 3.8 alone would not: it writes a group into a field that a test of pytest 9.2 lacks.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]

    scheduling = LoadGroupScheduling(config, log)
    scheduling._split_scope = lambda nodeid: group_of(nodeid.partition("::")[0]) or nodeid
    return scheduling


@functools.cache
def group_of(path: str) -> str:
    """The `xdist_group` that a test module names, for all of its tests; empty when none."""
    try:
        found = re.search(r'mark\.xdist_group\("([^"]+)"\)', (TESTS.parent / path).read_text())
    except OSError:
        return ""
    return found[1] if found else ""


def processors() -> int:
    """How many this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not everywhere
        return os.cpu_count() or 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test after its directory; the last ones are short."""
    for item in items:
        if not item.path.is_relative_to(TESTS):
            continue
        kind = item.path.relative_to(TESTS).parts[0]
        if kind not in KINDS:
            raise pytest.UsageError(f"{item.path} lies in none of tests/{{{','.join(KINDS)}}}")
        item.add_marker(kind)
    # So that nobody waits in the end for one who has begun a long test last. Until then both
    # alternate: long ones wait for sound, and leave the processors to others. The order among
    # those of a kind stays by chance.
    long = [item for item in items if not _is_short(item)]
    short = [item for item in items if _is_short(item)]
    between = len(short) * 9 // 10 // max(1, len(long))
    for number, item in enumerate(long):
        begin = number * (between + 1)
        items[begin] = item
        items[begin + 1 : begin + 1 + between] = short[number * between : (number + 1) * between]
    items[len(long) * (between + 1) :] = short[len(long) * between :]


def _is_short(item: pytest.Item) -> bool:
    return item.get_closest_marker("unit") is not None and not item.get_closest_marker("timeout")


@pytest.fixture(autouse=True)
def leaks(request: pytest.FixtureRequest) -> Iterator[Leaks]:
    """Fails the test that leaves a process, thread, segment, file or asyncio task behind."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("ended_tasks")
    watch = Leaks()
    yield watch
    left = watch.finish()
    if left:
        pytest.fail("the test left behind:\n" + "\n".join(left), pytrace=False)


@pytest.fixture
async def ended_tasks() -> AsyncIterator[None]:
    """Fails the async test that leaves a task on its loop."""
    before = asyncio.all_tasks()
    yield

    def left() -> list[str]:
        mine = {*before, asyncio.current_task()}
        return [repr(task) for task in asyncio.all_tasks() if task not in mine]

    try:
        await until(lambda: not left(), support.LEAK_DEADLINE_S)
    except AssertionError:
        pytest.fail("the test left tasks behind:\n" + "\n".join(left()), pytrace=False)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still until the test moves it."""
    return ManualClock()


@pytest.fixture(autouse=True)
def patient_bots(request: pytest.FixtureRequest) -> None:
    """Bots of this process take no engine whose core was taken away for one that is gone."""
    if any(request.node.get_closest_marker(kind) for kind in ("unit", "fuzz")):
        return  # they have no engine
    request.getfixturevalue("monkeypatch").setattr(
        "engine.sdk.registration.ENGINE_SILENT_S", ENGINE_SILENT_S
    )


@pytest.fixture
def patient_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushes of bots in this process have their exact answer, however long a machine takes it."""
    from engine.sdk import flushes  # heavy, and unit tests need none

    monkeypatch.setattr(flushes, "FLUSH_DEADLINE_S", support.DEADLINE_S)


@pytest.fixture
def engine_id(leaks: Leaks) -> str:
    """An engine id of this test alone; segments named after it must be gone in the end."""
    unique = secrets.token_hex(4)
    leaks.watch_engine(unique)
    return unique


@pytest.fixture
def runtime_dir(leaks: Leaks) -> Path:
    """An empty 0700 directory with a short path; only `lock` may be left in it."""
    return leaks.make_runtime_dir()


@pytest.fixture(scope="session")
def shared_serve() -> Iterator[SharedServe]:
    """The owner of the `serve` that the tests of this process borrow."""
    from tests.fakes.shared_serve import SharedServe  # heavy, and unit tests need none

    shared = SharedServe()
    yield shared
    shared.remove()


@pytest.fixture
def serve(shared_serve: SharedServe) -> Iterator[ServeProcess]:
    """A running `serve` with one worker and no bot, which other tests use before and after.

    A test brings its own bots, and leaves neither bots nor sessions nor another worker; who needs
    settings, kills anything or reads the whole log starts a `ServeProcess` of its own.
    """
    lent = shared_serve.lend()
    yield lent
    left = shared_serve.take_back()
    if left:
        pytest.fail("the test left in the shared serve:\n" + "\n".join(left), pytrace=False)


@pytest.fixture
def found_serve(serve: ServeProcess, monkeypatch: pytest.MonkeyPatch) -> ServeProcess:
    """`serve`, and every transport that the test makes finds it."""
    monkeypatch.setenv("BACKBEAT_ENDPOINT", serve.endpoint)
    return serve


@pytest.fixture
def context() -> Iterator[Context]:
    """A ZeroMQ context of the test's own; every socket must have been closed in the end."""
    made: Context = zmq.Context()
    yield made
    # pyzmq keeps its sockets in a weak set of no public name.
    left = [repr(socket) for socket in set(made._sockets) if not socket.closed]
    made.destroy(linger=0)
    assert not left, f"sockets left open: {left}"
