"""The bot that the benchmarks run on Backbeat; `job.Job` says what it does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from engine.sdk import Bot, Session  # noqa: E402
from ipc.errors import SessionClosed  # noqa: E402
from scripts.benchmarks import disturb, speech  # noqa: E402
from scripts.benchmarks.flush_log import FlushLog, Timings  # noqa: E402
from scripts.benchmarks.job import Job  # noqa: E402

CAPACITY = 200
PIECE_S = 0.5

job = Job.from_environment()
bot = Bot("bench", capacity=CAPACITY, mic_hz=job.hz, speaker_hz=job.hz, **job.codec)
tasks: set[asyncio.Task[None]] = set()


@bot.session
async def serve(session: Session) -> None:
    """One call."""
    begin_to_disturb()
    with contextlib.suppress(SessionClosed):
        if job.mode == "talk":
            await talk(session)
        elif job.mode == "hear":
            await hear(session)
        elif job.mode == "both":
            hearing = asyncio.create_task(hear(session))
            await talk(session)
            await hearing
        elif job.mode == "echo":
            keep = int(job.keep_ms * job.hz / 1000)
            async for frame in session.audio():
                if not keep or session.queued <= keep:
                    await session.play(frame)
        else:
            await flush_at_random(session)


async def talk(session: Session) -> None:
    """Speak without end; no two sessions say the same at once."""
    samples = speech.continuous(job.hz)
    step = int(job.hz * PIECE_S)
    at = random.randrange(len(samples) // step) * step
    while not session.closed:
        await session.play(samples[at : at + step])
        at = at + step if at + step < len(samples) else 0


async def hear(session: Session) -> None:
    """Read what the caller says, as a recogniser would."""
    async for _ in session.audio():
        pass


async def flush_at_random(session: Session) -> None:
    """Speak with the ring full, interrupt at a random time, be silent, speak again."""
    samples = speech.continuous(job.hz)
    signal = speech.known_signal(job.hz)
    caller = int((session.request_data or {}).get("caller", 0))
    rng = random.Random(caller)
    with FlushLog(Path(job.log), caller) as log:
        while not session.closed:
            # More than the ring holds: it is full until the flush, which ends this `play` too.
            speaking = asyncio.create_task(session.play(samples))
            await asyncio.sleep(rng.uniform(0.4, 1.0))
            timings = Timings(caller=caller, queued_ms=session.queued * 1000 / job.hz)
            timings.before()
            flushed = session.flush()
            timings.after()
            timings.exact = (await flushed).exact
            await speaking
            await asyncio.sleep(0.25)
            timings.resumed()
            await session.play(signal)
            session.end_of_speech()
            log.write(timings)
            await session.wait_played()
            await asyncio.sleep(0.15)


def begin_to_disturb() -> None:
    """Begin to be a bad neighbour, once the first call is there."""
    if not tasks:
        disturb.start_burning(job.burn)
        tasks.add(asyncio.create_task(disturb.block_each_second(job.block_ms)))


if __name__ == "__main__":
    bot.run(os.environ.get("BACKBEAT_ENDPOINT"))
