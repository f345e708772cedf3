"""Frames that cross a transport: audio, images, files, keys and app messages, both ways.

Input frames are system frames: what a caller says is heard at once, even behind a queue.
Output frames are data: they leave in order, and an interruption drops those still waiting.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from ipc.frames.base import (
    AudioRawFrame,
    ControlFrame,
    DataFrame,
    DTMFFrame,
    FileRawFrame,
    ImageRawFrame,
    SystemFrame,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


class KeypadEntry(StrEnum):
    """A key of a telephone."""

    ONE = "1"
    TWO = "2"
    THREE = "3"
    FOUR = "4"
    FIVE = "5"
    SIX = "6"
    SEVEN = "7"
    EIGHT = "8"
    NINE = "9"
    ZERO = "0"
    POUND = "#"
    STAR = "*"


# From the caller.


@dataclass
class InputAudioRawFrame(AudioRawFrame, SystemFrame):
    """Audio of the caller."""


@dataclass
class UserAudioRawFrame(InputAudioRawFrame):
    """Audio of one user among several."""

    user_id: str = ""


@dataclass
class InputImageRawFrame(ImageRawFrame, SystemFrame):
    """An image of the caller; `transport_source` says from which track."""


@dataclass
class UserImageRequestFrame(SystemFrame):
    """Asks for the next image of a user.

    `result_callback` is awaited with the outcome when the request came from a tool call.
    """

    user_id: str
    text: str | None = None
    append_to_context: bool | None = None
    video_source: str | None = None
    function_name: str | None = None
    tool_call_id: str | None = None
    result_callback: Any | None = None


@dataclass
class UserImageRawFrame(InputImageRawFrame):
    """An image of a user, perhaps asked for by `request`."""

    user_id: str = ""
    text: str | None = None
    append_to_context: bool | None = None
    request: UserImageRequestFrame | None = None
    run_llm: bool | None = None


@dataclass
class InputFileRawFrame(FileRawFrame, SystemFrame):
    """A file of the caller."""


@dataclass
class UserFileRawFrame(InputFileRawFrame):
    """A file of a user, with what the user wrote about it."""

    user_id: str = ""
    text: str = ""
    append_to_context: bool | None = None
    custom_options: dict[str, Any] | None = None
    run_llm: bool | None = None


@dataclass
class InputDTMFFrame(DTMFFrame, SystemFrame):
    """The caller pressed a key."""

    button: KeypadEntry


@dataclass
class InputTransportMessageFrame(SystemFrame):
    """An app message of the caller."""

    message: Any


# To the caller.


@dataclass
class OutputAudioRawFrame(AudioRawFrame, DataFrame):
    """Audio for the caller; `transport_destination` picks the track."""


@dataclass
class TTSAudioRawFrame(OutputAudioRawFrame):
    """Audio of speech synthesis: the bot counts as speaking while it plays."""

    context_id: str | None = None


@dataclass
class SpeechOutputAudioRawFrame(OutputAudioRawFrame):
    """A continuous stream in which the bot speaks now and then: silence ends its turn."""


@dataclass
class OutputImageRawFrame(ImageRawFrame, DataFrame):
    """An image for the caller; with `sync_with_audio` it waits for the audio before it."""

    sync_with_audio: bool = field(init=False, default=False)


@dataclass
class URLImageRawFrame(OutputImageRawFrame):
    """An image for the caller that came from `url`."""

    url: str | None = None


@dataclass
class AssistantImageRawFrame(OutputImageRawFrame):
    """An image that a model made, with its encoded form where there is one."""

    original_data: bytes | None = None
    original_mime_type: str | None = None


@dataclass
class SpriteFrame(DataFrame):
    """Images that are shown one after the other, again and again."""

    images: list[OutputImageRawFrame]


@dataclass
class OutputTransportMessageFrame(DataFrame):
    """An app message for the caller, in order with the audio."""

    message: Any


@dataclass
class OutputTransportMessageUrgentFrame(SystemFrame):
    """An app message for the caller, at once."""

    message: Any


@dataclass
class _Keys(DTMFFrame):
    """Keys to press: `buttons`, or one `button`. Neither of them is a ValueError."""

    button: KeypadEntry | None = None
    buttons: list[KeypadEntry] | None = None

    def __post_init__(self) -> None:
        """Number the frame and make `buttons` of a single `button`."""
        super().__post_init__()  # type: ignore[misc]  # mixed into a Frame
        if self.buttons is None and self.button is not None:
            self.buttons = [self.button]
        if not self.buttons:
            raise ValueError(f"{type(self).__name__} needs `buttons` or `button`")

    @classmethod
    def from_string(cls, buttons: str, **kwargs: Any) -> Self:
        """The frame of a dial string such as "12#". ValueError if one is not a key."""
        return cls(buttons=[KeypadEntry(key) for key in buttons], **kwargs)

    def to_string(self) -> str:
        """The keys as a dial string."""
        return "".join(self.buttons or [])


@dataclass
class OutputDTMFFrame(_Keys, DataFrame):
    """Keys to press after the audio before it."""


@dataclass
class OutputDTMFUrgentFrame(_Keys, SystemFrame):
    """Keys to press at once."""


# How audio is treated on its way.


@dataclass
class FilterControlFrame(ControlFrame):
    """Base of the frames for an audio filter."""


@dataclass
class FilterUpdateSettingsFrame(FilterControlFrame):
    """Changes settings of the filter."""

    settings: Mapping[str, Any]


@dataclass
class FilterEnableFrame(FilterControlFrame):
    """Switches the filter on or off."""

    enable: bool


@dataclass
class MixerControlFrame(ControlFrame):
    """Base of the frames for an audio mixer."""


@dataclass
class MixerUpdateSettingsFrame(MixerControlFrame):
    """Changes settings of the mixer."""

    settings: Mapping[str, Any]


@dataclass
class MixerEnableFrame(MixerControlFrame):
    """Switches the mixer on or off."""

    enable: bool


@dataclass
class VolumeFrame(ControlFrame):
    """Multiplies samples by `volume` from here on."""

    interruptible: bool = field(init=False, default=False)
    volume: float


@dataclass
class VolumeGainFrame(ControlFrame):
    """A second multiplier beside the volume, such as for a fade."""

    interruptible: bool = field(init=False, default=False)
    gain: float


@dataclass
class AudioBufferStartRecordingFrame(ControlFrame):
    """Recorders in the pipeline begin."""

    interruptible: bool = field(init=False, default=False)


@dataclass
class AudioBufferStopRecordingFrame(ControlFrame):
    """Recorders in the pipeline end."""

    interruptible: bool = field(init=False, default=False)
