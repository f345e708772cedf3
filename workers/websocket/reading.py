"""How the bytes of WebSockets are read: when they come, or, with many, in the slots.

To be woken for each message of each of many servers costs more than the messages do. So with many
sessions the loop does not look at their sockets: in the slots one call of the system tells which
of them have something. TLS stays the loop's, and so does whatever ends.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

# So many are read before the time is looked at again.
BATCH = 8
# What one slot reads of one connection: so many pieces.
MAX_READS = 4
PIECE_BYTES = 16 << 10


class Reader:
    """One connection's socket, as far as reading goes."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        """`take` gets what the slots read."""
        self._take = take
        self._transport: asyncio.Transport | None = None
        self._reading: Reading | None = None
        # While it may be read in the slots; -1 for what only the loop can.
        self._descriptor = -1
        self._in_slots = False
        self._held = False

    def begin(self, transport: asyncio.Transport) -> None:
        """There is a path, which the loop reads."""
        self._transport = transport

    def join(self, reading: Reading) -> None:
        """From now on the slots may read it, if its bytes are the messages'."""
        self._descriptor = _descriptor(self._transport)
        if self._descriptor >= 0:
            self._reading = reading
            reading.join(self, self._descriptor)

    def leave(self) -> None:
        """From now on the loop alone reads it."""
        if self._reading is not None:
            self._reading.leave(self)
            self._reading, self._descriptor = None, -1

    def end(self) -> None:
        """The connection is lost."""
        self._transport = None
        self._take = lambda _data: None
        self.leave()

    def hold(self) -> None:
        """Too much waits: nobody reads until `release`."""
        self._held = True
        if self._transport is not None:
            self._transport.pause_reading()

    def release(self) -> None:
        """There is room again."""
        self._held = False
        self._regulate()

    def read_in_slots(self, on: bool) -> None:
        """Who reads it from now on: the slots by `receive`, or the loop."""
        self._in_slots = on
        self._regulate()

    def _regulate(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._in_slots or self._held:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def receive(self) -> bool:
        """In a slot: take what has come, if the loop does not; whether more may be there."""
        transport = self._transport
        for _ in range(MAX_READS):
            # The number of a socket that was closed may be another's by now.
            if not self._in_slots or self._held or transport is None or transport.is_closing():
                return False
            try:
                data = os.read(self._descriptor, PIECE_BYTES)
            except BlockingIOError:
                return False
            except OSError:
                data = b""
            if not data:  # the loop, which finds the same, ends it
                self.leave()
                return False
            self._take(data)
            if len(data) < PIECE_BYTES:
                return False
        return True


class Reading:
    """The sockets of a worker's connections."""

    def __init__(self) -> None:
        self._descriptors: dict[Reader, int] = {}
        self._by_descriptor: dict[int, Reader] = {}
        # The system's list of those that have something; None while the loop looks at them.
        self._ready: select.epoll | None = None
        # Whether some of it was left to the next slot.
        self.left = False

    def join(self, reader: Reader, descriptor: int) -> None:
        """This one may be read either way until it leaves."""
        self._descriptors[reader] = descriptor
        if self._ready is not None:
            self._take(self._ready, reader, descriptor)

    def leave(self, reader: Reader) -> None:
        """From now on the loop alone reads it. Safe when it is not in."""
        descriptor = self._descriptors.pop(reader, -1)
        if self._ready is not None and self._by_descriptor.get(descriptor) is reader:
            del self._by_descriptor[descriptor]
            with contextlib.suppress(OSError):  # it may be closed
                self._ready.unregister(descriptor)
            reader.read_in_slots(False)

    def watch(self, watching: bool) -> None:
        """Whether each is read when something comes, or in the slots only."""
        if watching is (self._ready is None) or not hasattr(select, "epoll"):
            return
        if not watching:
            self._ready = select.epoll()
            for reader, descriptor in [*self._descriptors.items()]:
                self._take(self._ready, reader, descriptor)
        elif self._ready is not None:
            self._ready.close()
            self._ready, self.left = None, False
            given, self._by_descriptor = self._by_descriptor, {}
            for reader in given.values():
                reader.read_in_slots(False)

    def _take(self, ready: select.epoll, reader: Reader, descriptor: int) -> None:
        try:
            ready.register(descriptor, select.EPOLLIN)
        except OSError:
            return  # closed this moment: the loop knows
        self._by_descriptor[descriptor] = reader
        reader.read_in_slots(True)

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
                reader = self._by_descriptor.get(descriptor)
                if reader is not None and reader.receive():
                    self.left = True
            if len(found) < BATCH:
                return
            if is_late():
                self.left = True
                return


def _descriptor(transport: asyncio.Transport | None) -> int:
    """Of the socket, whose bytes are the messages'; -1 when there is TLS between, or no socket."""
    if transport is None or transport.get_extra_info("sslcontext") is not None:
        return -1
    found = transport.get_extra_info("socket")
    return int(found.fileno()) if found is not None else -1
