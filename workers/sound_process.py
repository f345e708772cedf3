"""Entry point of the process that decodes sound files for a worker, which starts it by this path.

A thread that decodes holds the interpreter's lock when the beat needs it, and where other
processes are busy it loses its core meanwhile. So it is done here, and each file in a child of
its own: whatever a file does to a decoder, it does to that alone. A request is JSON with the
open file; the answer is JSON with the samples in anonymous memory, or says what is wrong.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REQUEST_BYTES = 16_384
# No file of the size that is taken needs as long.
DEADLINE_S = 50


def main() -> None:
    """Serve the worker at the other end of the socket, until it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = socket.socket(fileno=int(sys.argv[1]))
    while True:
        data, files, _, _ = socket.recv_fds(worker, REQUEST_BYTES, 1)
        if not data:
            return
        request = json.loads(data)
        if not _decode(worker, request, files[0]):
            _answer(worker, request, code="sound_unreadable", message="its decoder broke down")
        os.close(files[0])


def _decode(worker: socket.socket, request: dict[str, Any], file: int) -> bool:
    """Have a child do it; False when it ended without an answer."""
    ended, ends = os.pipe()
    child = os.fork()
    if not child:
        os.close(ended)
        signal.alarm(DEADLINE_S)  # ends it
        status = 1
        with contextlib.suppress(BaseException):
            _work(worker, request, file)
            status = 0
        os._exit(status)
    os.close(ends)
    # Whatever the worker sends meanwhile, another request or its end, it does not want this any
    # more.
    readable, _, _ = select.select([ended, worker.fileno()], [], [])
    if ended not in readable:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(ended)
    return status == 0


def _work(worker: socket.socket, request: dict[str, Any], descriptor: int) -> None:
    sys.path.insert(0, str(ROOT))
    for package in ("ipc", "workers"):
        importlib.import_module(package)
    sys.path.remove(str(ROOT))
    from ipc.errors import ConfigError
    from workers.audio import sound

    try:
        with os.fdopen(os.dup(descriptor), "rb") as file:
            found = sound.load(
                request["path"],
                request["hz"],
                request["channels"],
                loop=request["loop"],
                file=file,
            )
    except ConfigError as error:
        _answer(worker, request, code=error.code, message=error.message)
        return
    with _memory() as memory:
        memory.write(found.mono)
        if found.stereo is not None:
            memory.write(found.stereo)
        memory.flush()
        _answer(worker, request, memory.fileno(), length=found.length)


def _memory() -> Any:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("sound", os.MFD_CLOEXEC), "wb")
    return tempfile.TemporaryFile()


def _answer(
    worker: socket.socket, request: dict[str, Any], *descriptors: int, **fields: object
) -> None:
    data = json.dumps({"number": request["number"], **fields}).encode()
    with contextlib.suppress(OSError):  # the worker is gone
        socket.send_fds(worker, [data], [*descriptors])


if __name__ == "__main__":
    main()
