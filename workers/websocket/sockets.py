"""What all WebSockets of a worker share: the TLS context, and the list of those to drain.

Nothing is handled when it comes. A connection that received bytes says so here, and the
worker drains it in its next slot, when all that are due have sent. With many sessions the
slots read the sockets, too (`workers.websocket.reading`).
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from typing import TYPE_CHECKING, Protocol

from ipc.errors import ConfigError
from workers.audio.swresample import libswresample
from workers.websocket.reading import Reading

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

log = logging.getLogger(__name__)

# The kernel must not swallow seconds of speech that a flush could not reach any more.
SEND_BUFFER_BYTES = 32 << 10


class Drained(Protocol):
    """A connection, as the slot sees it."""

    def drain(self, now_ns: int) -> bool:
        """Handle some of what has come; whether more is left."""
        ...

    def failed(self) -> None:
        """Handling it failed, in the handler of the exception."""
        ...


class Sockets:
    """Made at the worker's start, for reading the authorities takes 20 ms."""

    def __init__(self, tls_ca_file: str = "") -> None:
        """Trust the system's authorities, and those in a PEM file. Raises ConfigError."""
        libswresample()  # loading it takes some ms, too
        self.tls = ssl.create_default_context()
        if tls_ca_file:
            try:
                self.tls.load_verify_locations(tls_ca_file)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"tls_ca_file: {error}", code="tls_ca_file") from error
        self._waiting: dict[Drained, None] = {}
        self.reading = Reading()

    @property
    def waiting(self) -> bool:
        """Whether there is something to handle."""
        return bool(self._waiting) or self.reading.left

    def add(self, connection: Drained) -> None:
        """It has received something."""
        self._waiting[connection] = None

    def drain(self, now_ns: int, is_late: Callable[[], bool] = lambda: False) -> None:
        """Handle what has come, of each connection no more than a slot has time for.

        When the slot is over (`is_late`), those that are left come first in the next one.
        """
        self.reading.receive(is_late)
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        again: list[Drained] = []
        left = iter(waiting)
        for connection in left:
            try:
                if connection.drain(now_ns):
                    again.append(connection)
            except Exception:
                log.exception("a WebSocket failed")
                connection.failed()
            if is_late():
                break
        self._waiting = dict.fromkeys([*left, *self._waiting, *again])


def shorten_queue(transport: asyncio.BaseTransport) -> None:
    """What is sent waits in the transport, where it is counted, rather than in the kernel."""
    found = transport.get_extra_info("socket")
    if found is not None:
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
