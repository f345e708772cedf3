"""Pipecat's unmodified JavaScript client in Chromium, for a test to drive.

The client is bundled by esbuild out of `tests/interop` and served from an origin of its own, so
that every request of it to the engine is one across origins, as it is for the people who use it.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.fakes.audio import HZ, pitch_hz, tone, write_wav
from tests.fakes.browser import browser_page, inside
from tests.fakes.serve import ServeProcess
from tests.fakes.wait import eventually
from tests.support import DEADLINE_S, ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from playwright.async_api import Page

INTEROP = ROOT / "tests" / "interop"
ESBUILD = INTEROP / "node_modules" / "esbuild" / "bin" / "esbuild"
CLIENTS = INTEROP / "node_modules" / "@pipecat-ai"
ENTRY = INTEROP / "pipecat_page.mjs"
# Free in a network namespace that nobody else uses.
PORT = 8000
ORIGIN = f"http://127.0.0.1:{PORT}"
MIC_HZ = 440.0
MIC_S = 10
# What the client over WebSocket takes all sound for.
SPEAKER_HZ = 24_000
# Chromium takes a steady tone for noise, and some 20 dB off it.
MIC_DB = -3.0
NEAR_HZ = 8.0
AUDIBLE_DB = -60.0
STEP_S = 45.0
MAX_CONSOLE = 80
MAX_LOG = 8000
LARGE = "x" * (60 * 1024)
HTML = '<!doctype html><meta charset="utf-8"><title>client</title><script src="page.js"></script>'


def bundle(folder: Path) -> Path:
    """The page with the client in it, in a folder that can be served; skips where it cannot be."""
    if shutil.which("node") is None:
        pytest.skip("there is no node")
    if not ESBUILD.is_file() or not CLIENTS.is_dir():
        pytest.skip("Pipecat's client is not installed (npm ci --ignore-scripts in tests/interop)")
    subprocess.run(
        [
            *("node", str(ESBUILD), str(ENTRY), "--bundle", "--format=iife"),
            *("--log-level=warning", "--platform=browser", f"--outfile={folder / 'page.js'}"),
        ],
        check=True,
        cwd=INTEROP,
        timeout=60,
    )
    (folder / "index.html").write_text(HTML)
    return folder


def microphone(folder: Path, hertz: float = MIC_HZ) -> Path:
    """A WAV file whose end joins its beginning, for Chromium's fake microphone."""
    path = folder / "tone.wav"
    write_wav(path, tone(hertz, MIC_S * HZ, db=MIC_DB))
    return path


class Client:
    """One client in one page. `engine` is the URL that it calls."""

    def __init__(self, page: Page, engine: str) -> None:
        self.page = page
        self.engine = engine
        self.console: list[str] = []
        page.on("console", lambda message: self.console.append(message.text[:300]))
        page.on("pageerror", lambda error: self.console.append(f"PAGE ERROR {error}"[:300]))

    async def make(self, **options: Any) -> None:
        """Open the page and make the client, with its microphone open."""
        await self.page.goto(f"{ORIGIN}/index.html")
        await self.run("options => rtvi.make(options)", options)

    async def run(self, expression: str, *arguments: Any) -> Any:
        """What a piece of JavaScript returns; the client waits for ever, a test does not."""
        async with asyncio.timeout(STEP_S):
            return await self.page.evaluate(expression, *arguments)

    async def health(self) -> dict[str, Any]:
        """What `/health/ready` says."""
        code = "url => fetch(url).then(response => response.json())"
        found: dict[str, Any] = await self.run(code, f"{self.engine}/health/ready")
        return found

    async def idle(self, timeout_s: float = DEADLINE_S) -> None:
        """Wait until the engine takes calls and has none."""

        async def ready() -> object:
            health = await self.health()
            return health["status"] == "ready" and health["sessions"] == 0

        await eventually(ready, "the engine is ready and has no sessions", timeout_s)

    async def start(self, **request: Any) -> dict[str, Any]:
        """`startBotAndConnect`: {"ready": what the bot said, "ms": how long it took}."""
        return await self._ready("start", f"{self.engine}/start", request)

    async def join(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """`connect` with what a start was answered; returns as `start`."""
        timed: dict[str, Any] = await self.run("found => rtvi.join(found)", parameters)
        return timed

    async def connect(self, request_data: Any = None) -> dict[str, Any]:
        """`connect` straight to the offer's endpoint; returns as `start`."""
        return await self._ready("connect", f"{self.engine}/api/offer", request_data)

    async def _ready(self, step: str, endpoint: str, data: Any) -> dict[str, Any]:
        code = f"([endpoint, data]) => rtvi.{step}(endpoint, data ?? undefined)"
        timed: dict[str, Any] = await self.run(code, [endpoint, data])
        return timed

    async def fails(self, step: str, endpoint: str) -> dict[str, Any]:
        """What `start` or `connect` is refused with: the error's name, message and status."""
        code = """([step, path]) => rtvi[step](path).then(
            () => { throw new Error('it was not refused'); },
            ({name, message, status}) => ({name, message, status: status ?? null}))"""
        refused: dict[str, Any] = await self.run(code, [step, f"{self.engine}{endpoint}"])
        return refused

    async def disconnect(self) -> None:
        await self.run("() => rtvi.client.disconnect()")

    async def open(self, timeout_s: float = DEADLINE_S) -> None:
        """Wait until the connection that the client has now can carry messages."""

        async def is_open() -> object:
            return await self.run("() => rtvi.transport.dc?.readyState") == "open"

        await eventually(is_open, "the data channel opens", timeout_s)

    async def reconnected(self, timeout_s: float) -> None:
        """Wait until the client has given up the connection it has now, and has another."""
        await self.run("() => { rtvi.before = rtvi.transport.pc; }")

        async def is_new() -> bool:
            return bool(await self.run("() => rtvi.transport.pc !== rtvi.before"))

        await eventually(is_new, "the client begins a new connection", timeout_s)
        await self.open()

    async def offer(self) -> str:
        """The origin line of the offer that was answered last; each offer has its own."""
        code = """() => rtvi.transport.pc.currentLocalDescription.sdp
            .split(/\\r?\\n/).find(line => line.startsWith('o='))"""
        line: str = await self.run(code)
        return line

    async def ask(self, kind: str, data: Any = None) -> Any:
        """The bot's answer to a client message."""
        return await self.run("([kind, data]) => rtvi.ask(kind, data)", [kind, data])

    async def said(self, callback: str) -> list[Any]:
        """What the client called this callback with so far."""
        found: list[Any] = await self.run("name => rtvi.of(name)", callback)
        return found

    async def hears(
        self, callback: str, times: int = 1, timeout_s: float = DEADLINE_S
    ) -> list[Any]:
        """The same, once it has been called so often."""

        async def enough() -> bool:
            return len(await self.said(callback)) >= times

        await eventually(enough, f"{callback} is called {times} times", timeout_s)
        return await self.said(callback)

    async def hears_tone(self, hertz: float, timeout_s: float = DEADLINE_S) -> None:
        """Wait until that is what the page plays of the bot."""

        async def heard() -> object:
            found = await self.run("() => rtvi.pitch()")
            return found["db"] > AUDIBLE_DB and abs(found["hz"] - hertz) < NEAR_HZ

        await eventually(heard, f"the page plays {hertz:g} Hz", timeout_s)

    async def receives_tone(self, hertz: float, timeout_s: float = DEADLINE_S) -> None:
        """Over WebSocket: wait until that is what the client hands to its player, at 24 kHz."""

        async def received() -> object:
            samples = np.array(await self.run("() => rtvi.speaker.received"), np.int16)
            return len(samples) >= SPEAKER_HZ // 2 and (
                abs(pitch_hz(samples, SPEAKER_HZ) - hertz) < NEAR_HZ
            )

        await self.run("() => { rtvi.speaker.received = []; }")
        await eventually(received, f"the client receives {hertz:g} Hz", timeout_s)

    async def bot_hears_tone(self, hertz: float = MIC_HZ, timeout_s: float = DEADLINE_S) -> None:
        """Wait until that is what the bot hears."""
        await self._bot(
            lambda found: abs(found["hz"] - hertz) < NEAR_HZ, f"{hertz:g} Hz", timeout_s
        )

    async def bot_hears_silence(self, timeout_s: float = DEADLINE_S) -> None:
        """Wait until the bot hears nothing any more."""
        await self._bot(lambda found: found["peak"] < 10, "silence", timeout_s)

    async def _bot(
        self, is_it: Callable[[dict[str, float]], bool], what: str, timeout_s: float
    ) -> None:
        async def heard() -> object:
            found = await self.ask("heard")
            return found["peak"] >= 0 and is_it(found)

        await eventually(heard, f"the bot hears {what}", timeout_s)


@asynccontextmanager
async def pipecat_client(
    engine: str, namespace: str, bundled: Path, scratch: Path, **options: Any
) -> AsyncIterator[Client]:
    """A client in a browser in the namespace; its microphone hears `MIC_HZ`."""
    server = await asyncio.create_subprocess_exec(
        *(*inside(namespace), sys.executable, "-u", "-m", "http.server", str(PORT)),
        *("--bind", "127.0.0.1", "--directory", str(bundled)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    client: Client | None = None
    try:
        assert server.stdout is not None
        async with asyncio.timeout(STEP_S):
            assert await server.stdout.readline(), "the page's server did not start"
        async with browser_page(namespace, microphone(scratch), scratch) as page:
            client = Client(page, engine)
            await client.make(**options)
            await client.idle()
            yield client
    except BaseException:
        if client is not None:
            print("the browser's console:", *client.console[-MAX_CONSOLE:], sep="\n  ")
        raise
    finally:
        server.terminate()
        await server.wait()


@asynccontextmanager
async def calling(
    bot: Path, runtime_dir: Path, namespace: str, bundled: Path, scratch: Path, **options: Any
) -> AsyncIterator[Client]:
    """A client of an engine that serves the bot in this file."""
    async with (
        ServeProcess(runtime_dir, "--bot", str(bot), prefix=inside(namespace)) as serve,
        pipecat_client(serve.url, namespace, bundled, scratch, **options) as client,
    ):
        try:
            yield client
        except BaseException:
            print("the engine's log:", serve.log()[-MAX_LOG:], sep="\n")
            raise
