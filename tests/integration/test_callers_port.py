"""The port of WebSocket callers: beside the HTTP port, any other, or an error with a name."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI

import engine.server
from engine import embedded
from engine.config import load
from engine.server import Engine, _listen
from ipc.errors import ConfigError
from tests.fakes.bot import echo_bot, serving
from tests.fakes.websocket_caller import WebsocketCaller

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """A port on which somebody else listens."""
    with closing(_listen("127.0.0.1", 0)) as listener:
        yield listener


def port_of(listener: socket.socket | None) -> int:
    assert listener is not None
    port: int = listener.getsockname()[1]
    return port


async def listening(http: socket.socket | None = None, **settings: Any) -> socket.socket | None:
    return await Engine(load(settings))._listen_for_callers(http)


async def test_a_port_that_is_let_go_of_in_time_is_had(taken: socket.socket) -> None:
    port = port_of(taken)
    asyncio.get_running_loop().call_later(0.1, taken.close)
    with closing(await listening(ws_port=port)) as listener:  # type: ignore[type-var]
        assert port_of(listener) == port


async def test_one_that_stays_taken_is_an_error_or_another_one(
    taken: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.server, "LET_GO_S", 0.05)
    with pytest.raises(ConfigError) as refused:
        await listening(ws_port=port_of(taken))
    assert refused.value.code == "ws_port"
    assert "--ws-port" in refused.value.message

    class Http:
        def getsockname(self) -> tuple[str, int]:
            return "127.0.0.1", port_of(taken) - 1

    with closing(await listening(Http(), port=1)) as listener:  # type: ignore[arg-type, type-var]
        assert port_of(listener) not in (0, port_of(taken))


async def test_an_embedded_engine_listens_only_when_told() -> None:
    assert await listening() is None
    with closing(await listening(ws_port=0)) as listener:  # type: ignore[type-var]
        assert port_of(listener)


async def test_callers_of_an_embedded_engine_come_past_the_application() -> None:
    application = FastAPI()
    async with (
        embedded.Engine(
            workers=1, spare_workers=0, ws_port=0, priority="none", worker_stall_ms=10_000
        ) as running,
        serving(echo_bot(), running.endpoint),
    ):
        application.include_router(running.router)
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            answer = await client.post("/start", json={"transport": "websocket"})
        found = answer.json()
        async with WebsocketCaller(found["wsUrl"], found["token"]) as caller:
            caller.speak(440)
            await caller.hears_tone(440)
