"""CPU time of the rings, per 20 ms frame of 48 kHz mono."""

from __future__ import annotations

import os
import tempfile
import time
from typing import TYPE_CHECKING

import numpy as np
import zmq

from ipc import bot_ring, worker_ring
from ipc.audio_ring import BotRing, RingSpec, WorkerRing, size_bytes
from ipc.fence import lock_fence
from ipc.segment import Segment, new_name
from scripts.benchmarks.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES = 960
MUST_US = 1.5


def measure(frames: int, batches: int) -> Report:
    """Time every case in `batches` batches of `frames` frames."""
    spec = RingSpec(key=bytes(16), epoch=1)
    segment = Segment.create(new_name(os.urandom(4).hex()), size_bytes(spec))
    attached = Segment.attach(segment.name)
    segment.unlink()
    worker = WorkerRing.format(segment.buffer, spec, os.getpid())
    bot = BotRing(attached.buffer)
    # Noise, not zeros: nothing here may profit from an easy page.
    pcm = memoryview(np.random.default_rng(1).integers(0, 255, 2 * SAMPLES, np.uint8).tobytes())

    def speaker() -> None:
        bot.write_speaker(pcm)
        worker.take(SAMPLES)
        worker.commit(worker.taken, 1, 0, 0, 0)

    def mic() -> None:
        worker.write_mic(pcm)
        bot.read_mic(SAMPLES)

    def mic_view() -> None:
        worker.write_mic(pcm)
        bot.mic_view(SAMPLES)

    def flush() -> None:
        bot.write_speaker(pcm)
        bot.flush()
        worker.apply_flush()

    report = Report("Rings: CPU time per 20 ms frame (48 kHz mono, 1920 bytes)")
    pipe = _pipe(bytes(pcm), frames, batches)
    message = _zmq_ipc(bytes(pcm), frames // 10, batches)
    cases: list[tuple[str, Callable[[], None]]] = [
        ("speaker: write, take, commit with anchor", speaker),
        ("mic: write, read as bytes", mic),
        ("mic: write, read without a copy", mic_view),
        ("speaker: write, flush, apply", flush),
    ]
    for name, case in cases:
        budget = (
            MUST_US if name.startswith(("speaker: write, take", "mic: write, read as")) else None
        )
        report.add(name, "µs", _time(case, frames, batches), budget=budget, peer=message)
    ends = vars(bot_ring), vars(worker_ring)
    fence = vars(bot_ring)["fence"]
    for names in ends:
        names["fence"] = lock_fence
    try:
        report.add(
            "mic, with the fence of other CPUs", "µs", _time(mic, frames, batches), peer=message
        )
    finally:
        for names in ends:
            names["fence"] = fence
    report.add("peer: pipe, write and read", "µs", pipe)
    report.add("peer: ZeroMQ ipc, a message per frame", "µs", message)
    worker.release()
    bot.release()
    attached.close()
    segment.close()
    return report


def _time(case: Callable[[], None], frames: int, batches: int) -> list[float]:
    for _ in range(300):  # past the ring's first turn: a full ring is the steady state
        case()
    results = []
    for _ in range(batches):
        before = time.process_time_ns()
        for _ in range(frames):
            case()
        results.append((time.process_time_ns() - before) / frames / 1000)
    return results


def _pipe(pcm: bytes, frames: int, batches: int) -> list[float]:
    read, write = os.pipe()

    def case() -> None:
        os.write(write, pcm)
        os.read(read, len(pcm))

    try:
        return _time(case, frames, batches)
    finally:
        os.close(read)
        os.close(write)


def _zmq_ipc(pcm: bytes, frames: int, batches: int) -> list[float]:
    """A message per frame over ipc://, both ends here: the process' CPU with libzmq's threads."""
    with (
        tempfile.TemporaryDirectory() as directory,
        zmq.Context() as context,
        context.socket(zmq.PUSH) as push,
        context.socket(zmq.PULL) as pull,
    ):
        pull.bind(f"ipc://{directory}/pcm")
        push.connect(f"ipc://{directory}/pcm")

        def case() -> None:
            push.send(pcm)
            pull.recv()

        return _time(case, frames, batches)
