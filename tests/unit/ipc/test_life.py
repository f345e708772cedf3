from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from ipc.life import started
from tests.support import DEADLINE_S, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

CHILD = """
import os, sys, threading
from ipc.life import end_with_parent

grace_s = float(sys.argv[2])
ended = threading.Event()

def on_end():
    os.write(1, b"the parent is gone\\n")
    if grace_s > 5:
        os._exit(0)

end_with_parent(int(sys.argv[1]), on_end, grace_s)
os.write(1, b"ready\\n")
{then}
"""
HANGS = "while True: pass"
WAITS = "threading.Event().wait()"
linux_only = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux's /proc")


@contextlib.contextmanager
def child(then: str, grace_s: float) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD.format(then=then), str(theirs.fileno()), str(grace_s)],
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
        )
    with process, ours:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process, ours
        finally:
            process.kill()


@pytest.mark.parametrize("then", [WAITS, HANGS], ids=["waits", "hangs"])
def test_a_child_exits_after_the_grace_when_its_parent_is_gone(then: str) -> None:
    with child(then, 0.05) as (process, ours):
        assert process.poll() is None

        ours.close()

        assert process.wait(DEADLINE_S) == 1
        assert process.stdout is not None
        assert process.stdout.read() == b"the parent is gone\n"


def test_a_child_that_ends_by_itself_is_not_forced() -> None:
    with child(WAITS, 60) as (process, ours):
        ours.close()

        assert process.wait(DEADLINE_S) == 0


def test_what_a_parent_says_is_not_taken_for_its_end() -> None:
    with child(WAITS, 0.05) as (process, ours):
        ours.sendall(b"still here" * 50)
        assert process.stdout is not None

        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        ours.close()

        assert process.wait(DEADLINE_S) == 1


def test_a_parent_that_died_with_unread_words_is_gone_all_the_same() -> None:
    with child("os.write(int(sys.argv[1]), b'hello'); " + WAITS, 0.05) as (process, ours):
        assert ours.recv(5, socket.MSG_PEEK) == b"hello"

        ours.close()  # the kernel answers the child with ECONNRESET

        assert process.wait(DEADLINE_S) == 1


@linux_only
def test_a_process_began_when_the_system_says() -> None:
    boot = psutil.boot_time()

    since_boot = started(os.getpid())

    assert since_boot == started(os.getpid())
    assert abs(boot + since_boot - psutil.Process().create_time()) < 2


@linux_only
def test_a_process_name_with_brackets_does_not_confuse() -> None:
    before = started(os.getpid())
    name = Path("/proc/self/comm")
    real = name.read_text()
    name.write_text("x) S (y z")
    try:
        assert started(os.getpid()) == before
    finally:
        name.write_text(real)


def test_nobody_can_tell_when_a_process_that_is_not_there_began() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()

    assert started(process.pid) == 0.0
    assert started(-1) == 0.0
