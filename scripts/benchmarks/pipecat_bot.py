"""A Pipecat SmallWebRTC bot for comparison, in one process, as Pipecat's runner builds one.

Prints its URL, serves until it is terminated; `job.Job` says what the bot does: talk, hear,
both or echo. Speech is queued about 1 s ahead of the pipeline, as a speech service would. Needs
`pipecat-ai[webrtc]`, here or in the Python that BENCH_PIPECAT_PYTHON names. Loopback only.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import aioice.ice  # noqa: E402
import uvicorn  # noqa: E402
from fastapi import FastAPI  # noqa: E402
from loguru import logger  # noqa: E402
from pipecat.frames.frames import (  # noqa: E402
    Frame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline  # noqa: E402
from pipecat.pipeline.worker import PipelineParams, PipelineWorker  # noqa: E402
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor  # noqa: E402
from pipecat.transports.base_transport import TransportParams  # noqa: E402
from pipecat.transports.smallwebrtc.request_handler import (  # noqa: E402
    SmallWebRTCRequest,
    SmallWebRTCRequestHandler,
)
from pipecat.transports.smallwebrtc.transport import SmallWebRTCTransport  # noqa: E402
from pipecat.workers.runner import WorkerRunner  # noqa: E402

from scripts.benchmarks import disturb, speech  # noqa: E402
from scripts.benchmarks.job import Job  # noqa: E402

# Pipecat's own defaults.
SPEAKER_HZ = 24_000
MIC_HZ = 16_000
FRAME = SPEAKER_HZ // 50
AHEAD_S = 1.0


class Echo(FrameProcessor):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """Plays back what it hears."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Turn what came in into what goes out."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            frame = OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
        await self.push_frame(frame, direction)


async def run_bot(connection: Any, job: Job) -> None:
    """One call: a pipeline of its own."""
    transport = SmallWebRTCTransport(
        webrtc_connection=connection,
        params=TransportParams(
            audio_in_enabled=job.mode in ("hear", "both", "echo"),
            audio_out_enabled=True,
            audio_in_sample_rate=MIC_HZ,
            audio_out_sample_rate=SPEAKER_HZ,
        ),
    )
    middle = [Echo()] if job.mode == "echo" else []
    worker = PipelineWorker(
        Pipeline([transport.input(), *middle, transport.output()]),
        params=PipelineParams(audio_in_sample_rate=MIC_HZ, audio_out_sample_rate=SPEAKER_HZ),
        idle_timeout_secs=None,
    )
    connected = asyncio.Event()
    gone = asyncio.Event()

    async def on_connected(transport: Any, client: Any) -> None:
        connected.set()

    async def on_disconnected(transport: Any, client: Any) -> None:
        gone.set()
        await worker.cancel()

    transport.add_event_handler("on_client_connected", on_connected)
    transport.add_event_handler("on_client_disconnected", on_disconnected)

    async def talk() -> None:
        await connected.wait()
        pieces = speech.continuous(SPEAKER_HZ).reshape(-1, FRAME)
        at = random.randrange(len(pieces))
        began = time.monotonic()
        queued_s = 0.0
        while not gone.is_set():
            while queued_s < time.monotonic() - began + AHEAD_S:
                samples = pieces[at % len(pieces)].tobytes()
                await worker.queue_frame(OutputAudioRawFrame(samples, SPEAKER_HZ, 1))
                at += 1
                queued_s += 0.02
            await asyncio.sleep(0.1)

    talking = asyncio.create_task(talk()) if job.mode in ("talk", "both") else None
    try:
        await WorkerRunner(handle_sigint=False).run(worker)
    finally:
        if talking is not None:
            talking.cancel()


def build(job: Job) -> FastAPI:
    """The application."""
    app = FastAPI()
    handler = SmallWebRTCRequestHandler()
    tasks: set[asyncio.Task[None]] = set()

    def keep(task: asyncio.Task[None]) -> None:
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    @app.post("/api/offer")
    async def offer(request: dict[str, Any]) -> Any:
        if not tasks:
            disturb.start_burning(job.burn)
            keep(asyncio.create_task(disturb.block_each_second(job.block_ms)))

        async def started(connection: Any) -> None:
            keep(asyncio.create_task(run_bot(connection, job)))

        wanted = SmallWebRTCRequest(sdp=request["sdp"], type=request["type"])
        return await handler.handle_web_request(wanted, started)

    return app


async def main() -> None:
    """Serve on a free port of loopback."""
    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    listener = socket.create_server(("127.0.0.1", 0))
    application = build(Job.from_environment())
    config = uvicorn.Config(application, log_level="warning", lifespan="off")
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
