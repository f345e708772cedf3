"""The documented transport in a FastAPI application of one's own: it says what it hears.

`uvicorn engine.examples.fastapi_echo:app`: with a `serve` running on this machine its workers
carry the calls; else some are started here. Ctrl-C ends the calls, and then the application.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI

from engine.transports.base import TransportParams
from engine.transports.frames import InputAudioRawFrame, OutputAudioRawFrame
from engine.transports.processors import FrameProcessor, Pipeline, PipelineRunner, PipelineTask
from engine.transports.smallwebrtc.request_handler import SmallWebRTCPatchRequest as Candidates
from engine.transports.smallwebrtc.request_handler import SmallWebRTCRequest as Offer
from engine.transports.smallwebrtc.request_handler import SmallWebRTCRequestHandler
from engine.transports.smallwebrtc.transport import SmallWebRTCTransport

handler = SmallWebRTCRequestHandler()
calls: set[asyncio.Task[None]] = set()


@contextlib.asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Bots live as long as their calls, and those end here.

    A bot in FastAPI's BackgroundTasks would be a part of its request: uvicorn waits for those
    before it says that it shuts down, so nothing would end a call that goes on.
    """
    yield
    await handler.close()
    await asyncio.gather(*calls, return_exceptions=True)


app = FastAPI(lifespan=lifespan)


class Echo(FrameProcessor):
    """Every frame goes on; the caller's audio as the bot's."""

    async def process_frame(self, frame: Any, direction: Any) -> None:  # noqa: D102
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            frame = OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
        await self.push_frame(frame, direction)


async def run_bot(connection: Any) -> None:
    """One call."""
    params = TransportParams(audio_in_enabled=True, audio_out_enabled=True)
    transport = SmallWebRTCTransport(connection, params)
    task = PipelineTask(Pipeline([transport.input(), Echo(), transport.output()]))

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: Any, client: Any) -> None:
        await task.cancel()

    await PipelineRunner(handle_sigint=False).run(task)


@app.post("/api/offer")
async def offer(request: Offer) -> Any:
    """A caller's offer; the bot runs beside the answer."""

    async def call(connection: Any) -> None:
        bot = asyncio.create_task(run_bot(connection))
        calls.add(bot)
        bot.add_done_callback(calls.discard)

    return await handler.handle_web_request(request, call)


@app.patch("/api/offer")
async def candidates(request: Candidates) -> dict[str, str]:
    """Candidates that a caller found after its offer."""
    await handler.handle_patch_request(request)
    return {"status": "success"}
