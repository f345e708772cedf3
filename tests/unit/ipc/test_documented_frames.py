"""The frames against a table of Pipecat 1.14's: names, bases, parameters, defaults."""

from __future__ import annotations

import json
import time
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest

from ipc import frames

TABLE: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("documented_frames.json").read_text()
)
ALWAYS_GIVEN = {"button": frames.KeypadEntry.ONE}
SAMPLES = {
    "audio": b"",
    "num_channels": 1,
    "size": (1, 1),
    "text": "words",
}


def default_of(field: Field[Any]) -> str | None:
    """As the table writes it: None where the argument must be given, ... where it is made."""
    if field.default is not MISSING:
        return repr(field.default)
    return None if field.default_factory is MISSING else "..."


def parameters(cls: type[Any]) -> list[list[str | None]]:
    return [
        [field.name, default_of(field), *(["kw"] if field.kw_only else [])]
        for field in fields(cls)
        if field.init
    ]


def sample(cls: type[Any]) -> Any:
    names = [name for name, default, *_ in parameters(cls) if default is None]
    given = {str(name): SAMPLES.get(str(name)) for name in names}
    if cls.__name__.startswith("OutputDTMF"):
        given |= ALWAYS_GIVEN
    return cls(**given)


def test_frames_take_the_documented_parameters() -> None:
    ours = {name: parameters(getattr(frames, name)) for name in TABLE}

    assert ours == {name: row.get("params", []) for name, row in TABLE.items()}


def test_frames_begin_with_the_documented_attributes() -> None:
    ours, wanted = {}, {}
    for name, row in TABLE.items():
        made = sample(getattr(frames, name))
        common = TABLE["Frame"]["attributes"] if isinstance(made, frames.Frame) else {}
        wanted[name] = common | row.get("attributes", {})
        ours[name] = {key: repr(getattr(made, key)) for key in wanted[name]}

    assert ours == wanted


def test_frames_are_of_the_documented_kinds() -> None:
    wrong = [
        (name, base)
        for name, row in TABLE.items()
        for base in row["bases"]
        if not issubclass(getattr(frames, name), getattr(frames, base))
    ]

    assert wrong == []


def test_frames_have_the_documented_methods() -> None:
    missing = [
        (name, method)
        for name, row in TABLE.items()
        for method in row.get("methods", [])
        if not hasattr(getattr(frames, name), method)
    ]

    assert missing == []


def test_what_an_interruption_spares_is_marked_on_the_class_or_on_one_frame() -> None:
    class Kept(frames.DataFrame, frames.UninterruptibleFrame):
        pass

    one = frames.TextFrame("wait")
    one.interruptible = False

    assert not Kept().interruptible
    assert not frames.EndFrame().interruptible
    assert frames.TextFrame("go").interruptible
    assert not one.interruptible


def test_keys_are_taken_and_shown_as_a_dial_string() -> None:
    frame = frames.OutputDTMFFrame.from_string("12#")

    assert frame.buttons == [
        frames.KeypadEntry.ONE,
        frames.KeypadEntry.TWO,
        frames.KeypadEntry.POUND,
    ]
    assert frame.to_string() == "12#"
    assert frames.OutputDTMFUrgentFrame(frames.KeypadEntry.STAR).to_string() == "*"


@pytest.mark.parametrize("cls", [frames.OutputDTMFFrame, frames.OutputDTMFUrgentFrame])
def test_no_keys_are_an_error(cls: type[frames.OutputDTMFFrame]) -> None:
    with pytest.raises(ValueError, match="needs `buttons` or `button`"):
        cls()
    with pytest.raises(ValueError, match="x"):
        cls.from_string("1x")


def test_audio_without_a_channel_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one channel"):
        frames.OutputAudioRawFrame(b"\0\0", 16_000, 0)


def test_audio_counts_its_samples_outside_of_a_pipeline_too() -> None:
    assert frames.AudioRawFrame(bytes(8), 16_000, 2).num_frames == 2


def test_a_thought_that_is_kept_says_whose_it_is() -> None:
    with pytest.raises(ValueError, match="llm"):
        frames.LLMThoughtStartFrame(append_to_context=True)


def test_voice_activity_is_stamped_with_the_time_of_day() -> None:
    before = time.time()

    stamp = frames.VADUserStartedSpeakingFrame().timestamp

    assert before <= stamp <= time.time()


def test_frames_show_what_they_are() -> None:
    assert str(frames.EndFrame()).startswith("EndFrame#")
    assert "'hello'" in str(frames.TextFrame("hello"))
    assert "2 samples, 1 channels, 8000 Hz" in str(frames.OutputAudioRawFrame(bytes(4), 8_000, 1))
