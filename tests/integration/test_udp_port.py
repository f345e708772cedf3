"""All calls of a worker go through one UDP port, which a firewall can be opened for."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
from typing import TYPE_CHECKING

from tests.fakes.audio import tone_source
from tests.fakes.caller import FakeCaller
from tests.fakes.serve import ServeProcess
from tests.fakes.wait import eventually

if TYPE_CHECKING:
    from pathlib import Path

POOL = 3  # one worker, its spare, and one while it is replaced


def free_ports() -> int:
    """The first of so many UDP ports that are free just now."""
    while True:
        # Below those that systems give to whoever asks for any: other tests get such all the time.
        first = random.randrange(20_000, 32_000)
        try:
            for port in range(first, first + POOL):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


def ports_of(sdp: str) -> set[int]:
    """The ports that an answer's candidates name."""
    return {int(port) for port in re.findall(r"a=candidate:\S+ 1 udp \d+ \S+ (\d+)", sdp)}


async def test_calls_share_a_port_of_the_pool_and_a_new_worker_takes_another(
    runtime_dir: Path,
) -> None:
    first = free_ports()
    async with ServeProcess(runtime_dir, "--udp-port", str(first), spares=1) as serve:
        await serve.settled()
        (before,) = (await serve.workers()).values()
        async with (
            FakeCaller(serve.url, tone_source(440)) as one,
            FakeCaller(serve.url, tone_source(660)) as two,
        ):
            await one.hears(440)
            await two.hears(660)
            used = ports_of(one.answers[-1]) | ports_of(two.answers[-1])
            assert len(used) == 1
            assert used <= set(range(first, first + POOL))
        os.kill(before, signal.SIGKILL)

        async def replaced() -> bool:
            return before not in (await serve.workers()).values()

        await eventually(replaced, "another worker")
        await serve.settled()
        async with FakeCaller(serve.url, tone_source(440)) as three:
            await three.hears(440)
            assert ports_of(three.answers[-1]) < set(range(first, first + POOL))
            assert ports_of(three.answers[-1]) != used


async def test_callers_are_told_the_public_address(runtime_dir: Path) -> None:
    async with ServeProcess(runtime_dir, "--public-address", "203.0.113.7") as serve:
        await serve.settled()
        caller = FakeCaller(serve.url)
        try:
            await caller.dial()
            assert " 203.0.113.7 " in caller.answers[-1]
            assert "127.0.0.1" not in caller.answers[-1].replace("IN IP4 127.0.0.1", "")
        finally:
            await caller.close()
