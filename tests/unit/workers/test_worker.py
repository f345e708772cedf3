"""A worker's commands that fail: nothing of what they began is kept."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

import workers.worker
from ipc.bell import BellRopes
from ipc.messages import Offer, OpenRing, WorkerSettings
from tests.fakes.peer import FakePeer
from tests.support import until
from workers.pacer import Pacer
from workers.sounds import Sounds
from workers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ipc.clock import ManualClock

ID = "s_" + 32 * "0"


@pytest.fixture
def worker(clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker that was started without sockets."""
    FakePeer.made, FakePeer.gate = [], asyncio.Event()
    monkeypatch.setattr("workers.session.Peer", FakePeer)
    worker, parts = Worker("w", "inproc://nobody", "token"), cast("Any", SimpleNamespace())
    parts.notify = lambda _message: None
    parts.session_ended = lambda: None
    parts.received, parts.dropped = 0, {}
    worker._clock = clock  # type: ignore[assignment]  # a manual one
    worker._channel = worker._mux = worker._garbage = worker._streams = parts
    worker._sounds = Sounds()
    worker._ropes = BellRopes(tmp_path)
    worker._settings = cast("WorkerSettings", SimpleNamespace(mic_ms=1_000, speaker_ms=1_000))
    worker._pacer = Pacer(clock.now_ns(), on_fault=lambda _session: None)
    yield worker
    worker._sounds.close()


async def test_an_offer_that_is_given_up_leaves_no_session(worker: Worker) -> None:
    answering = asyncio.create_task(worker._offer(Offer(session=ID, sdp="one")))
    await until(lambda: FakePeer.made)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering

    assert worker._sessions == {}
    assert FakePeer.made[0].closed


async def test_an_offer_that_meets_a_fault_leaves_no_session(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(_peer: FakePeer, _sdp: str) -> str:
        raise RuntimeError("a fault")

    monkeypatch.setattr(FakePeer, "answer", answer)
    with pytest.raises(RuntimeError):
        await worker._offer(Offer(session=ID, sdp="one"))

    assert worker._sessions == {}


async def test_rings_that_cannot_be_made_let_go_of_the_bell(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise MemoryError

    session = worker._new_session(ID)
    monkeypatch.setattr(workers.worker, "Rings", fail)
    wanted = OpenRing(
        session=ID,
        epoch=1,
        media="shm",
        mic_hz=24_000,
        speaker_hz=24_000,
        mic_channels=1,
        speaker_channels=1,
        segment="bb" + 18 * "0",
        bell="bell-00000000",
    )
    with pytest.raises(MemoryError):
        worker._open_ring(wanted)

    assert worker._ropes._ropes == {}
    await session.close("end")
