"""The statistics routes: by id or pc_id, unknown ones, and what is not listed for strangers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from fastapi import FastAPI

from engine.http import app, stats
from engine.sessions import Session
from engine.supervisor import WorkerHandle
from ipc.errors import BackbeatError, SessionNotFound, WorkerStalled
from ipc.messages import Stats
from ipc.stats import WorkerPort

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.http.parts import Parts


class FakeSessions:
    """One session, `s_1`, whose worker answers or not."""

    def __init__(self) -> None:
        self.all = [Session("s_1", "pc_secret", "echo", WorkerHandle("w1", ""), None)]
        self.failure: BackbeatError | None = None

    async def stats(self, name: str) -> Stats:
        if self.failure is not None:
            raise self.failure
        if name not in ("s_1", "pc_secret"):
            raise SessionNotFound("there is no such session")
        port = WorkerPort(id="w", timestamp=1.0, datagrams_received=3, datagrams_dropped={})
        return Stats(records=[port])


@pytest.fixture
def sessions() -> FakeSessions:
    return FakeSessions()


@pytest.fixture
def ask(sessions: FakeSessions) -> Callable[..., Any]:
    async def get(path: str, *, loopback: bool = True) -> tuple[int, Any]:
        application = FastAPI()
        parts = cast("Parts", SimpleNamespace(sessions=sessions))
        routes = stats.router(parts, loopback=loopback)
        application.include_router(routes)
        application.add_exception_handler(BackbeatError, app._failed)
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            response = await client.get(path)
            return response.status_code, response.json()

    return get


@pytest.mark.parametrize("name", ["s_1", "pc_secret"])
async def test_a_call_is_found_by_its_id_and_by_its_pc_id(
    ask: Callable[..., Any], name: str
) -> None:
    status, body = await ask(f"/api/sessions/{name}/stats")
    assert status == 200
    assert body["w"]["datagramsReceived"] == 3


async def test_an_unknown_call_and_a_worker_that_hangs_are_coded_errors(
    ask: Callable[..., Any], sessions: FakeSessions
) -> None:
    status, body = await ask("/api/sessions/s_2/stats")
    assert (status, body["code"]) == (404, "session_not_found")
    sessions.failure = WorkerStalled("it hangs")
    status, body = await ask("/api/sessions/s_1/stats")
    assert (status, body["code"]) == (503, "worker_stalled")


async def test_calls_are_listed_on_loopback_only_and_never_by_what_controls_them(
    ask: Callable[..., Any],
) -> None:
    status, body = await ask("/api/sessions")
    assert status == 200
    assert [found["id"] for found in body] == ["s_1"]
    assert "pc_secret" not in str(body)
    status, body = await ask("/api/sessions", loopback=False)
    assert (status, body["code"]) == (401, "not_listed")
