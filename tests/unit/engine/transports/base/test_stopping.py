"""A StopFrame leaves a transport as it is, and another task goes on with it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from engine.transports.base import BaseInputTransport, BaseOutputTransport, TransportParams
from engine.transports.frames import (
    EndFrame,
    OutputAudioRawFrame,
    StartFrame,
    StopFrame,
)
from engine.transports.processors import Pipeline, PipelineTask
from tests.support import until

if TYPE_CHECKING:
    import pytest

PARAMS: Any = {"audio_in_enabled": True, "audio_out_enabled": True, "audio_out_end_silence_secs": 0}


class In(BaseInputTransport):
    """An input that is ready at the start."""

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)


class Out(BaseOutputTransport):
    """Keeps what is written."""

    def __init__(self, params: TransportParams) -> None:
        super().__init__(params)
        self.written = bytearray()

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        self.written += frame.audio
        return True


async def run(pipeline: Pipeline, out: Out, value: int, *, stop: bool) -> None:
    """A task that has a chunk of `value` sent, then stops or ends."""
    task = PipelineTask(pipeline)
    running = asyncio.create_task(task.run())
    before = len(out.written)
    await task.queue_frame(OutputAudioRawFrame(bytes([value]) * 1920, 24_000, 1))
    await until(lambda: len(out.written) == before + 1920)
    await task.queue_frame(StopFrame() if stop else EndFrame())
    async with asyncio.timeout(30):
        await running


async def test_another_task_goes_on_after_a_stop(caplog: pytest.LogCaptureFixture) -> None:
    params = TransportParams(**PARAMS)
    into, out = In(params), Out(params)
    pipeline = Pipeline([into, out])
    await run(pipeline, out, 1, stop=True)
    await run(pipeline, out, 2, stop=False)
    assert (into.is_usable, out.is_usable) == (True, True)
    assert out.written == b"\1" * 1920 + b"\2" * 1920
    assert [one.message for one in caplog.records if one.levelno >= logging.WARNING] == []
