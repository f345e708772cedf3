"""What waits behind audio: it goes when that has left, and not all of it is lost with it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, cast

import pytest

from engine.transports.base.held import Held
from tests.support import turn

if TYPE_CHECKING:
    from engine.transports.base.playout import Playout


class FakePlayout:
    """Audio of which is decided by hand whether it leaves."""

    def __init__(self) -> None:
        self.written = 100
        self.outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def wait(self, cursor: int) -> bool:
        return await asyncio.shield(self.outcome)

    def has_left(self, cursor: int) -> bool:
        return False


class World:
    """Audio with a word behind it; `told` is what happened."""

    def __init__(self) -> None:
        self.playout = FakePlayout()
        self.held = Held(cast("Playout", self.playout))
        self.told: list[str] = []

    async def _tell(self, what: str) -> None:
        self.told.append(what)

    async def begin(self) -> asyncio.Task[None]:
        await self.held.add(100, partial(self._tell, "audio"), interruptible=True, audio=True)
        await self.held.add(100, partial(self._tell, "word"), interruptible=True)
        running = asyncio.create_task(self.held.run())
        await turn()
        assert self.told == []
        return running


@pytest.mark.parametrize(
    ("left", "flushed", "told"),
    [
        (True, False, ["audio", "word"]),
        (False, True, []),
        # Nobody came to hear it: a recorder gets none of it, what is no audio goes on.
        (False, False, ["word"]),
    ],
)
async def test_what_stands_behind_audio_shares_its_fate_in_an_interruption_only(
    left: bool, flushed: bool, told: list[str]
) -> None:
    world = World()
    running = await world.begin()
    if flushed:
        world.held.drop()
    world.playout.outcome.set_result(left)
    for _ in range(5):
        await turn()
    assert world.told == told
    assert world.held.empty
    running.cancel()
    await asyncio.wait((running,))
