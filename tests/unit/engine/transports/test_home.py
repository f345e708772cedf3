"""The line of a loop to its engine: what it leaves behind when nobody uses it any more."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from engine.transports import home
from engine.transports.home import Home
from tests.support import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import pytest


async def test_an_engine_keeps_no_line_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SimpleNamespace(
        endpoint="ipc:///nowhere", loop=asyncio.get_running_loop(), before_close=[]
    )
    registered = asyncio.Event()
    registered.set()

    async def live(_endpoint: str) -> AsyncGenerator[Any, None]:
        yield SimpleNamespace(registered=registered)

    monkeypatch.setattr(home, "_engine_here", lambda: engine)
    monkeypatch.setattr(home, "_live", live)
    monkeypatch.setattr(home, "LINGER_S", 0)
    line = await Home.acquire()
    assert engine.before_close == [line.end]
    line.release()
    await until(lambda: line._ending is not None and line._ending.done())
    assert engine.before_close == []
    assert await Home.acquire() is not line
    await home.end_all()
    assert engine.before_close == []
