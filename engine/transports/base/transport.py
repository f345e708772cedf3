"""The base of transports: an input, an output, and events."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import Any

from engine.transports.processors import BaseObject, FrameProcessor

log = logging.getLogger(__name__)


class BaseTransport(BaseObject):
    """A pair of processors for the two ends of a pipeline.

    Event handlers are added with `@transport.event_handler(name)`; see `BaseObject`.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        input_name: str | None = None,
        output_name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self._input_name = input_name
        self._output_name = output_name

    @abstractmethod
    def input(self) -> FrameProcessor:
        """The processor from which what the caller sends enters the pipeline."""

    @abstractmethod
    def output(self) -> FrameProcessor:
        """The processor that sends the caller what reaches it."""

    async def capture_participant_video(
        self,
        participant_id: str,
        framerate: int | None = 30,
        video_source: str = "camera",
        *,
        on_request_only: bool = False,
    ) -> None:
        """Pass on video of a participant; see `get_client_id`. Here only a warning is logged.

        `framerate` is a most of frames per second, None for every frame; `on_request_only`
        passes on only the answers to image requests.
        """
        log.warning("%s captures no video", self)

    def get_client_id(self, client: Any) -> str:
        """The id of what an event handler got as its client; here a warning, and "" ."""
        log.warning("%s knows no ids of clients", self)
        return ""
