"""The far end of dialled WebSockets: one process, one timer, a note of every message that came.

It obeys JSON lines on standard input (`COMMANDS`). The timer cuts 40 ms into slots; in its slot a
connection that is spoken to gets the next 40 ms of speech. How late the slots were is noted too:
whoever reads the notes throws a window away in which the far end was not punctual.
"""

from __future__ import annotations

import argparse
import array
import asyncio
import gc
import os
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from ipc.frames import OutputAudioRawFrame  # noqa: E402
from ipc.loop import new_runner  # noqa: E402
from ipc.serializers import ProtobufFrameSerializer  # noqa: E402
from scripts.benchmarks import chunks, commands, light_link, speech, wire  # noqa: E402
from scripts.benchmarks.light_link import Link  # noqa: E402
from scripts.benchmarks.priority import raise_priority  # noqa: E402
from scripts.benchmarks.timer import AbsoluteTimer  # noqa: E402

COMMANDS = ("state", "speak", "settle", "begin", "end")
CHUNK_MS = 40
SLOTS = 20
SLOT_NS = CHUNK_MS * 1_000_000 // SLOTS
READ_EVERY = 4
"""Slots between two reads of a connection: 8 ms. The kernel notes when what is read had come."""
MAX_NOTES = 1_000_000
BACKLOG = 256


class FarEnd:
    """All connections of this process."""

    def __init__(self, priority: str, tls: ssl.SSLContext | None, hz: int, channels: int) -> None:
        """What is said has `hz` and `channels`."""
        self._priority = priority
        self._tls = tls
        self._frames = _speech(hz, channels)
        self._links: set[Link] = set()
        self._slots: list[list[Link]] = [[] for _ in range(SLOTS)]
        self._place: dict[Link, int] = {}
        self._accepted = self._ended = 0
        self._notes: list[tuple[int, bytes, int]] = []
        self._overflow = 0
        self._lateness = array.array("q")
        self._due = array.array("q")
        self._speaking = True
        self._recording = False
        self._refused_before = self._unstamped_before = 0
        self._gone_refused = self._gone_unstamped = 0
        self._begun = wire.measure_offset()
        self._loop = asyncio.get_running_loop()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self._loop.add_reader(self._listener, self._accept)
        self._timer = AbsoluteTimer(SLOT_NS, self._tick)

    # -- connections ----------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if self._tls is not None:
            sock.setblocking(False)
            sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        link = Link(sock, self._note)
        self._links.add(link)
        self._loop.add_reader(sock, self._read, link)

    def _read(self, link: Link) -> None:
        was_open = link.open
        alive = link.read()
        if link.open and not was_open:
            # From now on it is read on the timer: whoever sends to it wakes nobody up.
            self._loop.remove_reader(link.sock)
            place = min(range(SLOTS), key=lambda slot: len(self._slots[slot]))
            self._slots[place].append(link)
            self._place[link] = place
            self._accepted += 1
        if alive:
            return
        self._loop.remove_reader(link.sock)
        self._links.discard(link)
        place_of = self._place.pop(link, None)
        if place_of is not None:
            self._slots[place_of].remove(link)
            self._ended += 1
        self._gone_refused += link.refused
        self._gone_unstamped += link.unstamped
        link.close()

    def _note(self, link: Link, _opcode: int, head: bytes, when_ns: int) -> None:
        if not self._recording:
            return
        if len(self._notes) >= MAX_NOTES:
            self._overflow += 1
            return
        self._notes.append((link.number, head, when_ns))

    def _tick(self, number: int, due_ns: int) -> None:
        if self._recording and self._place:
            self._lateness.append(time.monotonic_ns() - due_ns)
            self._due.append(due_ns)
        for slot in range(number % READ_EVERY, SLOTS, READ_EVERY):
            for link in [*self._slots[slot]]:
                self._read(link)
        links = self._slots[number % SLOTS]
        if not links:
            return
        if self._speaking:
            turn, frames = number // SLOTS, self._frames
            for link in links:
                link.say(frames[(turn + 7 * link.number) % len(frames)])

    # -- commands -------------------------------------------------------------------------

    async def state(self) -> dict[str, Any]:
        """How many connections there are, and were."""
        return {
            "port": self.port,
            "open": len(self._place),
            "accepted": self._accepted,
            "ended": self._ended,
        }

    async def speak(self, on: bool) -> dict[str, Any]:
        """Whether speech is sent from now on."""
        self._speaking = on
        return {"speaking": on}

    async def settle(self) -> dict[str, Any]:
        """Have no collection of garbage in the window; some 10 ms, before it begins."""
        gc.collect()
        gc.freeze()
        gc.disable()
        return {}

    async def begin(self) -> dict[str, Any]:
        """Forget what was noted and begin a window."""
        self._notes = []
        self._overflow = 0
        self._lateness, self._due = array.array("q"), array.array("q")
        self._refused_before, self._unstamped_before = self._refused(), self._unstamped()
        self._begun = wire.measure_offset()
        self._recording = True
        return {}

    async def end(self, file: str) -> dict[str, Any]:
        """End the window and write all notes to `file` (npz)."""
        self._recording = False
        ended = wire.measure_offset()
        rows = [(number, *chunks.read_head(head), when_ns) for number, head, when_ns in self._notes]
        np.savez(
            file,
            rows=np.array(rows, np.int64).reshape(-1, 4),
            lateness_ns=np.array(self._lateness, np.int64),
            due_ns=np.array(self._due, np.int64),
            offsets=np.array(
                [
                    [self._begun.monotonic_ns, self._begun.offset_ns, self._begun.error_ns],
                    [ended.monotonic_ns, ended.offset_ns, ended.error_ns],
                ],
                np.int64,
            ),
        )
        gc.enable()
        return {
            "messages": len(rows),
            "overflow": self._overflow,
            "refused": self._refused() - self._refused_before,
            "unstamped": self._unstamped() - self._unstamped_before,
            "priority": self._priority,
            "timer": self._timer.kind,
        }

    def _refused(self) -> int:
        return self._gone_refused + sum(link.refused for link in self._links)

    def _unstamped(self) -> int:
        return self._gone_unstamped + sum(link.unstamped for link in self._links)

    def close(self) -> None:
        """Drop everything."""
        self._timer.close()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for link in self._links:
            self._loop.remove_reader(link.sock)
            link.close()
        self._links.clear()


def _speech(hz: int, channels: int) -> list[bytes]:
    """Speech as frames on the wire, a chunk each."""
    size = hz * CHUNK_MS // 1000
    samples = speech.continuous(hz)
    serializer = ProtobufFrameSerializer()
    frames = []
    for piece in samples[: len(samples) // size * size].reshape(-1, size):
        pcm = np.repeat(piece, channels).tobytes()
        message = serializer.encode(OutputAudioRawFrame(pcm, hz, channels))
        assert message is not None
        frames.append(light_link.frame(light_link.BINARY, message))
    return frames


async def serve(arguments: argparse.Namespace) -> None:
    """Obey standard input until it ends."""
    tls = None
    if arguments.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(arguments.tls)
    priority = raise_priority(1) if arguments.priority else "none"
    far_end = FarEnd(priority, tls, arguments.hz, arguments.channels)
    try:
        await commands.obey(far_end, COMMANDS)
    finally:
        far_end.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A light far end; see scripts/bench.")
    parser.add_argument("--priority", action="store_true", help="ask for real-time priority")
    parser.add_argument("--tls", help="PEM file with a key and its certificates")
    parser.add_argument("--hz", type=int, default=16_000, help="rate of what is said")
    parser.add_argument("--channels", type=int, default=1, help="channels of what is said")
    with new_runner() as runner:
        runner.run(serve(parser.parse_args()))
    os._exit(0)
