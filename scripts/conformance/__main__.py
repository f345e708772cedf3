"""Runs the original Autobahn test suite against both of our WebSocket ends; prints a table.

The suite needs Python 2.7 and is no dependency of ours: who wants to see it names an interpreter
that has it. Our ends are the real connections of the workers as echoes, without an engine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from ipc.errors import DialFailed  # noqa: E402 - the scripts run from their files
from ipc.websocket import MAX_MESSAGE_BYTES  # noqa: E402
from tests.fakes.websocket_echo import CallerEcho, dialled_echo  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

INSTALL = "python2.7 -m pip install --target DIRECTORY autobahntestsuite==0.8.2"
# The suite would listen on all of the machine's addresses.
WSTEST = """
from twisted.internet import reactor
listen = reactor.listenTCP
reactor.listenTCP = lambda port, factory, *_, **__: listen(port, factory, interface="127.0.0.1")
from autobahntestsuite.wstest import run
run()
"""
CATEGORIES = ("1", "2", "3", "4", "5", "6", "7", "9", "10")
COMPRESSION = ("12", "13")
CASE_S = 100.0
START_S = 30.0
SUITE_S = 3_600.0
PAUSE_S = 0.1
# UNIMPLEMENTED is the suite's word for compression that was declined; BOUNDED is ours.
GOOD = ("OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "BOUNDED")
POLICY, TOO_LARGE = 1008, 1009


class Suite:
    """The suite in a process of its own, which writes into `folder`."""

    def __init__(self, python: str, path: str, folder: Path, cases: list[str]) -> None:
        self._python = python
        self._folder = folder
        self._cases = cases
        self._environment = {**os.environ, "PYTHONPATH": path}

    def _arguments(self, mode: str, **settings: Any) -> list[str]:
        spec = self._folder / f"{mode}.json"
        given = {"cases": self._cases, "exclude-cases": [], "exclude-agent-cases": {}}
        spec.write_text(json.dumps(given | {"outdir": str(self._folder / mode)} | settings))
        return [self._python, "-c", WSTEST, "-w", "0", "-m", mode, "-s", str(spec)]

    @asynccontextmanager
    async def _run(self, arguments: list[str]) -> AsyncIterator[asyncio.subprocess.Process]:
        with (self._folder / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *arguments, cwd=self._folder, env=self._environment, stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def callers(self, path: str) -> dict[str, Any]:
        """It calls us."""
        async with CallerEcho() as echo:
            url = f"ws://127.0.0.1:{echo.port}/{path}?token=t"
            servers = [{"agent": "us", "url": url}]
            async with self._run(self._arguments("fuzzingclient", servers=servers)) as process:
                async with asyncio.timeout(SUITE_S):
                    await process.wait()
        return self._verdicts("fuzzingclient")

    async def dialled(self, port: int, *, compression: bool) -> dict[str, Any]:
        """We dial it."""
        url = f"ws://127.0.0.1:{port}"
        async with self._run(self._arguments("fuzzingserver", url=url)):
            count = await _count(url)
            for number in range(1, count + 1):
                leg = await dialled_echo(
                    f"{url}/runCase?case={number}&agent=us",
                    compression=compression,
                    max_message_bytes=MAX_MESSAGE_BYTES,
                )
                await leg.over(CASE_S)
            leg = await dialled_echo(f"{url}/updateReports?agent=us")
            await leg.over(CASE_S)
        return self._verdicts("fuzzingserver")

    def _verdicts(self, mode: str) -> dict[str, Any]:
        found = json.loads((self._folder / mode / "index.json").read_text())
        return dict(found["us"])


async def _count(url: str) -> int:
    """How many cases the server has, once it is there."""
    async with asyncio.timeout(START_S):
        while True:
            try:
                leg = await dialled_echo(f"{url}/getCaseCount")
            except DialFailed:
                await asyncio.sleep(PAUSE_S)
                continue
            await leg.over()
            return int(leg.messages[0])


def table(ends: dict[str, dict[str, Any]]) -> str:
    """The verdicts by category, and the cases that are not simply good."""
    lines = [
        "| category | end | cases | OK | non-strict | informational | declined | bounded | failed |"
    ]
    lines.append("|---" * 9 + "|")
    categories = sorted({case.split(".")[0] for found in ends.values() for case in found}, key=int)
    for category in categories:
        for end, found in ends.items():
            mine = [one for case, one in found.items() if case.split(".")[0] == category]
            said = Counter(verdict(one) for one in mine)
            good = " | ".join(str(said[word]) for word in GOOD)
            bad = sum(count for word, count in said.items() if word not in GOOD)
            if mine:
                lines.append(f"| {category} | {end} | {len(mine)} | {good} | {bad} |")
    for end, found in ends.items():
        for word in sorted({verdict(one) for one in found.values()} - {"OK"}):
            cases = [case for case, one in found.items() if verdict(one) == word]
            lines.append(f"{end}, {word}: {', '.join(sorted(cases, key=_order))}")
    return "\n".join(lines)


def verdict(one: dict[str, Any]) -> str:
    """The worse of what is said of messages and close; BOUNDED if we refused so much."""
    close: str = one["behaviorClose"]
    if one["behavior"] == "FAILED" and one["remoteCloseCode"] in (POLICY, TOO_LARGE):
        return "BOUNDED"
    return close if close not in GOOD else str(one["behavior"])


def _order(case: str) -> list[int]:
    return [int(part) for part in case.split(".")]


async def run(options: argparse.Namespace) -> int:
    """All that was asked for; the exit code."""
    here = asyncio.current_task()
    assert here is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, here.cancel)
    chosen = CATEGORIES + (COMPRESSION if options.compression else ())
    cases = options.cases or [f"{category}.*" for category in chosen]
    ends = {}
    with tempfile.TemporaryDirectory() as name:
        suite = Suite(options.python2, options.path, Path(name), cases)
        try:
            ends["caller"] = await suite.callers(options.caller_path)
            ends["dialled"] = await suite.dialled(options.port, compression=options.compression)
        except (OSError, TimeoutError) as error:
            log = Path(name) / "log"
            print(log.read_text()[-2_000:] if log.exists() else "", file=sys.stderr)
            print(f"the suite did not run: {error!r}; install it: {INSTALL}", file=sys.stderr)
            return 2
    print(table(ends))
    return int(any(verdict(one) not in GOOD for found in ends.values() for one in found.values()))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/autobahn", description=__doc__)
    parser.add_argument("--python2", default="python2.7", help=f"has the suite: {INSTALL}")
    parser.add_argument("--path", default="", help="the DIRECTORY into which it was installed")
    parser.add_argument("--cases", nargs="*", help="such as 1.* 7.7.1; all but compression")
    parser.add_argument("--compression", action="store_true", help="12 and 13 too, when we dial")
    parser.add_argument("--caller-path", default="ws", help="ws or ws-client")
    parser.add_argument("--port", type=int, default=19_001, help="for the suite to listen on")
    try:
        return asyncio.run(run(parser.parse_args()))
    except (asyncio.CancelledError, KeyboardInterrupt):
        return 2


if __name__ == "__main__":
    sys.exit(main())
