"""An engine inside the user's process: started, mounted, found, and nothing left of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI

from engine import Engine
from engine.sdk import Bot, Session
from engine.transports import home
from ipc.errors import ConfigError, StateError
from tests.fakes.audio import tone_source
from tests.fakes.bot import serving
from tests.fakes.caller import FakeCaller
from tests.support import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support import Leaks

SETTINGS: dict[str, Any] = {
    "workers": 1,
    "spare_workers": 0,
    "priority": "none",
    "ice_address": "127.0.0.1",
    # As in `ServeProcess`: a core that is taken away is no hung worker.
    "worker_stall_ms": 10_000,
}


@pytest.fixture(autouse=True)
async def _ended_homes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.delenv("BACKBEAT_ENDPOINT", raising=False)
    yield
    await home.end_all()


@pytest.fixture
def no_serve(leaks: Leaks, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a `serve` of this user would be found; nobody serves there."""
    path = leaks.make_runtime_dir()
    monkeypatch.setenv("BACKBEAT_RUNTIME_DIR", str(path))
    monkeypatch.setenv("BACKBEAT_PRIORITY", "none")
    monkeypatch.setenv("BACKBEAT_WORKERS", "1")
    monkeypatch.setenv("BACKBEAT_SPARE_WORKERS", "0")
    monkeypatch.setenv("BACKBEAT_WORKER_STALL_MS", "10000")
    return path


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:1")


async def test_a_call_goes_through_an_embedded_engine() -> None:
    bot = Bot("echo")

    @bot.session
    async def echo(session: Session) -> None:
        async for frame in session.audio():
            await session.play(frame)

    async with (
        Engine(**SETTINGS, port=0) as engine,
        serving(bot, engine.endpoint),
        FakeCaller(engine.address, tone_source(440)) as caller,
    ):
        await caller.hears(440)


async def test_its_routes_live_in_an_application_of_the_user() -> None:
    engine = Engine(**SETTINGS)
    app = FastAPI()
    app.include_router(engine.router, prefix="/media")
    async with client(app) as http:
        early = await http.get("/media/health/ready")
        assert (early.status_code, early.json()["code"]) == (409, "engine_not_running")
        async with engine:
            offered = await http.post("/media/api/offer", json={"sdp": "v=0", "type": "offer"})
            assert (offered.status_code, offered.json()["code"]) == (503, "no_bot")
            assert (await http.get("/media/health/live")).status_code == 200
        late = await http.get("/media/health/ready")
        assert (late.status_code, late.json()["code"]) == (409, "engine_not_running")


async def test_it_has_no_port_of_its_own_unless_asked() -> None:
    async with Engine(**SETTINGS) as engine:
        assert engine.address == ""


async def test_it_starts_once_at_a_time_and_again_after_its_end() -> None:
    engine = Engine(**SETTINGS)
    async with engine:
        first = engine.endpoint
        with pytest.raises(StateError, match="runs already"):
            await engine.start()
    with pytest.raises(StateError, match="does not run"):
        _ = engine.endpoint
    async with engine:
        assert engine.endpoint != first


def test_a_setting_that_there_is_not_is_named() -> None:
    with pytest.raises(ConfigError, match="wokers"):
        Engine(wokers=2)


async def test_a_transport_finds_the_engine_around_it_before_others() -> None:
    async with Engine(**SETTINGS) as outer:
        assert home.find_endpoint() == outer.endpoint
        async with Engine(**SETTINGS) as inner:
            assert home.find_endpoint() == inner.endpoint
        assert home.find_endpoint() == outer.endpoint


async def test_where_no_context_reaches_the_one_running_engine_is_found() -> None:
    found: asyncio.Queue[str | ConfigError] = asyncio.Queue()
    ask = asyncio.Event()

    async def outside() -> None:
        # Its context was taken before any engine ran, as a request handler's is.
        while True:
            await ask.wait()
            ask.clear()
            try:
                found.put_nowait(home.find_endpoint())
            except ConfigError as error:
                found.put_nowait(error)

    task = asyncio.create_task(outside())
    try:
        async with Engine(**SETTINGS) as engine:
            ask.set()
            assert await found.get() == engine.endpoint
            async with Engine(**SETTINGS):
                ask.set()
                error = await found.get()
                assert isinstance(error, ConfigError)
                assert error.code == "engine_ambiguous"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_environment_names_an_engine_when_none_runs_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BACKBEAT_ENDPOINT", "ipc:///somewhere/bots")
    assert home.find_endpoint() == "ipc:///somewhere/bots"


async def test_users_of_one_engine_share_a_line_that_ends_with_it() -> None:
    async with Engine(**SETTINGS) as engine:
        first, second = await asyncio.gather(home.Home.acquire(), home.Home.acquire())
        assert first is second
        await until(lambda: len(engine.bots.all) == 1)
        handle = engine.bots.all[0]
        assert handle.hello.capacity == 0
        first.release()
        second.release()
        assert await home.Home.acquire() is first


async def test_without_any_engine_one_is_started_for_its_users(no_serve: Path) -> None:
    found = await home.Home.acquire()
    bot = await found.bot()
    assert bot.registered.is_set()
    assert await home.Home.acquire() is found
    assert not list(no_serve.iterdir())  # it does not stand where a `serve` would


def test_an_engine_that_nobody_gave_back_ends_with_its_loop(no_serve: Path) -> None:
    async def forget() -> None:
        await home.Home.acquire()

    asyncio.run(forget())  # the fixture for leaks finds what is left
    assert not list(no_serve.iterdir())
