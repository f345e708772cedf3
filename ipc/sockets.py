"""ZeroMQ sockets as every process opens and reads them.

Only `ipc://` (a path in a 0700 directory) and `inproc://`; bounded queues, no lingering, and
frames handed to a plain function by the event loop, without a task per socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, cast

import zmq

from ipc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]

# libzmq cuts the connection of a peer that sends more; below it, the channel answers with a code.
MAX_FRAME_BYTES = 8 << 20
MAX_PATH_BYTES = 107


def check_endpoint(endpoint: str) -> None:
    """Refuse endpoints that are open to others or that the system cannot bind."""
    scheme, separator, path = endpoint.partition("://")
    if scheme == "tcp":
        raise ConfigError(
            "tcp:// endpoints are refused: they would be open to the network without "
            "encryption; use the ipc:// endpoint of the runtime directory",
            code="tcp_refused",
        )
    if not separator or scheme not in ("ipc", "inproc") or not path:
        raise ConfigError(f"{endpoint!r} is not an ipc:// endpoint", code="endpoint")
    if scheme == "ipc" and len(path.encode()) > MAX_PATH_BYTES:
        raise ConfigError(f"{path} is longer than a socket's path may be", code="path_too_long")


def open_socket(
    context: Context,
    kind: int,
    *,
    bind: str | None = None,
    connect: str | None = None,
    queue: int = 1000,
    conflate: bool = False,
) -> Socket:
    """A socket bound or connected, holding at most `queue` messages each way.

    Raises ConfigError for endpoints that are refused or cannot be bound.
    """
    for endpoint in (bind, connect):
        if endpoint is not None:
            check_endpoint(endpoint)
    socket: Socket = context.socket(kind)
    try:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        if conflate:
            socket.setsockopt(zmq.CONFLATE, 1)
        else:
            socket.setsockopt(zmq.SNDHWM, queue)
            socket.setsockopt(zmq.RCVHWM, queue)
        if kind == zmq.ROUTER:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        if bind is not None:
            socket.bind(bind)
        if connect is not None:
            socket.connect(connect)
    except zmq.ZMQError as error:
        socket.close(0)
        raise ConfigError(f"{bind or connect}: {error}", code="endpoint") from error
    return socket


class SocketReader:
    """Hands a socket's incoming frames to a function, on the running event loop.

    libzmq's descriptor is edge-triggered: it must be drained until empty, and looked at again
    after every send (`look`).
    """

    BURST = 64

    def __init__(self, socket: Socket, on_frames: Callable[[list[bytes]], None]) -> None:
        self._socket = socket
        self._on_frames = on_frames
        self._loop = asyncio.get_running_loop()
        self._fd = cast(int, socket.getsockopt(zmq.FD))  # an option with an int value
        self._again: asyncio.Handle | None = None
        self._closed = False
        self._loop.add_reader(self._fd, self.drain)
        self._schedule()

    def look(self) -> None:
        """Call after a send on the socket, also after one that failed."""
        events = cast(int, self._socket.getsockopt(zmq.EVENTS))  # an option with an int value
        if self._again is None and events & zmq.POLLIN:
            self._schedule()

    def close(self) -> None:
        """Stop reading; the socket stays open."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(RuntimeError):  # the loop may be closed already
                self._loop.remove_reader(self._fd)
            if self._again is not None:
                self._again.cancel()

    def _schedule(self) -> None:
        self._again = self._loop.call_soon(self.drain)

    def drain(self) -> None:
        """Hand over what has come."""
        self._again = None
        for _ in range(self.BURST):
            if self._closed:
                return
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                self._on_frames(frames)
            except Exception:
                # What is left in the socket must still be read: no other edge announces it.
                log.exception("handling a message failed")
        # Others on this loop get their turn before the rest is read.
        if not self._closed:
            self._schedule()
