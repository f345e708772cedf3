"""A bot file that echoes, and answers what its client asks through RTVI.

What it is asked are the questions of `tests/fakes/bots/rtvi.py`. The tests run it as it is, and
with the one import changed that they name.
"""

from collections import deque
from typing import Any

import numpy as np
from pipecat.frames.frames import Frame, InputAudioRawFrame, OutputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.base_transport import TransportParams
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams
from pipecat.workers.runner import WorkerRunner

transport_params = {
    "webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True),
    "websocket": lambda: FastAPIWebsocketParams(
        audio_in_enabled=True, audio_out_enabled=True, serializer=ProtobufFrameSerializer()
    ),
}


class Ear(FrameProcessor):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """Says what it hears, and keeps half a second of it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: deque[InputAudioRawFrame] = deque(maxlen=25)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self.kept.append(frame)
            frame = OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
        await self.push_frame(frame, direction)

    def heard(self) -> dict[str, float]:
        samples = np.frombuffer(b"".join(frame.audio for frame in self.kept), np.int16)
        if not len(samples):
            return {"hz": 0.0, "peak": 0.0}
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        hz = float(spectrum.argmax()) * self.kept[0].sample_rate / len(samples)
        return {"hz": hz, "peak": float(np.abs(samples).max())}


async def bot(runner_args: RunnerArguments) -> None:
    """The entry point for runners."""
    transport = await create_transport(runner_args, transport_params)
    ear = Ear()
    worker = PipelineWorker(Pipeline([transport.input(), ear, transport.output()]))
    events: list[str] = []

    @transport.event_handler("on_client_connected")
    async def on_client_connected(_transport: Any, _client: Any) -> None:
        events.append("connected")

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(_transport: Any, _client: Any) -> None:
        events.append("disconnected")
        # A caller whose worker died is on the way back, if there is still a pipeline to come to.
        if runner_args.body != "kept":
            await worker.cancel()

    @worker.rtvi.event_handler("on_client_message")
    async def on_client_message(rtvi: Any, message: Any) -> None:
        answer: Any = None
        if message.type == "echo":
            answer = message.data
        elif message.type == "say":
            await rtvi.send_server_message(message.data)
        elif message.type == "heard":
            answer = ear.heard()
        elif message.type == "who":
            answer = {
                "session": runner_args.session_id,
                "request_data": runner_args.body,
                "transport": type(transport).__module__,
                "events": events,
            }
        else:
            await rtvi.send_error_response(message, f"what is {message.type!r}?")
            return
        await rtvi.send_server_response(message, answer)

    runner = WorkerRunner(handle_sigint=runner_args.handle_sigint)
    await runner.add_workers(worker)
    await runner.run()
