"""How the bytes of WebSockets are read: when they come, or, with many, in the slots.

To be woken for each message of each of many servers costs more than the messages do. So with many
sessions the loop does not look at their sockets: in the slots one call of the system tells which
of them have something. TLS stays the loop's, and so does whatever ends.
"""

from __future__ import annotations

import contextlib
import select
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

# So many are read before the time is looked at again.
BATCH = 8


class Read(Protocol):
    """A connection, as far as its socket goes."""

    def read_in_slots(self, on: bool) -> None:
        """Who reads it from now on: the slots by `receive`, or the loop."""
        ...

    def receive(self) -> bool:
        """Take what has come; whether more may be there."""
        ...


class Reading:
    """The sockets of a worker's connections."""

    def __init__(self) -> None:
        self._descriptors: dict[Read, int] = {}
        self._by_descriptor: dict[int, Read] = {}
        # The system's list of those that have something; None while the loop looks at them.
        self._ready: select.epoll | None = None
        # Whether some of it was left to the next slot.
        self.left = False

    def join(self, connection: Read, descriptor: int) -> None:
        """This one may be read either way until it leaves."""
        self._descriptors[connection] = descriptor
        if self._ready is not None:
            self._take(self._ready, connection, descriptor)

    def leave(self, connection: Read) -> None:
        """From now on the loop alone reads it. Safe when it is not in."""
        descriptor = self._descriptors.pop(connection, -1)
        if self._ready is not None and self._by_descriptor.get(descriptor) is connection:
            del self._by_descriptor[descriptor]
            with contextlib.suppress(OSError):  # it may be closed
                self._ready.unregister(descriptor)
            connection.read_in_slots(False)

    def watch(self, watching: bool) -> None:
        """Whether each is read when something comes, or in the slots only."""
        if watching is (self._ready is None) or not hasattr(select, "epoll"):
            return
        if not watching:
            self._ready = select.epoll()
            for connection, descriptor in [*self._descriptors.items()]:
                self._take(self._ready, connection, descriptor)
        elif self._ready is not None:
            self._ready.close()
            self._ready, self.left = None, False
            given, self._by_descriptor = self._by_descriptor, {}
            for connection in given.values():
                connection.read_in_slots(False)

    def _take(self, ready: select.epoll, connection: Read, descriptor: int) -> None:
        try:
            ready.register(descriptor, select.EPOLLIN)
        except OSError:
            return  # closed this moment: the loop knows
        self._by_descriptor[descriptor] = connection
        connection.read_in_slots(True)

    def receive(self, is_late: Callable[[], bool]) -> None:
        """In a slot: take what has come, until the slot is over. Nothing while the loop does."""
        ready = self._ready
        if ready is None:
            return
        self.left = False
        # The system puts those that it has named behind the others: all get their turn.
        for _ in range(len(self._by_descriptor) // BATCH + 1):
            found = ready.poll(0, BATCH)
            for descriptor, _ in found:
                connection = self._by_descriptor.get(descriptor)
                if connection is not None and connection.receive():
                    self.left = True
            if len(found) < BATCH:
                return
            if is_late():
                self.left = True
                return
