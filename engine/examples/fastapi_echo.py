"""The documented transport in a FastAPI application of one's own: it says what it hears.

    uvicorn engine.examples.fastapi_echo:app

With a `serve` running on this machine its workers carry the calls; else some are started here.
"""

from typing import Any

from fastapi import BackgroundTasks, FastAPI

from engine.transports.base import TransportParams
from engine.transports.frames import Frame, InputAudioRawFrame, OutputAudioRawFrame
from engine.transports.processors import (
    FrameDirection,
    FrameProcessor,
    Pipeline,
    PipelineRunner,
    PipelineTask,
)
from engine.transports.smallwebrtc.connection import SmallWebRTCConnection
from engine.transports.smallwebrtc.request_handler import (
    SmallWebRTCRequest,
    SmallWebRTCRequestHandler,
)
from engine.transports.smallwebrtc.transport import SmallWebRTCTransport

app = FastAPI()
handler = SmallWebRTCRequestHandler()


class Echo(FrameProcessor):
    """Turns what is heard into what is said."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Every frame goes on; the caller's audio as the bot's."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            frame = OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
        await self.push_frame(frame, direction)


async def run_bot(connection: SmallWebRTCConnection) -> None:
    """One call."""
    params = TransportParams(audio_in_enabled=True, audio_out_enabled=True)
    transport = SmallWebRTCTransport(connection, params)
    task = PipelineTask(Pipeline([transport.input(), Echo(), transport.output()]))

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: SmallWebRTCTransport, client: Any) -> None:
        await task.cancel()

    await PipelineRunner(handle_sigint=False).run(task)


@app.post("/api/offer")
async def offer(request: SmallWebRTCRequest, background: BackgroundTasks) -> Any:
    """A caller's offer; the bot runs beside the answer."""

    async def call(connection: SmallWebRTCConnection) -> None:
        background.add_task(run_bot, connection)

    return await handler.handle_web_request(request, call)
