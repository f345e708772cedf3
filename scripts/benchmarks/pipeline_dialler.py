"""Pipelines that dial a far end, whoever's classes they are: ours or Pipecat's.

`dialling` says what is asked of it, `pipeline_bot` what a pipeline then does. Messages carry no
WAV header, so that both sides send the same bytes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from scripts.benchmarks import dialling
from scripts.benchmarks.dialling import Dialling
from scripts.benchmarks.job import Job
from scripts.benchmarks.pipeline_bot import Call, transport_params

if TYPE_CHECKING:
    from scripts.benchmarks.pipeline_bot import Kit

EVENTS = ("on_connected", "on_disconnected")
CONNECTED_S = 20.0


def serve(kit: Kit, *, piece_ms: int = dialling.PIECE_MS) -> None:
    """Serve the kit's transport, with the parameters of a client that dials."""
    job = Job.from_environment()

    async def open_one(uri: str, number: int, _again: bool) -> None:
        params = transport_params(kit, job, add_wav_header=False)
        call = Call(
            kit,
            kit.transport(uri=uri, params=params),
            job,
            number,
            events=EVENTS,
            piece_ms=piece_ms,
        )
        running = asyncio.create_task(call.run())
        found.keep(running)
        async with asyncio.timeout(CONNECTED_S):
            connected = asyncio.create_task(call.connected.wait())
            await asyncio.wait((connected, running), return_when=asyncio.FIRST_COMPLETED)
        connected.cancel()
        if running.done():
            running.result()
            raise ConnectionError("the pipeline has ended")

    found = Dialling(job, open_one)
    dialling.serve(found)
