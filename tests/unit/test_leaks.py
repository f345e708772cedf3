"""The harness itself: what a test leaves behind is found and named, what it does not is not."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil

from tests.support import ROOT, wait_until

if TYPE_CHECKING:
    from pathlib import Path

LEAKING = """
import asyncio, os, subprocess, sys, threading
import zmq
from ipc.segment import Segment, new_name
from tests import support

support.LEAK_DEADLINE_S = 0.1
keep = []
wait = [sys.executable, "-c", "import threading; threading.Event().wait(30)"]

def test_child():
    keep.append(subprocess.Popen(wait))

def test_orphan():
    code = f"import subprocess; subprocess.Popen({wait!r}, start_new_session=True)"
    subprocess.run([sys.executable, "-c", code], check=True)

def test_thread():
    thread = threading.Thread(target=threading.Event().wait, args=[5], name="left", daemon=True)
    thread.start()

async def test_task():
    keep.append(asyncio.create_task(asyncio.Event().wait(), name="left"))

def test_segment(engine_id):
    keep.append(Segment.create(new_name(engine_id), 4096))

def test_socket_file(runtime_dir):
    import socket
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(runtime_dir / "bots"))

def test_zeromq_socket(context):
    keep.append(context.socket(zmq.PULL))
"""
CLEAN = """
import asyncio, subprocess, sys, threading
from ipc.segment import Segment, new_name

def test_child():
    subprocess.run([sys.executable, "-c", ""], check=True)

def test_thread_that_is_about_to_end():
    threading.Thread(target=threading.Event().wait, args=[0.1]).start()

async def test_task_that_is_about_to_end(until_later):
    until_later.append(asyncio.create_task(asyncio.wait_for(asyncio.Event().wait(), 0.1)))

def test_segment(engine_id):
    made = Segment.create(new_name(engine_id), 4096)
    made.unlink()
    made.close()

async def test_executor():
    await asyncio.get_running_loop().run_in_executor(None, int)

import pytest

@pytest.fixture
async def until_later():
    tasks = []
    yield tasks
    await asyncio.gather(*tasks, return_exceptions=True)
"""


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run(tmp_path: Path, source: str) -> str:
    """The report of a pytest of its own, which loads our conftest as a plugin."""
    (tmp_path / "test_inner.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest"]
    done = subprocess.run(
        [*command, "-o", "asyncio_mode=auto", f"--rootdir={tmp_path}", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_everything_that_is_left_behind_is_found_and_named(tmp_path: Path) -> None:
    report = run(tmp_path, LEAKING)

    failed = set(re.findall(r"^ERROR .*::(\w+)", report, re.MULTILINE))
    everything = set(re.findall(r"def (test_\w+)", LEAKING))
    if sys.platform != "linux":
        everything -= {"test_orphan", "test_segment"}  # only Linux shows them
    assert failed >= everything, report
    for name in (r"process \d+: .*wait\(30\)", "thread 'left'", "name='left'", "socket /"):
        assert re.search(name, report), report
    pids = [int(pid) for pid in re.findall(r"process (\d+):", report)]
    wait_until(lambda: not any(runs(pid) for pid in pids), what="the end of what was left")


def test_what_has_ended_in_time_is_no_leak(tmp_path: Path) -> None:
    report = run(tmp_path, CLEAN)

    assert re.search(r"^5 passed", report, re.MULTILINE), report
