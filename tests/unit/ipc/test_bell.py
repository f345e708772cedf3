from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ipc import bell
from ipc.bell import Bell, BellRopes
from ipc.errors import ConfigError
from tests.support import reaches, until

if TYPE_CHECKING:
    from pathlib import Path


class Ear:
    """Counts how often it was rung for."""

    def __init__(self) -> None:
        self.heard = 0

    def __call__(self) -> None:
        self.heard += 1

    def count(self) -> int:
        return self.heard


async def test_a_pull_at_the_rope_rings_the_bell(runtime_dir: Path) -> None:
    ear, name = Ear(), bell.new_name()
    rung = Bell(bell.path_of(runtime_dir, name), ear)
    ropes = BellRopes(runtime_dir)
    rope = ropes.take(name)

    for number in range(1, 4):
        rope.pull()
        ropes.ring()
        await until(reaches(ear.count, number))

    rope.let_go()
    rung.close()


async def test_pulls_are_one_ring_and_none_when_nobody_pulls(runtime_dir: Path) -> None:
    ear, name = Ear(), bell.new_name()
    rung = Bell(runtime_dir / name, ear)
    ropes = BellRopes(runtime_dir)
    rope, other = ropes.take(name), ropes.take(bell.new_name())

    for _ in range(1000):
        rope.pull()
    ropes.ring()
    await until(reaches(ear.count, 1))
    ropes.ring(waiting=True)
    rope.pull()
    ropes.ring()
    await until(reaches(ear.count, 2))

    assert other.missed == 0
    rope.let_go()
    other.let_go()
    rung.close()
    assert ear.heard == 2


async def test_rings_between_two_looks_are_one(runtime_dir: Path) -> None:
    ear, name = Ear(), bell.new_name()
    rung = Bell(runtime_dir / name, ear)
    rope = BellRopes(runtime_dir).take(name)

    for _ in range(1000):  # more than a kernel keeps; the loop does not turn meanwhile
        rope.ring()
    await until(reaches(ear.count, 1))
    rope.ring()
    await until(reaches(ear.count, 2))

    assert ear.heard == 2
    assert rope.missed == 0
    rope.let_go()
    rung.close()


async def test_a_bell_that_can_wait_rings_with_the_next_one_or_when_it_is_time(
    runtime_dir: Path,
) -> None:
    ear, name = Ear(), bell.new_name()
    rung = Bell(runtime_dir / name, ear)
    ropes = BellRopes(runtime_dir)
    rope = ropes.take(name)

    rope.pull_later()
    ropes.ring()
    assert rope.waiting
    ropes.ring(waiting=True)
    await until(reaches(ear.count, 1))
    assert not rope.waiting
    rope.pull_later()
    rope.pull()
    ropes.ring()
    await until(reaches(ear.count, 2))
    assert not rope.waiting

    rope.let_go()
    rung.close()
    assert ear.heard == 2


async def test_several_workers_ring_one_bell(runtime_dir: Path) -> None:
    ear, name = Ear(), bell.new_name()
    rung = Bell(runtime_dir / name, ear)
    ropes = [BellRopes(runtime_dir).take(name) for _ in range(3)]

    for number, rope in enumerate(ropes, 1):
        rope.ring()
        await until(reaches(ear.count, number))

    for rope in ropes:
        rope.let_go()
    rung.close()


async def test_the_sessions_of_one_bot_share_a_rope_until_the_last_lets_go(
    runtime_dir: Path,
) -> None:
    ear, name = Ear(), bell.new_name()
    rung = Bell(runtime_dir / name, ear)
    ropes = BellRopes(runtime_dir)
    first, second = ropes.take(name), ropes.take(name)
    assert first is second

    first.let_go()
    second.ring()
    await until(reaches(ear.count, 1))
    second.let_go()

    fresh = ropes.take(name)
    assert fresh is not first
    fresh.ring()
    await until(reaches(ear.count, 2))
    fresh.let_go()
    rung.close()


async def test_a_rope_let_go_after_its_pull_is_not_touched_again(runtime_dir: Path) -> None:
    ropes = BellRopes(runtime_dir)
    rope = ropes.take(bell.new_name())

    rope.pull()
    rope.let_go()
    ropes.ring(waiting=True)

    assert rope.missed == 0


async def test_a_bot_that_is_not_there_misses_rings_and_hears_them_once_it_is(
    runtime_dir: Path,
) -> None:
    name = bell.new_name()
    rope = BellRopes(runtime_dir).take(name)
    for number in range(1, 101):
        rope.ring()
        assert rope.missed == number

    ear = Ear()
    rung = Bell(runtime_dir / name, ear)
    rope.ring()
    await until(reaches(ear.count, 1))
    rung.close()
    rope.ring()
    assert rope.missed == 101, "it has gone again"
    rung = Bell(runtime_dir / name, ear)
    rope.ring()
    await until(reaches(ear.count, 2))

    rope.let_go()
    rung.close()


async def test_what_is_no_bell_is_rung_without_harm(runtime_dir: Path) -> None:
    rope = BellRopes(runtime_dir).take("bell-01234567")
    path = runtime_dir / "bell-01234567"
    path.write_text("a file")

    rope.ring()

    assert rope.missed == 1
    rope.let_go()
    path.unlink()


def test_a_rope_is_not_taken_for_a_name_that_leaves_the_directory(runtime_dir: Path) -> None:
    with pytest.raises(ConfigError):
        BellRopes(runtime_dir).take("../../bell-12345678")


async def test_a_path_that_cannot_be_bound_is_refused(runtime_dir: Path) -> None:
    for path, code in (
        (runtime_dir / "gone" / "bell-01234567", "endpoint"),
        (runtime_dir / ("x" * 107), "path_too_long"),
    ):
        with pytest.raises(ConfigError) as refused:
            Bell(path, Ear())
        assert refused.value.code == code


async def test_a_closed_bell_leaves_no_file(runtime_dir: Path) -> None:
    path = runtime_dir / bell.new_name()
    rung = Bell(path, Ear())
    assert path.is_socket()

    rung.close()
    rung.close()

    assert not path.exists()


@pytest.mark.parametrize(
    "name", ["", "bell-", "bell-123", "../bell-12345678", "bell-12345678/x", "bell-XXXXXXXX"]
)
def test_names_that_would_leave_the_directory_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        bell.path_of(tmp_path, name)

    assert refused.value.code == "bell_name"


def test_new_names_are_unique_and_valid(tmp_path: Path) -> None:
    names = {bell.new_name() for _ in range(100)}

    assert len(names) == 100
    assert {bell.path_of(tmp_path, name).parent for name in names} == {tmp_path}
