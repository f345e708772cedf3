from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ipc import bell
from ipc.bell import Bell, BellRopes
from ipc.errors import ConfigError
from tests.support import LoopErrors, reaches, until

if TYPE_CHECKING:
    from pathlib import Path

    from ipc.sockets import Context


class Ear:
    """Counts how often it was rung for."""

    def __init__(self) -> None:
        self.heard = 0

    def __call__(self) -> None:
        self.heard += 1

    def count(self) -> int:
        return self.heard


async def test_a_pull_at_the_rope_rings_the_bell(context: Context, runtime_dir: Path) -> None:
    ear, name = Ear(), bell.new_name()
    rung = Bell(context, bell.path_of(runtime_dir, name), ear)
    rope = BellRopes(context, runtime_dir).take(name)

    for number in range(1, 4):
        rope.pull()
        await until(reaches(ear.count, number))

    rope.let_go()
    rung.close()


async def test_pulls_between_two_looks_are_one_ring(context: Context, runtime_dir: Path) -> None:
    ear, name = Ear(), bell.new_name()
    rung = Bell(context, runtime_dir / name, ear)
    rope = BellRopes(context, runtime_dir).take(name)

    for _ in range(1000):  # the loop does not turn meanwhile
        rope.pull()
    await until(lambda: ear.heard)
    rope.pull()
    await until(lambda: ear.heard > 1)

    assert ear.heard == 2
    rope.let_go()
    rung.close()


async def test_a_bell_that_can_wait_rings_with_the_next_one_or_when_it_is_time(
    context: Context, runtime_dir: Path
) -> None:
    ear, name = Ear(), bell.new_name()
    rung = Bell(context, runtime_dir / name, ear)
    ropes = BellRopes(context, runtime_dir)
    rope = ropes.take(name)

    rope.pull_later()
    assert rope.waiting
    ropes.ring_waiting()
    await until(reaches(ear.count, 1))
    assert not rope.waiting
    rope.pull_later()
    rope.pull()
    await until(reaches(ear.count, 2))
    assert not rope.waiting

    rope.let_go()
    rung.close()
    assert ear.heard == 2


async def test_several_workers_ring_one_bell(context: Context, runtime_dir: Path) -> None:
    ear, name = Ear(), bell.new_name()
    rung = Bell(context, runtime_dir / name, ear)
    ropes = [BellRopes(context, runtime_dir).take(name) for _ in range(3)]

    for number, rope in enumerate(ropes, 1):
        rope.pull()
        await until(reaches(ear.count, number))

    for rope in ropes:
        rope.let_go()
    rung.close()


async def test_the_sessions_of_one_bot_share_a_rope_until_the_last_lets_go(
    context: Context, runtime_dir: Path
) -> None:
    ear, name = Ear(), bell.new_name()
    rung = Bell(context, runtime_dir / name, ear)
    ropes = BellRopes(context, runtime_dir)
    first, second = ropes.take(name), ropes.take(name)
    assert first is second

    first.let_go()
    second.pull()
    await until(lambda: ear.heard == 1)
    second.let_go()

    fresh = ropes.take(name)
    assert fresh is not first
    fresh.pull()
    await until(lambda: ear.heard == 2)
    fresh.let_go()
    rung.close()


async def test_a_rope_let_go_in_the_turn_of_its_pull_is_not_touched_again(
    context: Context, runtime_dir: Path
) -> None:
    errors = LoopErrors()
    rope = BellRopes(context, runtime_dir).take(bell.new_name())
    turned = asyncio.Event()

    rope.pull()
    rope.let_go()
    asyncio.get_running_loop().call_soon(turned.set)
    await turned.wait()

    assert errors.seen == []


async def test_pulling_for_a_bot_that_is_not_there_never_blocks(
    context: Context, runtime_dir: Path
) -> None:
    name = bell.new_name()
    rope = BellRopes(context, runtime_dir).take(name)
    loop = asyncio.get_running_loop()
    for _ in range(100):
        rope.pull()
        turned = asyncio.Event()
        loop.call_soon(turned.set)
        await turned.wait()

    ear = Ear()
    rung = Bell(context, runtime_dir / name, ear)

    await until(lambda: ear.heard, what="the ring that waited for its bell")
    rope.let_go()
    rung.close()


def test_a_rope_is_not_taken_for_a_name_that_leaves_the_directory(
    context: Context, runtime_dir: Path
) -> None:
    with pytest.raises(ConfigError):
        BellRopes(context, runtime_dir).take("../../bell-12345678")


async def test_a_closed_bell_leaves_no_file(context: Context, runtime_dir: Path) -> None:
    path = runtime_dir / bell.new_name()
    rung = Bell(context, path, Ear())
    assert path.is_socket()

    rung.close()

    await until(lambda: not path.exists())


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
