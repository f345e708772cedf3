"""The input end of a transport: what the caller sends enters the pipeline here.

Audio waits in a bounded queue: what comes before the transport is ready is kept, the newest
five seconds of it; afterwards whoever pushes waits for room, so that nothing is lost here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from engine.transports.base.params import BotCapabilities, TransportParams
from engine.transports.frames import (
    CancelFrame,
    EndFrame,
    FilterControlFrame,
    Frame,
    InputAudioRawFrame,
    InputImageRawFrame,
    InputTransportStartAudioStreamingFrame,
    StartFrame,
    StopFrame,
    SystemFrame,
    UserImageRequestFrame,
)
from engine.transports.processors import FrameDirection, FrameProcessor, FrameProcessorSetup
from ipc.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

# 5 s of frames of 20 ms: as much as the ring holds that they come from.
MAX_FRAMES = 250


class BaseInputTransport(FrameProcessor):
    """Passes what the caller sends on downstream, through the audio filter.

    Subclasses call `set_transport_ready` in `start`, then `push_audio_frame` and
    `push_video_frame`.
    """

    def __init__(self, params: TransportParams, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._params = params
        self._sample_rate = 0
        self._prepared = False
        # Whether a StopFrame has left it set up for another task.
        self._kept = False
        # A StopFrame holds the input until the next StartFrame.
        self._paused = False
        self._streaming = params.audio_in_stream_on_start
        self._audio_in: deque[InputAudioRawFrame] = deque()
        self._audio_changed = asyncio.Event()
        self._audio_task: asyncio.Task[None] | None = None
        if foreign := [s for s in params.video_in_sources if not self._supports_video_in_source(s)]:
            log.warning("%s captures none of these video sources: %s", self, foreign)

    @property
    def sample_rate(self) -> int:
        """Rate of the caller's audio in Hz; 0 before `setup`."""
        return self._sample_rate

    @property
    def capabilities(self) -> BotCapabilities:
        """Which media it takes. Whether screens are among them may be up to the application."""
        params = self._params
        screen: bool | None = None
        if not params.video_in_enabled:
            screen = False
        elif params.video_in_sources and self._supports_video_in_source("screenVideo"):
            screen = "screenVideo" in params.video_in_sources
        return BotCapabilities(
            audio_in=params.audio_in_enabled, video_in=params.video_in_enabled, screen_in=screen
        )

    def _supports_video_in_source(self, video_source: str) -> bool:
        """Whether a source that `video_in_sources` names can be captured."""
        return False

    # -- life -------------------------------------------------------------------------------

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Take the rates. Raises StateError(`set_up`) when that was done and not cleaned up.

        After a StopFrame another task takes it over as it is.
        """
        if self._prepared and not self._kept:
            raise StateError(f"{self} is set up already", code="set_up")
        self._prepared = True
        await super().setup(setup)
        if self._kept:
            self._kept = False
            return
        self._sample_rate = self._params.audio_in_sample_rate or setup.audio_in_sample_rate
        if self._params.audio_in_filter is not None:
            await self._params.audio_in_filter.start(self._sample_rate)

    async def cleanup(self) -> None:
        """End the audio task and stop the filter. Safe to call twice."""
        await super().cleanup()
        await self._end_audio()
        if self._prepared and self._params.audio_in_filter is not None:
            await self._params.audio_in_filter.stop()
        self._prepared = self._kept = False

    async def start(self, frame: StartFrame) -> None:
        """The pipeline starts. Subclasses call `set_transport_ready` here."""
        self._paused = False

    async def stop(self, frame: EndFrame) -> None:
        """The pipeline ends."""
        await self._end_audio()

    async def pause(self, frame: StopFrame) -> None:
        """Drop what comes until the next StartFrame."""
        self._hold()

    async def cancel(self, frame: CancelFrame) -> None:
        """The pipeline is cancelled."""
        await self._end_audio()

    async def set_transport_ready(self, frame: StartFrame) -> None:
        """What is pushed goes on from now on. A second call changes nothing."""
        if self._audio_task is None and self._params.audio_in_enabled:
            self._audio_task = self.create_task(self._pass_audio(), "audio in")

    def enable_audio_in_stream_on_start(self, enabled: bool) -> None:
        """Whether audio streams from the start; see `TransportParams.audio_in_stream_on_start`."""
        self._params.audio_in_stream_on_start = enabled
        if self._audio_task is None or enabled:
            self._streaming = enabled

    async def start_audio_in_streaming(self) -> None:
        """Older way to push an InputTransportStartAudioStreamingFrame."""
        await self._start_audio_in_streaming()

    async def _start_audio_in_streaming(self) -> None:
        """Let audio through that waited for it."""
        self._streaming = True

    # -- what comes -------------------------------------------------------------------------

    async def push_audio_frame(self, frame: InputAudioRawFrame) -> None:
        """The caller said something. Waits while five seconds of it are not worked off."""
        if not self._takes_audio():
            return
        if self._audio_task is None:
            if len(self._audio_in) >= MAX_FRAMES:
                self._audio_in.popleft()
        else:
            while len(self._audio_in) >= MAX_FRAMES:
                await self._audio_change()
            if not self._takes_audio():
                return
        self._audio_in.append(frame)
        self._audio_changed.set()

    def _takes_audio(self) -> bool:
        return self._params.audio_in_enabled and self._streaming and not self._paused

    async def push_video_frame(self, frame: InputImageRawFrame) -> None:
        """The caller showed something."""
        if self._params.video_in_enabled and not self._paused:
            await self.push_frame(frame)

    async def _pass_audio(self) -> None:
        params = self._params
        while True:
            while not self._audio_in:
                await self._audio_change()
            frame = self._audio_in.popleft()
            self._audio_changed.set()
            try:
                if params.audio_in_filter is not None:
                    frame.audio = await params.audio_in_filter.filter(frame.audio)
                if frame.audio and params.audio_in_passthrough:
                    await self.push_frame(frame)
            except Exception:
                log.exception("%s: a frame of audio could not be passed on", self)

    async def _audio_change(self) -> None:
        # Whoever waits looks again, so a clear takes nobody's signal.
        self._audio_changed.clear()
        await self._audio_changed.wait()

    def _hold(self) -> None:
        self._paused = True
        self._audio_in.clear()
        self._audio_changed.set()

    async def _end_audio(self) -> None:
        task, self._audio_task = self._audio_task, None
        self._hold()
        if task is not None:
            await self.cancel_task(task)

    async def _answer_image_requests(
        self, requests: Iterable[UserImageRequestFrame], error: str
    ) -> None:
        """Tell whoever asked for images that none comes, so that nobody waits for it."""
        for request in requests:
            log.warning("%s: %s", self, error)
            if request.result_callback is not None:
                await request.result_callback({"error": error})

    # -- frames -----------------------------------------------------------------------------

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take part in the start and the end, feed audio from upstream in, pass the rest on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, StartFrame):
            # On first: every processor handles the start before anything else.
            await self.push_frame(frame, direction)
            await self.start(frame)
        elif isinstance(frame, CancelFrame):
            await self.cancel(frame)
            await self.push_frame(frame, direction)
        elif isinstance(frame, InputAudioRawFrame):
            await self.push_audio_frame(frame)
        elif isinstance(frame, SystemFrame):
            await self.push_frame(frame, direction)
        elif isinstance(frame, InputTransportStartAudioStreamingFrame):
            await self._start_audio_in_streaming()
        elif isinstance(frame, EndFrame):
            await self.push_frame(frame, direction)
            await self.stop(frame)
        elif isinstance(frame, StopFrame):
            self._kept = True
            await self.push_frame(frame, direction)
            await self.pause(frame)
        elif isinstance(frame, FilterControlFrame) and self._params.audio_in_filter is not None:
            await self._params.audio_in_filter.process_frame(frame)
        else:
            await self.push_frame(frame, direction)
