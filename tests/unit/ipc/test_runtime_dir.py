from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import threading
from typing import TYPE_CHECKING

import pytest

from ipc import segment
from ipc.errors import ConfigError
from ipc.runtime_dir import (
    MAX_PATH_BYTES,
    RuntimeDir,
    current_endpoint,
    default_path,
    fresh_path,
)
from ipc.segment import Segment, names_of, new_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def refusal(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        RuntimeDir(path)
    return refused.value


@pytest.fixture
def held(runtime_dir: Path) -> Iterator[RuntimeDir]:
    taken = RuntimeDir(runtime_dir)
    yield taken
    taken.close()


def test_the_directory_and_its_instance_are_for_their_user_only(runtime_dir: Path) -> None:
    previous = os.umask(0)
    try:
        held = RuntimeDir(runtime_dir / "a")
    finally:
        os.umask(previous)

    assert mode(held.path) == mode(held.instance) == 0o700
    assert mode(held.path / "lock") == 0o600
    held.close()
    (held.path / "lock").unlink()
    held.path.rmdir()


def test_the_default_is_below_the_users_runtime_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_path() == tmp_path / f"backbeat-{os.getuid()}"

    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/elsewhere")
    assert str(default_path()) == f"/elsewhere/backbeat-{os.getuid()}"


def test_a_path_that_leaves_no_room_for_socket_names_is_refused(tmp_path: Path) -> None:
    longest = tmp_path / ("x" * MAX_PATH_BYTES)

    refused = refusal(longest)

    assert refused.code == "runtime_dir"
    assert not longest.exists()


def test_the_longest_path_still_has_room_for_every_socket(held: RuntimeDir) -> None:
    beyond = len(held.endpoint("bell-" + "0" * 16)) - len(f"ipc://{held.path}")

    assert MAX_PATH_BYTES + beyond <= 107


def test_a_second_engine_is_refused_while_the_first_serves(held: RuntimeDir) -> None:
    refused = refusal(held.path)

    assert refused.code == "runtime_dir_taken"
    assert held.instance.is_dir()


def test_the_next_engine_may_come_when_the_first_has_closed(held: RuntimeDir) -> None:
    held.close()
    held.close()

    again = RuntimeDir(held.path)

    assert again.engine_id != held.engine_id
    assert not held.instance.exists()
    again.close()


def test_what_a_dead_engine_left_is_swept_with_its_segments(
    runtime_dir: Path, engine_id: str
) -> None:
    dead = runtime_dir / engine_id
    dead.mkdir()
    (dead / "bots").touch()
    left = Segment.create(new_name(engine_id), 4096)
    left.close()
    other = runtime_dir / "notes.txt"
    other.touch()

    held = RuntimeDir(runtime_dir)

    assert not dead.exists()
    assert names_of(engine_id) == []
    assert other.exists(), "what is not an instance is nobody's business"
    held.close()
    other.unlink()


def test_closing_removes_segments_that_this_engine_still_names(runtime_dir: Path) -> None:
    held = RuntimeDir(runtime_dir)
    left = Segment.create(new_name(held.engine_id), 4096)

    held.close()

    assert names_of(held.engine_id) == []
    left.unlink()
    left.close()


@pytest.mark.skipif(not segment.SHM_DIR.is_dir(), reason="segments are files only on Linux")
def test_segments_of_engines_elsewhere_are_left_alone(held: RuntimeDir, engine_id: str) -> None:
    foreign = Segment.create(new_name(engine_id), 4096)

    held.close()
    RuntimeDir(held.path).close()

    assert names_of(engine_id) == [foreign.name]
    foreign.unlink()
    foreign.close()


def test_bots_find_the_engine_once_it_is_published(held: RuntimeDir) -> None:
    assert current_endpoint(held.path) is None
    held.publish()
    assert current_endpoint(held.path) is None, "no socket yet"

    (held.instance / "bots").touch()

    assert current_endpoint(held.path) == held.endpoint("bots")
    held.close()
    assert current_endpoint(held.path) is None
    assert not (held.path / "current").is_symlink()


def test_bots_do_not_find_an_engine_that_was_killed(held: RuntimeDir) -> None:
    held.publish()
    (held.instance / "bots").touch()
    assert current_endpoint(held.path) is not None

    os.close(held._lock)  # as the kernel does; the link and the socket stay
    held._lock = -1

    assert current_endpoint(held.path) is None
    RuntimeDir(held.path).close()
    (held.path / "current").unlink()


def test_a_bot_that_looks_does_not_keep_an_engine_out(runtime_dir: Path) -> None:
    RuntimeDir(runtime_dir).close()
    looks = os.open(runtime_dir / "lock", os.O_RDWR)
    fcntl.flock(looks, fcntl.LOCK_SH)
    ends = threading.Timer(0.02, os.close, [looks])
    ends.start()

    held = RuntimeDir(runtime_dir)

    held.close()
    ends.join()


def test_a_new_engine_takes_the_link_over_from_a_dead_one(
    runtime_dir: Path, engine_id: str
) -> None:
    (runtime_dir / engine_id).mkdir()
    (runtime_dir / "current").symlink_to(engine_id)

    held = RuntimeDir(runtime_dir)
    held.publish()

    assert (runtime_dir / "current").readlink().name == held.engine_id
    held.close()


def test_a_link_that_a_dead_engine_had_only_begun_is_swept(runtime_dir: Path) -> None:
    begun = runtime_dir / "current.01234567"
    begun.symlink_to("01234567")

    RuntimeDir(runtime_dir).close()

    assert not begun.is_symlink()


def test_closing_leaves_the_link_of_another_engine(held: RuntimeDir) -> None:
    held.publish()
    link = held.path / "current"
    link.unlink()
    link.symlink_to("01234567")

    held.close()

    assert link.readlink().name == "01234567"
    link.unlink()


def test_a_link_never_leads_out_of_the_directory(runtime_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "bots").touch()
    link = runtime_dir / "current"
    link.symlink_to(tmp_path)

    assert current_endpoint(runtime_dir) is None
    link.unlink()


@pytest.mark.parametrize("permissions", [0o755, 0o770, 0o701])
def test_a_directory_open_to_others_is_refused(runtime_dir: Path, permissions: int) -> None:
    runtime_dir.chmod(permissions)

    refused = refusal(runtime_dir)

    assert refused.code == "runtime_dir"
    assert "chmod 700" in refused.message


def test_a_symlink_in_its_place_is_refused(runtime_dir: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    link = runtime_dir / "link"
    link.symlink_to(real)

    assert refusal(link).code == "runtime_dir"

    assert list(real.iterdir()) == []
    link.unlink()


def test_a_file_in_its_place_is_refused(runtime_dir: Path) -> None:
    place = runtime_dir / "file"
    place.touch()

    assert refusal(place).code == "runtime_dir"
    place.unlink()


def test_a_directory_of_another_user_is_refused(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = runtime_dir.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)

    assert refusal(runtime_dir).code == "runtime_dir"


def test_a_refused_engine_leaves_nothing_open(held: RuntimeDir) -> None:
    before = len(os.listdir("/dev/fd"))

    for _ in range(5):
        refusal(held.path)

    assert len(os.listdir("/dev/fd")) == before


def test_fresh_directories_are_swept_when_their_makers_are_gone(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir))
    killed, lives, new = fresh_path(), fresh_path(), fresh_path()
    (killed / "0a1b2c3d").mkdir(mode=0o700)
    (killed / "lock").touch(mode=0o600)
    held = RuntimeDir(lives)
    for old in (killed, lives):
        os.utime(old, (0, 0))
    try:
        made = fresh_path()
        assert not killed.exists()
        assert held.instance.exists()  # it is in use
        assert new.exists()  # its maker may be about to take it
        assert mode(made) == 0o700
    finally:
        held.close()
        for path in runtime_dir.iterdir():
            shutil.rmtree(path)
