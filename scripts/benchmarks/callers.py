"""The callers' process: many light peers, one timer, notes of every packet that came.

It obeys JSON lines on standard input and answers with one on standard output each (`COMMANDS`
says which). The timer cuts 20 ms into slots; in its slot a caller sends a packet and takes what
has arrived. How late the slots were is noted too: whoever reads the notes throws a run away in
which the callers were not punctual.
"""

from __future__ import annotations

import argparse
import array
import asyncio
import contextlib
import gc
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
import numpy as np  # noqa: E402
from pylibsrtp import Error as SrtpError  # noqa: E402

from ipc.loop import new_runner  # noqa: E402
from scripts.benchmarks import commands, light_peer, light_socket, wire  # noqa: E402
from scripts.benchmarks.light_peer import LightPeer  # noqa: E402
from scripts.benchmarks.priority import raise_priority  # noqa: E402
from scripts.benchmarks.speech import Decoder  # noqa: E402
from scripts.benchmarks.timer import AbsoluteTimer  # noqa: E402
from tests.fakes.network import Faults  # noqa: E402
from workers.audio import red  # noqa: E402

SLOTS = 10
SLOT_NS = 20_000_000 // SLOTS
REPORT_EVERY = 50
AT_ONCE = 4
SETTLE_S = 0.1
MAX_NOTES = 2_000_000
"""Notes of one window: 64 MB, or 64 callers for ten minutes."""
COMMANDS = ("call", "timings", "begin", "end", "speak", "impair", "hang_up")


class Callers:
    """All callers of this process."""

    def __init__(self, priority: str) -> None:
        self._priority = priority
        self._peers: list[LightPeer] = []
        self._slots: list[list[LightPeer]] = [[] for _ in range(SLOTS)]
        self._notes = bytearray()
        self._used = 0
        self._overflow = 0
        self._probes: dict[int, list[tuple[bytes, bytes]]] = {}
        # By caller: ms since its offer for the answer and the connection; why it failed.
        self._calls: dict[int, dict[str, Any]] = {}
        self._offered: dict[int, int] = {}
        self._first: dict[int, int] = {}
        self._lateness = array.array("q")
        self._due = array.array("q")
        self._speaking = True
        self._recording = False
        self._impaired: list[LightPeer] = []
        self._timer = AbsoluteTimer(SLOT_NS, self._tick)
        self._begun = wire.measure_offset()
        self._sent_before = 0

    # -- on the timer ---------------------------------------------------------------------

    def _tick(self, number: int, due_ns: int) -> None:
        for peer in self._impaired:
            peer.pump()
        peers = self._slots[number % SLOTS]
        if not peers:
            return
        if self._recording:
            self._lateness.append(time.monotonic_ns() - due_ns)
            self._due.append(due_ns)
        if self._speaking:
            for peer in peers:
                peer.send()
        for peer in peers:
            peer.drain()
        frame = number // SLOTS
        for peer in peers:
            if (frame + peer.number) % REPORT_EVERY == 0:
                peer.report()

    def _note(self, number: int, data: bytes, when: bytes) -> None:
        if number not in self._first:
            self._first[number] = time.monotonic_ns()
        if not self._recording:
            return
        if self._used + wire.NOTE.size > len(self._notes):
            self._overflow += 1
            return
        wire.NOTE.pack_into(self._notes, self._used, data[:12], len(data), number, when)
        self._used += wire.NOTE.size
        kept = self._probes.get(number)
        if kept is not None:
            kept.append((data, when))

    # -- commands -------------------------------------------------------------------------

    async def call(
        self,
        url: str,
        count: int,
        *,
        gap_ms: float = 0.0,
        probes: int = 0,
        red_level: int = 0,
        request_data: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Place `count` calls, a few at once or one each `gap_ms`; failures tell why.

        With a `red_level` they offer RED, and send so many earlier packets in each.
        """
        began = time.monotonic()
        room = asyncio.Semaphore(count if gap_ms else AT_ONCE)
        errors: list[str] = []
        first = len(self._peers)
        async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as http:

            async def place(number: int) -> None:
                if gap_ms:
                    await asyncio.sleep((number - first) * gap_ms / 1000)
                async with room:
                    peer = LightPeer(number, self._note, red_level=red_level)
                    self._peers.append(peer)
                    call = self._calls[number] = {}
                    try:
                        await self._place(http, peer, call, request_data or {})
                    except (ConnectionError, httpx.HTTPError) as error:
                        call["error"] = _describe(error)
                        errors.append(call["error"])

            async with asyncio.TaskGroup() as tasks:
                for number in range(first, first + count):
                    tasks.create_task(place(number))
        for number in range(first, first + probes):
            self._probes[number] = []
        return {
            "live": sum(peer.live for peer in self._peers),
            "errors": errors[-3:],
            "failed": len(errors),
            "took_s": round(time.monotonic() - began, 3),
        }

    async def _place(
        self,
        http: httpx.AsyncClient,
        peer: LightPeer,
        call: dict[str, Any],
        request_data: dict[str, Any],
    ) -> None:
        offer = {
            "sdp": await peer.offer(),
            "type": "offer",
            "pc_id": None,
            "restart_pc": False,
            "request_data": request_data | {"caller": peer.number},
        }
        began = self._offered[peer.number] = time.monotonic_ns()
        response = await http.post("/api/offer", json=offer)
        response.raise_for_status()
        call["answer_ms"] = (time.monotonic_ns() - began) / 1e6
        await peer.accept(_sdp(response))
        call["connected_ms"] = (time.monotonic_ns() - began) / 1e6
        # The emptiest slot: speech of all callers is spread over the 20 ms.
        min(self._slots, key=len).append(peer)

    async def timings(self) -> dict[str, Any]:
        """Each call's set-up in ms since its offer, and why it failed."""
        for number, first_ns in self._first.items():
            self._calls[number]["first_ms"] = (first_ns - self._offered[number]) / 1e6
        return {"calls": [self._calls[number] for number in sorted(self._calls)]}

    async def begin(self) -> dict[str, Any]:
        """Forget what was noted and begin a window."""
        gc.collect()
        gc.freeze()
        gc.disable()
        if not self._notes:
            self._notes = bytearray(MAX_NOTES * wire.NOTE.size)
        await asyncio.sleep(SETTLE_S)  # the timer catches up with what the lines above took
        for peer in self._peers:
            peer.drain()
        self._used = self._overflow = 0
        self._lateness = array.array("q")
        self._due = array.array("q")
        for number, kept in self._probes.items():
            kept.clear()
            self._peers[number].log = []
        self._sent_before = sum(peer.sent for peer in self._peers)
        for peer in self._impaired:
            peer.mark()
        self._begun = wire.measure_offset()
        self._recording = True
        return {"monotonic_ns": self._begun.monotonic_ns, "offset_ns": self._begun.offset_ns}

    async def end(self, file: str) -> dict[str, Any]:
        """End the window and write all notes to `file` (npz)."""
        for peer in self._peers:
            peer.drain()
        self._recording = False
        ended = wire.measure_offset()
        arrays: dict[str, Any] = {
            "notes": np.frombuffer(self._notes, wire.NOTE_DTYPE, self._used // wire.NOTE.size),
            "lateness_ns": np.array(self._lateness, np.int64),
            "due_ns": np.array(self._due, np.int64),
            "offsets": np.array(
                [
                    [self._begun.monotonic_ns, self._begun.offset_ns, self._begun.error_ns],
                    [ended.monotonic_ns, ended.offset_ns, ended.error_ns],
                ],
                np.int64,
            ),
        }
        for number in self._probes:
            arrays |= self._decoded(number)
        np.savez(file, **arrays)
        gc.enable()
        return {
            "notes": self._used // wire.NOTE.size,
            "overflow": self._overflow,
            "sent": sum(peer.sent for peer in self._peers) - self._sent_before,
            "live": sum(peer.live for peer in self._peers),
            "speaking": self._speaking,
            "lost": [peer.lost(peer.red_level) for peer in self._impaired],
            "priority": self._priority,
            "timer": self._timer.kind,
            "kernel_time": light_socket.HAS_KERNEL_TIME,
        }

    def _decoded(self, number: int) -> dict[str, Any]:
        """What a probe heard: samples (packets, 960), arrival, sequence and payload sizes.

        What RED brought back stands before the packet that carried it.
        """
        peer = self._peers[number]
        decoder = Decoder()
        heard: list[Any] = []
        rows: list[tuple[int, int, int, bool]] = []
        newest: int | None = None
        for data, when in self._probes[number]:
            try:
                packet = peer.rx_srtp.unprotect(data)
            except SrtpError:
                continue
            sequence = int.from_bytes(packet[2:4], "big")
            missing = 0 if newest is None else (sequence - newest - 1) & 0xFFFF
            newest = sequence if missing < 0x8000 else newest
            seconds, nanoseconds = light_socket.TIMESPEC.unpack(when)
            for back, payload in _payloads(packet):
                if back > (missing if missing < 0x8000 else 0):
                    continue
                heard.append(decoder.decode(payload))
                arrival = seconds * 1_000_000_000 + nanoseconds
                rows.append(((sequence - back) & 0xFFFF, arrival, len(payload), back > 0))
        return {
            f"pcm_{number}": np.array(heard, np.int16).reshape(-1, 960),
            f"heard_{number}": np.array(rows, np.int64).reshape(-1, 4).T,
            f"sent_{number}": np.array(peer.log or [], np.int64).reshape(-1, 2).T,
        }

    async def speak(self, on: bool) -> dict[str, Any]:
        """Whether callers send speech from now on."""
        self._speaking = on
        return {"speaking": on}

    async def impair(self, faults: dict[str, float], seed: int) -> dict[str, Any]:
        """Put a network with faults between each caller and its server; media only."""
        self._impaired = list(self._peers)
        for peer in self._peers:
            peer.impair(Faults(**faults), seed + peer.number)  # type: ignore[arg-type]  # checked there
        return {"impaired": len(self._impaired)}

    async def hang_up(self) -> dict[str, Any]:
        """End every call."""
        peers, self._peers = self._peers, []
        self._slots = [[] for _ in range(SLOTS)]
        self._impaired = []
        self._probes.clear()
        self._first.clear()
        self._calls.clear()
        self._offered.clear()
        await asyncio.gather(*(peer.close() for peer in peers), return_exceptions=True)
        return {"closed": len(peers)}

    def close(self) -> None:
        """Stop the timer."""
        self._timer.close()


def _payloads(packet: bytes) -> list[tuple[int, bytes]]:
    """The Opus packets in an RTP packet, oldest first, and how many frames back each lies."""
    payload = packet[12 + 4 * (packet[0] & 0x0F) :]
    if packet[0] & 0x10:  # a header extension (RFC 3550 section 5.3.1)
        payload = payload[4 + 4 * int.from_bytes(payload[2:4], "big") :]
    if packet[1] & 0x7F != light_peer.RED_TYPE:
        return [(0, payload)]
    return [(block.back // light_peer.PACKET_TICKS, block.payload) for block in red.parse(payload)]


def _sdp(response: httpx.Response) -> str:
    try:
        return str(response.json()["sdp"])
    except (KeyError, TypeError, ValueError):
        raise ConnectionError(f"no SDP in the answer: {response.text[:100]!r}") from None


def _describe(error: Exception) -> str:
    """A failure in a line, the same for all calls that failed alike."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}: {error.response.text[:200]}"
    return f"{type(error).__name__}: {error}"


async def serve(priority: bool, address: str) -> None:
    """Obey standard input until it ends."""
    light_peer.install(address)
    callers = Callers(raise_priority(1) if priority else "none")
    try:
        await commands.obey(callers, COMMANDS)
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await callers.hang_up()
        callers.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Light callers; see scripts/bench.")
    parser.add_argument("--priority", action="store_true", help="ask for real-time priority")
    parser.add_argument("--address", default="127.0.0.1", help="where media is sent from")
    arguments = parser.parse_args()
    with new_runner() as runner:
        runner.run(serve(arguments.priority, arguments.address))
    # aiortc may leave threads of its executor; nothing is left to do here.
    os._exit(0)
