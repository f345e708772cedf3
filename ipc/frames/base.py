"""What every pipeline frame is: a number, a name, and one of three ways to be handled.

System frames are handled at once, ahead of what is queued, and no interruption drops them.
Data and control frames are handled in order. An interruption drops those that wait unless
`interruptible` is False, which may also be set on one frame.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Literal

_frame_ids = itertools.count(1)
_names: dict[str, itertools.count[int]] = {}

FileSourceType = Literal["bytes", "url"]


def numbered(kind: str) -> tuple[int, str]:
    """The next number of all frames, and the next name of a kind of them."""
    # setdefault and next are one step each, so threads never share a number.
    names = _names.get(kind) or _names.setdefault(kind, itertools.count())
    return next(_frame_ids), f"{kind}#{next(names)}"


@dataclass
class Frame:
    """Base of all frames. `pts` is a presentation time in ns of the pipeline's clock.

    `broadcast_sibling_id` is the id of the frame that went the other way, for one of a pair.
    """

    id: int = field(init=False)
    name: str = field(init=False)
    pts: int | None = field(init=False, default=None)
    broadcast_sibling_id: int | None = field(init=False, default=None)
    metadata: dict[str, Any] = field(init=False, default_factory=dict)
    transport_source: str | None = field(init=False, default=None)
    transport_destination: str | None = field(init=False, default=None)
    interruptible: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        """Number the frame and name it after its class."""
        self.id, self.name = numbered(type(self).__name__)
        if isinstance(self, UninterruptibleFrame):
            self.interruptible = False

    def __str__(self) -> str:
        return self.name


@dataclass
class SystemFrame(Frame):
    """Handled at once, ahead of what is queued."""


@dataclass
class DataFrame(Frame):
    """Handled in order: audio, images, text, messages."""


@dataclass
class ControlFrame(Frame):
    """Handled in order: what changes how the following frames are handled."""


@dataclass
class UninterruptibleFrame:
    """Mixed into a frame class, it keeps the class's frames through interruptions."""


@dataclass
class AudioRawFrame:
    """int16 PCM: `audio` bytes, channels interleaved, at `sample_rate` Hz.

    `num_frames` counts samples per channel. Fewer than one channel is a ValueError.
    """

    audio: bytes
    sample_rate: int
    num_channels: int
    num_frames: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """Count the samples per channel, and number the frame that this is mixed into."""
        if isinstance(self, Frame):
            Frame.__post_init__(self)
        if self.num_channels < 1:
            raise ValueError(f"audio needs at least one channel, not {self.num_channels}")
        self.num_frames = len(self.audio) // (self.num_channels * 2)

    def __str__(self) -> str:
        name = self.name if isinstance(self, Frame) else type(self).__name__
        return (
            f"{name}({self.num_frames} samples, {self.num_channels} channels, "
            f"{self.sample_rate} Hz)"
        )


@dataclass
class ImageRawFrame:
    """An uncompressed image of `size` (width, height) pixels; `format` such as "RGB"."""

    image: bytes
    size: tuple[int, int]
    format: str | None


@dataclass
class FileRawFrame:
    """A file, as base64 text (`type` "bytes") or as an address ("url"). `format`: MIME type."""

    file: str
    type: FileSourceType
    filename: str | None
    format: str


@dataclass
class DTMFFrame:
    """Base of the keypad frames."""
