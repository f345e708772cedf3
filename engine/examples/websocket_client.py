"""A pipeline that dials a WebSocket server and says back what it hears, until the server leaves.

`python -m engine.examples.websocket_client ws://127.0.0.1:8765/`: with a `serve` running on this
machine its workers dial, serialize and keep the time; else some are started here.
"""

import asyncio
import sys
from typing import Any

from engine.transports.frames import InputAudioRawFrame, OutputAudioRawFrame
from engine.transports.processors import FrameProcessor, Pipeline, PipelineRunner, PipelineTask
from engine.transports.websocket.client import WebsocketClientParams, WebsocketClientTransport


class Echo(FrameProcessor):
    """Every frame goes on; the server's audio as the bot's."""

    async def process_frame(self, frame: Any, direction: Any) -> None:  # noqa: D102
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            frame = OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
        await self.push_frame(frame, direction)


async def main(uri: str) -> None:
    """One connection."""
    params = WebsocketClientParams(audio_in_enabled=True, audio_out_enabled=True)
    transport = WebsocketClientTransport(uri, params)
    task = PipelineTask(Pipeline([transport.input(), Echo(), transport.output()]))

    @transport.event_handler("on_disconnected")
    async def on_disconnected(transport: Any) -> None:
        await task.end()

    await PipelineRunner().run(task)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
