"""A worker's end of the process that decodes sound files for it (`workers.sound_process`).

Started before the worker's beat begins, for to start a process holds it up. Samples come in
anonymous memory, which is mapped and never copied.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import mmap
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ipc.errors import ConfigError
from workers.audio.sound import Sound

log = logging.getLogger(__name__)

PROGRAM = Path(__file__).with_name("sound_process.py")
ANSWER_BYTES = 4_096
# The process gives up before, whatever the file is.
DEADLINE_S = 60.0


class LoaderGone(Exception):
    """The process has ended, by itself or with `close`."""


class SoundLoader:
    """One file at a time. `close` ends the process and what it works on."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            theirs.set_inheritable(True)
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(PROGRAM), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._socket.setblocking(False)
        self._numbers = itertools.count()
        self._turn = asyncio.Lock()
        self._waiting: asyncio.Future[dict[str, object]] | None = None
        self._descriptor = -1
        self._number = -1
        self._closed = False
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    async def load(self, file: BinaryIO, path: str, hz: int, channels: int, *, loop: bool) -> Sound:
        """Decode an open file as `sound.load` does. Raises ConfigError, LoaderGone."""
        async with self._turn:
            if self._closed:
                raise LoaderGone
            self._waiting = asyncio.get_running_loop().create_future()
            self._number = next(self._numbers)
            request = {
                "number": self._number,
                "path": path,
                "hz": hz,
                "channels": channels,
                "loop": loop,
            }
            try:
                socket.send_fds(self._socket, [json.dumps(request).encode()], [file.fileno()])
                async with asyncio.timeout(DEADLINE_S):
                    answer = await self._waiting
            except OSError as error:  # a TimeoutError is one, too
                raise LoaderGone from error
            length = answer.get("length")
            if not isinstance(length, int):
                message, code = str(answer.get("message")), str(answer.get("code"))
                raise ConfigError(f"the sound file {path!r}: {message}"[:300], code=code)
            return _mapped(self._descriptor, hz, length, channels)

    def _readable(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, ANSWER_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if not data:
            log.warning("the process that decodes sound files has ended")
            self.close()
            return
        answer = json.loads(data)
        waiting = self._waiting
        if waiting is None or waiting.done() or answer["number"] != self._number:
            for descriptor in descriptors:
                os.close(descriptor)
            return
        self._descriptor = descriptors[0] if descriptors else -1
        waiting.set_result(answer)

    def close(self) -> None:
        """End the process."""
        if self._closed:
            return
        self._closed = True
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()  # which ends it
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(LoaderGone())
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _mapped(descriptor: int, hz: int, length: int, channels: int) -> Sound:
    """The samples that lie there, and the descriptor's end."""
    try:
        memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)
    samples = np.frombuffer(memory, np.int16)
    stereo = samples[length : 3 * length] if channels == 2 else None
    return Sound(hz, samples[:length], stereo)
