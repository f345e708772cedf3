"""Dials a far end and does nothing but send on time: the far end is calibrated against it.

Prints a line when all connections are open, and ends when it is terminated.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ipc.frames import OutputAudioRawFrame  # noqa: E402
from ipc.loop import new_runner  # noqa: E402
from ipc.serializers import ProtobufFrameSerializer  # noqa: E402
from scripts.benchmarks import light_link  # noqa: E402
from scripts.benchmarks.light_link import Link  # noqa: E402
from scripts.benchmarks.priority import raise_priority  # noqa: E402
from scripts.benchmarks.timer import AbsoluteTimer  # noqa: E402

HZ = 24_000
CHUNK_MS = 40
SLOTS = 20
SLOT_NS = CHUNK_MS * 1_000_000 // SLOTS


def ignore(_link: Link, _opcode: int, _head: bytes, _when_ns: int) -> None:
    """What comes is of no use here."""


async def main(port: int, count: int) -> None:
    """Send until SIGTERM."""
    raise_priority(2)
    message = ProtobufFrameSerializer().encode(
        OutputAudioRawFrame(bytes(2 * HZ * CHUNK_MS // 1000), HZ, 1)
    )
    assert message is not None
    frame = light_link.frame(light_link.BINARY, message, masked=True)
    slots: list[list[Link]] = [[] for _ in range(SLOTS)]
    for number in range(count):
        sock = light_link.dial("127.0.0.1", port, number)
        slots[number % SLOTS].append(Link(sock, ignore, number=number))

    def tick(number: int, _due_ns: int) -> None:
        links = slots[number % SLOTS]
        for link in links:
            link.say(frame)
        for link in links:
            link.read()

    timer = AbsoluteTimer(SLOT_NS, tick)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    print(f"http://127.0.0.1:{port}", flush=True)
    await stopping.wait()
    timer.close()
    for link in (link for links in slots for link in links):
        link.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Sends on time; see scripts/bench.")
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    with new_runner() as runner:
        runner.run(main(arguments.port, arguments.count))
