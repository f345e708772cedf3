"""Audio filters: the user's code on the samples, in the user's process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.transports.frames import FilterControlFrame


class BaseAudioFilter(ABC):
    """Changes audio on its way, such as one that takes the noise out of it."""

    @abstractmethod
    async def start(self, sample_rate: int) -> None:
        """The transport is set up; its samples come at `sample_rate` Hz."""

    @abstractmethod
    async def stop(self) -> None:
        """No more audio comes."""

    @abstractmethod
    async def process_frame(self, frame: FilterControlFrame) -> None:
        """A frame for the filter, in its place in the audio."""

    @abstractmethod
    async def filter(self, audio: bytes) -> bytes:
        """The int16 samples to go on with; none while the filter gathers them."""
