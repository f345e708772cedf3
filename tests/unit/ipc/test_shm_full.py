"""A full /dev/shm is an error at creation. Tried on a small one in a mount namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.support import ROOT

FILL = """
from ipc.errors import Overloaded
from ipc.segment import Segment, names_of, new_name

made = []
try:
    while len(made) < 100:
        made.append(Segment.create(new_name("0badcafe"), 100_000))
except Overloaded as error:
    code = error.code
for one in made:
    one.buffer[:] = b"x" * len(one.buffer)  # SIGBUS when a page has no memory
print(len(made), code, len(names_of("0badcafe")))
made[0].unlink()
made[0].close()
Segment.create(new_name("0badcafe"), 50_000).unlink()
print("room again")
"""
ENTER = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--map-root-user", "--mount"]
MOUNT = "mount -t tmpfs -o size=512k tmpfs /dev/shm && exec "


def in_small_shm(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ENTER, "sh", "-c", MOUNT + '"$@"', "sh", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_full_shared_memory_refuses_at_creation_and_never_kills() -> None:
    if shutil.which("unshare") is None or in_small_shm("true").returncode:
        pytest.skip("NOT TESTED: this machine lets nobody mount a small /dev/shm")

    run = in_small_shm(sys.executable, "-c", FILL)

    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["5 shm_full 5", "room again"]
