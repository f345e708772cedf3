"""Frames: what moves through pipelines, and the audio frame of the bot SDK.

The names and fields of the documented frames are those of Pipecat's classes of the same
name; nothing here needs Pipecat. `AudioFrame` is what `Session.audio` yields: samples with
their place in the caller's stream.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Pcm = np.ndarray[tuple[int, ...], np.dtype[np.int16]]

_frame_ids = itertools.count(1)
_names: dict[str, itertools.count[int]] = {}


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """int16 PCM of a caller. `cursor` is its first sample, `lost` samples went before it."""

    pcm: bytes | memoryview
    hz: int
    channels: int
    cursor: int
    lost: int = 0

    @property
    def samples(self) -> Pcm:
        """The samples without a copy: shape (n,) for mono, (n, 2) for stereo."""
        flat = np.frombuffer(self.pcm, np.int16)
        return flat if self.channels == 1 else flat.reshape(-1, self.channels)

    @property
    def count(self) -> int:
        """Samples per channel."""
        return len(self.pcm) // (2 * self.channels)

    @property
    def duration_ms(self) -> float:
        """Length in ms."""
        return self.count * 1000 / self.hz


@dataclass
class Frame:
    """Base of the documented frames."""

    id: int = field(init=False)
    name: str = field(init=False)
    pts: int | None = field(init=False, default=None)
    metadata: dict[str, Any] = field(init=False, default_factory=dict)
    transport_source: str | None = field(init=False, default=None)
    transport_destination: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Number the frame and name it after its class."""
        self.id = next(_frame_ids)
        kind = type(self).__name__
        self.name = f"{kind}#{next(_names.setdefault(kind, itertools.count()))}"


@dataclass
class SystemFrame(Frame):
    """Handled at once, ahead of what is queued."""


@dataclass
class DataFrame(Frame):
    """Handled in order, and dropped by an interruption."""


@dataclass
class ControlFrame(Frame):
    """Handled in order."""


@dataclass
class AudioRawFrame:
    """int16 PCM: `audio` bytes of `num_channels` at `sample_rate` Hz."""

    audio: bytes
    sample_rate: int
    num_channels: int
    num_frames: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """Count the samples per channel."""
        super().__post_init__()  # type: ignore[misc]  # mixed into a Frame
        self.num_frames = len(self.audio) // (self.num_channels * 2)


@dataclass
class ImageRawFrame:
    """An uncompressed image of `size` (width, height) pixels."""

    image: bytes
    size: tuple[int, int]
    format: str | None


@dataclass
class StartFrame(SystemFrame):
    """The pipeline begins. Sample rates in Hz."""

    audio_in_sample_rate: int = 16_000
    audio_out_sample_rate: int = 24_000
    allow_interruptions: bool = True
    enable_metrics: bool = False
    enable_usage_metrics: bool = False


@dataclass
class CancelFrame(SystemFrame):
    """The pipeline stops now."""


@dataclass
class EndFrame(ControlFrame):
    """The pipeline ends once everything queued is done."""


@dataclass
class InputAudioRawFrame(AudioRawFrame, SystemFrame):
    """Audio of the caller."""


@dataclass
class InputImageRawFrame(ImageRawFrame, SystemFrame):
    """An image of the caller."""


@dataclass
class UserImageRawFrame(InputImageRawFrame):
    """An image of a user, perhaps asked for by `request`."""

    user_id: str = ""
    text: str | None = None
    append_to_context: bool | None = None
    request: UserImageRequestFrame | None = None


@dataclass
class UserImageRequestFrame(SystemFrame):
    """Asks for the next image of a user."""

    user_id: str = ""
    text: str | None = None
    append_to_context: bool | None = None
    video_source: str | None = None
    function_name: str | None = None
    tool_call_id: str | None = None
    result_callback: Any | None = None


@dataclass
class InputTransportMessageFrame(SystemFrame):
    """An app message of the caller."""

    message: Any


@dataclass
class OutputAudioRawFrame(AudioRawFrame, DataFrame):
    """Audio for the caller."""


@dataclass
class OutputImageRawFrame(ImageRawFrame, DataFrame):
    """An image for the caller."""

    sync_with_audio: bool = False


@dataclass
class SpriteFrame(DataFrame):
    """Images that are shown one after the other."""

    images: list[OutputImageRawFrame]


@dataclass
class OutputTransportMessageFrame(DataFrame):
    """An app message for the caller, in order with the audio."""

    message: Any


@dataclass
class OutputTransportMessageUrgentFrame(SystemFrame):
    """An app message for the caller, at once."""

    message: Any
