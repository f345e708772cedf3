"""Frames about who speaks and what was said: turns, voice activity, transcripts, synthesis.

The speaking frames of the bot follow what was played, not what was queued; a transport sends
each of them both ways.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ipc.frames.base import ControlFrame, DataFrame, SystemFrame


class TextType(StrEnum):
    """What a piece of text stands for; an application may have words of its own."""

    BACKCHANNEL = "backchannel"
    SENTENCE = "sentence"
    TOKEN = "token"
    WORD = "word"


# Who speaks.


@dataclass
class UserStartedSpeakingFrame(SystemFrame):
    """The user's turn begins."""


@dataclass
class UserStoppedSpeakingFrame(SystemFrame):
    """The user's turn is over."""


@dataclass
class UserSpeakingFrame(SystemFrame):
    """The user still speaks; sent now and then."""


@dataclass
class ProposedUserStartedSpeakingFrame(SystemFrame):
    """A service thinks that the user's turn begins."""


@dataclass
class ProposedUserStoppedSpeakingFrame(ControlFrame):
    """A service thinks that the user's turn is over."""


@dataclass
class EagerEndOfTurnCancelFrame(SystemFrame):
    """An end of turn that was guessed early was none."""


@dataclass
class UserTurnInferenceCompletedFrame(SystemFrame):
    """The user's turn has been judged complete."""


@dataclass
class UserMuteStartedFrame(SystemFrame):
    """From here on the user is not listened to."""


@dataclass
class UserMuteStoppedFrame(SystemFrame):
    """The user is listened to again."""


@dataclass
class VADUserStartedSpeakingFrame(SystemFrame):
    """Voice activity began `start_secs` before `timestamp` (wall clock, seconds)."""

    start_secs: float = 0.0
    timestamp: float = field(default_factory=time.time)


@dataclass
class VADUserStoppedSpeakingFrame(SystemFrame):
    """Voice activity ended `stop_secs` before `timestamp` (wall clock, seconds)."""

    stop_secs: float = 0.0
    timestamp: float = field(default_factory=time.time)


@dataclass
class VADParamsUpdateFrame(ControlFrame):
    """Changes the parameters of voice detection."""

    params: Any


@dataclass
class SpeechControlParamsFrame(SystemFrame):
    """The parameters in force of voice and turn detection."""

    vad_params: Any | None = None
    turn_params: Any | None = None


@dataclass
class UserIdleTimeoutUpdateFrame(SystemFrame):
    """Changes after how many seconds of quiet a user counts as idle."""

    timeout: float


@dataclass
class BotStartedSpeakingFrame(SystemFrame):
    """The first sample of the bot's speech was played."""


@dataclass
class BotStoppedSpeakingFrame(SystemFrame):
    """The last sample of the bot's speech was played, or cut."""


@dataclass
class BotSpeakingFrame(SystemFrame):
    """The bot's speech is playing; sent now and then."""


# What was said.


@dataclass
class TextFrame(DataFrame):
    """Text on its way to be spoken, shown or remembered.

    `skip_tts` None leaves it to the services; `includes_inter_frame_spaces` says that joining
    the texts needs no spaces.
    """

    text: str
    skip_tts: bool | None = field(init=False, default=None)
    includes_inter_frame_spaces: bool = field(init=False, default=False)
    append_to_context: bool = field(init=False, default=True)

    def __str__(self) -> str:
        return f"{self.name}({self.text!r})"


@dataclass
class InputTextRawFrame(TextFrame, SystemFrame):
    """Text that the user wrote."""


@dataclass
class AggregatedTextFrame(TextFrame):
    """Text put together from pieces, such as a sentence."""

    text_type: TextType | str
    context_id: str | None = None
    raw_text: str | None = None
    will_be_spoken: bool = field(init=False, default=False)

    @property
    def aggregated_by(self) -> TextType | str:
        """Older name of `text_type`."""
        return self.text_type

    @aggregated_by.setter
    def aggregated_by(self, value: TextType | str) -> None:
        self.text_type = value


@dataclass
class AggregatedTextProgressFrame(DataFrame):
    """How far the text of a segment has been spoken."""

    segment_id: int
    context_id: str | None
    text: str
    text_type: TextType | str
    accumulated_text: str
    remaining_text: str

    @property
    def aggregated_by(self) -> TextType | str:
        """Older name of `text_type`."""
        return self.text_type


@dataclass
class TranscriptionFrame(TextFrame):
    """What a user said, as text. `timestamp` is ISO 8601."""

    user_id: str
    timestamp: str
    language: str | None = None
    result: Any | None = None
    finalized: bool = False


@dataclass
class InterimTranscriptionFrame(TextFrame):
    """What a user seems to be saying; it may still change."""

    user_id: str
    timestamp: str
    language: str | None = None
    result: Any | None = None


@dataclass
class EagerTranscriptionFrame(TextFrame):
    """What a user said if the turn that was guessed early is one."""

    user_id: str
    timestamp: str
    language: str | None = None
    result: Any | None = None


@dataclass
class TranslationFrame(TextFrame):
    """What a user said, translated."""

    user_id: str
    timestamp: str
    language: str | None = None


@dataclass
class UserBackchannelFrame(DataFrame):
    """A short "mm-hmm" of the user that is no turn."""

    text: str
    user_id: str
    timestamp: str


@dataclass
class STTMuteFrame(SystemFrame):
    """Speech recognition stops or goes on listening."""

    mute: bool


# What is to be said.


@dataclass
class TTSSpeakFrame(DataFrame):
    """Text for speech synthesis as it stands. `append_to_context` None counts as True."""

    text: str
    append_to_context: bool = True
    text_type: TextType | str = TextType.SENTENCE

    def __post_init__(self) -> None:
        """Number the frame; None was once the default of `append_to_context`."""
        super().__post_init__()
        given: bool | None = self.append_to_context
        self.append_to_context = given is None or given


@dataclass
class BotBackchannelFrame(TTSSpeakFrame):
    """A short "mm-hmm" of the bot, which interruptions do not cut off."""

    interruptible: bool = field(init=False, default=False)
    append_to_context: bool = False
    text_type: TextType | str = field(init=False, default=TextType.BACKCHANNEL)


@dataclass
class TTSTextFrame(AggregatedTextFrame):
    """Text that has been spoken."""

    segment_id: int | None = None


@dataclass
class TTSStartedFrame(ControlFrame):
    """Audio of one utterance follows."""

    context_id: str | None = None
    append_to_context: bool = True


@dataclass
class TTSStoppedFrame(ControlFrame):
    """The audio of the utterance is complete."""

    context_id: str | None = None
