"""`scripts/load_test` against a real engine and against nothing, as a user runs it."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from engine.sdk import Bot, Session
from tests.fakes.bot import serving
from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.serve import ServeProcess

LOAD_TEST = ROOT / "scripts" / "load" / "__main__.py"
# Nothing is judged by time here: the machine may be busy with other tests.
PATIENT = ("--max-own-late-ms", "100000")


async def load_test(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", str(LOAD_TEST), *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_calls_are_placed_measured_and_judged(serve: ServeProcess, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    bot = Bot("echo")

    @bot.session
    async def echo(session: Session) -> None:
        # What it missed while it stood still would delay all that it says afterwards.
        async for frame in session.audio(max_lag_ms=100):
            await session.play(frame)

    async with serving(bot, serve.endpoint):
        code, out, err = await load_test(
            serve.url, "--calls", "3", "--ramp", "0.3", "--duration", "3", "--mode", "echo",
            *PATIENT, "--min-received-percent", "5", "--json", str(file),
        )  # fmt: skip
        assert code == 0, out + err
        told: dict[str, Any] = json.loads(file.read_text())
        assert told["passed"] is True
        assert told["calls"] == {"asked": 3, "connected": 3, "live": 3}
        rows = {row["name"]: row for row in told["rows"]}
        assert rows["offer to first audio"]["count"] == 3
        assert rows["echo, wire to wire"]["count"] > 0
        assert rows["echo, wire to wire"]["values"]["p50"] > 0
        code, out, err = await load_test(
            serve.url, "--calls", "2", "--ramp", "0", "--duration", "1", "--max-setup-ms", "0.01",
            *PATIENT,
        )  # fmt: skip
        assert code == 1, out + err
        assert "FAILED: set-up" in err


async def test_a_server_that_is_not_there_or_has_no_bot_says_what_to_do(
    serve: ServeProcess,
) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        code, _, err = await load_test(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert code == 1
    assert "start the server" in err
    code, _, err = await load_test(serve.url, "--calls", "2")
    assert code == 1
    assert "503" in err
    assert "--bot NAME" in err
