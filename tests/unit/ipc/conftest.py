"""Rings over plain memory, with and without the fence of CPUs that reorder stores; channels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
import zmq

from ipc import bot_ring, worker_ring
from ipc.audio_ring import BotRing, RingSpec, WorkerRing, size_bytes
from ipc.fence import lock_fence, no_fence
from ipc.sockets import open_socket
from tests.support import LoopErrors
from tests.unit.ipc.channel_sides import ENDPOINT, Raw, Side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ipc.sockets import Context

KEY = bytes(range(16))
# The smallest rings there are: 320 samples, of which 160 are mirrored.
TINY = RingSpec(key=KEY, epoch=3, mic_hz=8_000, speaker_hz=8_000, mic_ms=40, speaker_ms=40)


@dataclass
class Ends:
    """Both ends of one session's rings."""

    spec: RingSpec
    buffer: memoryview
    worker: WorkerRing
    bot: BotRing


def make_ends(spec: RingSpec) -> Ends:
    buffer = memoryview(bytearray(size_bytes(spec)))
    return Ends(spec, buffer, WorkerRing.format(buffer, spec, 11), BotRing(buffer))


@pytest.fixture(params=["no fence", "lock fence"])
def fence(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of ordering stores, whatever this machine needs."""
    wanted = no_fence if request.param == "no fence" else lock_fence
    for end in (bot_ring, worker_ring):
        monkeypatch.setattr(end, "fence", wanted)
    return str(request.param)


@pytest.fixture(params=[1, 2], ids=["mono", "stereo"])
def ends(request: pytest.FixtureRequest, fence: str) -> Iterator[Ends]:
    """Tiny rings, mono and stereo, each with and without the fence."""
    spec = replace(TINY, mic_channels=request.param, speaker_channels=request.param)
    made = make_ends(spec)
    yield made
    made.worker.release()
    made.bot.release()
    made.buffer.release()


@pytest.fixture
async def server(context: Context) -> AsyncIterator[Side]:
    errors = LoopErrors()
    side = Side(open_socket(context, zmq.ROUTER, bind=ENDPOINT))
    yield side
    await side.channel.close()
    assert errors.seen == [], "exceptions that escaped"


@pytest.fixture
async def client(context: Context, server: Side) -> AsyncIterator[Side]:
    side = Side(open_socket(context, zmq.DEALER, connect=ENDPOINT))
    yield side
    await side.channel.close()


@pytest.fixture
def raw(context: Context, server: Side) -> Iterator[Raw]:
    with open_socket(context, zmq.DEALER, connect=ENDPOINT) as socket:
        yield Raw(socket)
