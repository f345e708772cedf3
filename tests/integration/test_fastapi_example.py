"""The documented transport in a FastAPI file, run by uvicorn: with a `serve` and without one."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import psutil

from tests.fakes.audio import tone_source
from tests.fakes.caller import FakeCaller
from tests.fakes.serve import ServeProcess, environment
from tests.support import DEADLINE_S, ROOT, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

READY = re.compile(rb"running on (http://\S+)")


class Application:
    """uvicorn with the example; `url`, and the process."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self.process = process

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    async def end(self) -> None:
        self.process.terminate()
        await asyncio.to_thread(self.process.wait, DEADLINE_S)


@contextlib.asynccontextmanager
async def example(runtime_dir: Path, log: Path) -> AsyncIterator[Application]:
    settings = {
        "BACKBEAT_RUNTIME_DIR": str(runtime_dir),
        "BACKBEAT_ICE_ADDRESS": "127.0.0.1",
        "BACKBEAT_PRIORITY": "none",
        "BACKBEAT_WORKERS": "1",
        "BACKBEAT_SPARE_WORKERS": "0",
        "BACKBEAT_WORKER_STALL_MS": "10000",
    }
    arguments = ["-m", "uvicorn", "engine.examples.fastapi_echo:app", "--port", "0"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], stderr=output, cwd=ROOT, env=environment(**settings)
        )
    try:
        await until(lambda: READY.search(log.read_bytes()), what="uvicorn")
        found = READY.search(log.read_bytes())
        assert found is not None
        yield Application(found[1].decode(), process)
    finally:
        process.kill()
        process.wait()


async def test_it_brings_its_engine_and_takes_it_and_the_calls_along(
    runtime_dir: Path, tmp_path: Path
) -> None:
    async with example(runtime_dir, tmp_path / "log") as application:
        async with FakeCaller(application.url, tone_source(440)) as caller:
            await caller.hears(440)
            workers = application.children()
            assert workers
            await application.end()
        _, alive = await asyncio.to_thread(psutil.wait_procs, workers, DEADLINE_S)
        assert not alive


async def test_a_serve_on_this_machine_carries_its_calls(
    serve: ServeProcess, tmp_path: Path
) -> None:
    async with (
        example(serve.runtime_dir, tmp_path / "log") as application,
        FakeCaller(application.url, tone_source(440)) as caller,
    ):
        await caller.hears(440)
        assert application.children() == []
        assert serve.url != application.url


async def test_an_offer_that_is_none_is_the_callers_fault(
    runtime_dir: Path, tmp_path: Path
) -> None:
    async with (
        example(runtime_dir, tmp_path / "log") as application,
        httpx.AsyncClient(base_url=application.url, trust_env=False, timeout=20) as http,
    ):
        for body in ({}, {"sdp": "v=0"}, {"sdp": "v=0", "type": "answer"}):
            answer = await http.post("/api/offer", json=body)
            assert 400 <= answer.status_code < 500, body
