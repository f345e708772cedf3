"""The line of a loop to its engine: what it leaves behind when nobody uses it any more."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from engine.sdk import Bot
from engine.transports import home
from engine.transports.home import Home
from ipc.errors import AuthError
from tests.support import turn, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


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


async def test_who_is_refused_is_told_why_and_may_try_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Refused(Bot):
        async def serve(self, endpoint: str | None = None, *, token: str | None = None) -> None:
            self.registered = asyncio.Event()
            await turn()
            raise AuthError("a wrong token")

    monkeypatch.setattr(home, "_engine_here", lambda: None)
    monkeypatch.setattr(home, "find_endpoint", lambda: "ipc:///nowhere")
    monkeypatch.setattr(home, "Bot", Refused)
    monkeypatch.setattr(home, "LINGER_S", 0)
    for _ in range(2):
        with pytest.raises(AuthError, match="token"):
            await Home.acquire()
    await home.end_all()
