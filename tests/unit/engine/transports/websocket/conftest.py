"""A world without engine and socket for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.engine.transports.websocket.dialled_world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A server that answers when it is dialled."""
    world = World()
    world.install(monkeypatch)
    yield world
    world.end()
