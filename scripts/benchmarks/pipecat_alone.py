"""The Pipecat pipeline of the other bots with no media at all: what it costs by itself.

Its transport has Pipecat's own bases; it brings 20 ms of speech 50 times a second and takes
speech in real time, and neither encodes, encrypts nor sends. Prints its URL; `dialling` says what
is asked there.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from loguru import logger  # noqa: E402
from pipecat.frames.frames import (  # noqa: E402
    CancelFrame,
    EndFrame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    StartFrame,
)
from pipecat.transports.base_input import BaseInputTransport  # noqa: E402
from pipecat.transports.base_output import BaseOutputTransport  # noqa: E402
from pipecat.transports.base_transport import BaseTransport, TransportParams  # noqa: E402

from scripts.benchmarks import speech  # noqa: E402
from scripts.benchmarks.pipecat_bot import KIT  # noqa: E402
from scripts.benchmarks.pipeline_bot import MIC_HZ, SPEAKER_HZ  # noqa: E402
from scripts.benchmarks.pipeline_dialler import serve  # noqa: E402

FRAME_S = 0.02


class Mic(BaseInputTransport):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """Brings speech, as a caller's packets would."""

    def __init__(self, transport: Alone, params: TransportParams) -> None:
        super().__init__(params)
        self._alone = transport
        self._hearing: asyncio.Task[None] | None = None

    async def start(self, frame: StartFrame) -> None:
        """Begin to hear."""
        await super().start(frame)
        await self.set_transport_ready(frame)
        self._hearing = self.create_task(self._hear())
        await self._alone.connected()

    async def stop(self, frame: EndFrame) -> None:
        """End."""
        await super().stop(frame)
        await self._end()

    async def cancel(self, frame: CancelFrame) -> None:
        """End at once."""
        await super().cancel(frame)
        await self._end()

    async def _end(self) -> None:
        if self._hearing is not None:
            await self.cancel_task(self._hearing)
            self._hearing = None

    async def _hear(self) -> None:
        size = round(MIC_HZ * FRAME_S)
        pieces = speech.continuous(MIC_HZ).reshape(-1, size)
        due_s, at = time.monotonic(), 0
        while True:
            frame = InputAudioRawFrame(pieces[at % len(pieces)].tobytes(), MIC_HZ, 1)
            await self.push_audio_frame(frame)
            at += 1
            due_s += FRAME_S
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))


class Speaker(BaseOutputTransport):  # type: ignore[misc]  # as above
    """Takes speech as fast as it would be played."""

    def __init__(self, params: TransportParams) -> None:
        super().__init__(params)
        self._played_s = 0.0

    async def start(self, frame: StartFrame) -> None:
        """Begin to take."""
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Wait until all of it has been played."""
        now_s = time.monotonic()
        seconds = len(frame.audio) / 2 / SPEAKER_HZ
        self._played_s = max(self._played_s, now_s) + seconds
        await asyncio.sleep(self._played_s - now_s)
        return True


class Alone(BaseTransport):  # type: ignore[misc]  # as above
    """The transport."""

    def __init__(self, uri: str, params: TransportParams) -> None:
        super().__init__()
        self._mic, self._speaker = Mic(self, params), Speaker(params)
        self._register_event_handler("on_connected")
        self._register_event_handler("on_disconnected")

    def input(self) -> Any:
        """The microphone."""
        return self._mic

    def output(self) -> Any:
        """The speaker."""
        return self._speaker

    async def connected(self) -> None:
        """The pipeline runs."""
        await self._call_event_handler("on_connected", self)


def _params(**given: Any) -> TransportParams:
    return TransportParams(**{k: v for k, v in given.items() if k != "add_wav_header"})


if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    serve(replace(KIT, transport=Alone, transport_params=_params), piece_ms=20)
