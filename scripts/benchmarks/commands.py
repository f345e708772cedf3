"""JSON lines between the bench and a process that it commands: one command, one answer.

`Commanded` is the bench's side, `obey` the other one. A process that is not told anything any
more ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

COMMAND_DEADLINE_S = 90.0
END_S = 10


class CommandFailed(RuntimeError):
    """What was asked could not be done; the text says what to look at."""


class Commanded:
    """Commands for one process; `who` names it in what is raised."""

    def __init__(self, process: subprocess.Popen[bytes], who: str) -> None:
        self._process = process
        self._who = who
        self._ended = f"the process of {who} has ended; its error is above"
        self.pid = process.pid

    def tell(self, name: str, **arguments: Any) -> None:
        """Give a command and do not wait for the answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": name, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise CommandFailed(
                f"the process of {self._who} has ended; its error is above"
            ) from None

    def ask(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Give a command and wait for the answer. Raises CommandFailed."""
        self.tell(name, **arguments)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The answer to the oldest command that has none. Raises CommandFailed."""
        assert self._process.stdout is not None
        line = b""
        deadline = time.monotonic() + COMMAND_DEADLINE_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise CommandFailed(
                        f"{self._who} did not answer in {COMMAND_DEADLINE_S:g} s; "
                        "the machine may be overloaded: try fewer sessions"
                    )
                piece = os.read(self._process.stdout.fileno(), 65536)
                if not piece:
                    raise CommandFailed(self._ended)
                line += piece
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise CommandFailed(answer["error"])
        return answer


@contextlib.contextmanager
def running(file: Path, options: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that obeys; it ends when nobody commands it any more."""
    process = subprocess.Popen(
        [sys.executable, "-P", str(file), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


async def obey(target: object, names: Sequence[str]) -> None:
    """Call those methods of `target` as standard input says, until it ends or says `quit`."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command: dict[str, Any] = json.loads(line)
        name = command.pop("do")
        if name not in names:
            return
        try:
            answer = await getattr(target, name)(**command)
        except Exception as error:  # told to whoever commands; the process goes on
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
