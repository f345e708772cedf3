from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipc import segment
from ipc.errors import ConfigError, Overloaded, RingClosed, RingError
from ipc.segment import NAME_PATTERN, Segment, names_of, new_name, unlink_name

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 3 * segment.PAGE_BYTES + 100
linux_only = pytest.mark.skipif(
    not segment.SHM_DIR.is_dir(), reason="segments are files only on Linux"
)


@pytest.fixture
def made(engine_id: str) -> Iterator[Segment]:
    created = Segment.create(new_name(engine_id), SIZE)
    yield created
    created.unlink()
    created.close()


def descriptors(engine_id: str) -> list[str]:
    """Those of this engine's segments; others may be opened and closed meanwhile."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return [path for path in found if engine_id in path]


def test_names_are_unique_and_carry_the_engine(engine_id: str) -> None:
    names = {new_name(engine_id) for _ in range(1000)}

    assert len(names) == 1000
    assert all(NAME_PATTERN.fullmatch(name) and name[2:10] == engine_id for name in names)
    assert all(len("/" + name) <= 31 for name in names), "macOS allows 31 bytes"


def test_what_one_side_writes_the_other_reads(made: Segment) -> None:
    attached = Segment.attach(made.name)
    try:
        made.buffer[10:15] = b"hello"
        attached.buffer[SIZE - 5 : SIZE] = b"world"

        assert bytes(attached.buffer[10:15]) == b"hello"
        assert bytes(made.buffer[SIZE - 5 : SIZE]) == b"world"
    finally:
        attached.close()


def test_a_new_segment_is_zeroed_and_large_enough(made: Segment) -> None:
    assert len(made.buffer) >= SIZE
    assert not any(made.buffer)


@linux_only
def test_a_segment_is_for_its_user_only(made: Segment) -> None:
    status = (segment.SHM_DIR / made.name).stat()

    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_uid == os.getuid()


@linux_only
def test_every_page_of_a_new_segment_is_backed_by_memory(made: Segment) -> None:
    assert (segment.SHM_DIR / made.name).stat().st_blocks * 512 >= SIZE


def test_a_mapping_outlives_its_name(made: Segment) -> None:
    attached = Segment.attach(made.name)
    try:
        made.unlink()
        made.buffer[0] = 7

        assert attached.buffer[0] == 7
        with pytest.raises(RingError) as gone:
            Segment.attach(made.name)
        assert gone.value.code == "segment_missing"
    finally:
        attached.close()


def test_unlink_and_close_may_be_called_twice(engine_id: str) -> None:
    made = Segment.create(new_name(engine_id), SIZE)
    for _ in range(2):
        made.unlink()
    for _ in range(2):
        made.close()

    assert names_of(engine_id) == []
    with pytest.raises(RingClosed):
        made.buffer


def test_one_who_attached_does_not_remove_the_name(made: Segment, engine_id: str) -> None:
    attached = Segment.attach(made.name)
    attached.unlink()
    attached.close()

    if segment.SHM_DIR.is_dir():
        assert names_of(engine_id) == [made.name]
    Segment.attach(made.name).close()


def test_a_name_is_never_taken_over(made: Segment) -> None:
    made.buffer[0] = 9

    with pytest.raises(RingError) as taken:
        Segment.create(made.name, SIZE)

    assert taken.value.code == "segment_exists"
    assert made.buffer[0] == 9


@pytest.mark.parametrize(
    "name", ["", "bb", "../etc/passwd", "bbXXXXXXXX0123456789", "bb012345670123456789ab", "/bb"]
)
def test_only_names_of_segments_are_opened(name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Segment.attach(name)
    assert refused.value.code == "segment_name"

    with pytest.raises(ConfigError):
        Segment.create(name, SIZE)


@linux_only
def test_unlink_name_leaves_files_that_are_no_segments_alone(engine_id: str) -> None:
    foreign = segment.SHM_DIR / f"bb{engine_id}-mine"
    foreign.touch()
    try:
        unlink_name(foreign.name)
        unlink_name(new_name(engine_id))

        assert foreign.exists()
    finally:
        foreign.unlink()


@linux_only
def test_names_of_lists_this_engines_segments_only(made: Segment, engine_id: str) -> None:
    other = f"{int(engine_id, 16) ^ 1:08x}"

    assert names_of(engine_id) == [made.name]
    assert names_of(other) == []


@linux_only
def test_an_empty_segment_cannot_be_attached(engine_id: str) -> None:
    name = new_name(engine_id)
    path = segment.SHM_DIR / name
    path.touch(mode=0o600)
    try:
        with pytest.raises(RingError) as refused:
            Segment.attach(name)
        assert refused.value.code == "segment_missing"
    finally:
        path.unlink()


def test_a_segment_of_another_user_is_a_ring_error(
    monkeypatch: pytest.MonkeyPatch, engine_id: str
) -> None:
    def refuse(name: str, create: bool, size: int) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(segment, "_Untracked", refuse)

    with pytest.raises(RingError, match="Permission denied"):
        Segment.attach(new_name(engine_id))


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "shm_full"), (errno.EMFILE, "shm_unavailable")]
)
def test_a_segment_that_cannot_be_reserved_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, engine_id: str, number: int, code: str
) -> None:
    def refuse(memory: object, size_bytes: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(segment, "_reserve", refuse)

    with pytest.raises(Overloaded) as full:
        Segment.create(new_name(engine_id), SIZE)

    assert (full.value.code, full.value.retryable) == (code, True)
    assert names_of(engine_id) == []


def test_closing_with_a_view_held_keeps_the_view_valid(made: Segment) -> None:
    held = made.buffer[:4]
    held[:] = b"kept"

    made.unlink()
    made.close()

    assert bytes(held) == b"kept"
    held.release()


@linux_only
def test_a_view_held_over_closing_costs_no_descriptor_once_it_is_gone(engine_id: str) -> None:
    held = []
    for _ in range(5):
        made = Segment.create(new_name(engine_id), SIZE)
        held.append(made.buffer[:4])
        made.unlink()
        made.close()
    assert descriptors(engine_id)
    for view in held:
        view.release()

    assert descriptors(engine_id) == []


def test_unlinking_works_also_after_closing(engine_id: str) -> None:
    made = Segment.create(new_name(engine_id), SIZE)

    made.close()
    made.unlink()

    assert names_of(engine_id) == []


def test_the_resource_tracker_never_hears_of_a_segment(
    monkeypatch: pytest.MonkeyPatch, engine_id: str
) -> None:
    from multiprocessing import resource_tracker

    heard: list[str] = []

    def hear(name: str, _kind: str) -> None:
        heard.append(name)

    monkeypatch.setattr(resource_tracker, "register", hear)
    monkeypatch.setattr(resource_tracker, "unregister", hear)

    made = Segment.create(new_name(engine_id), SIZE)
    Segment.attach(made.name).close()
    made.unlink()
    made.close()

    assert heard == []
