"""Parameters: the documented names and defaults, and what cannot be is refused at once."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from engine.transports.base import (
    BaseTransport,
    SoundfileMixer,
    TransportParams,
    VideoInSourceParams,
)

DOCUMENTED: dict[str, Any] = {
    "audio_out_enabled": False,
    "audio_out_sample_rate": None,
    "audio_out_channels": 1,
    "audio_out_bitrate": 96000,
    "audio_out_10ms_chunks": 4,
    "audio_out_filter": None,
    "audio_out_volume": 1.0,
    "audio_out_mixer": None,
    "audio_out_destinations": [],
    "audio_out_end_silence_secs": 2,
    "audio_out_auto_silence": True,
    "audio_out_write_timeout_secs": 10.0,
    "audio_in_enabled": False,
    "audio_in_sample_rate": None,
    "audio_in_channels": 1,
    "audio_in_filter": None,
    "audio_in_stream_on_start": True,
    "audio_in_passthrough": True,
    "video_in_enabled": False,
    "video_in_sources": {},
    "video_out_enabled": False,
    "video_out_is_live": False,
    "video_out_width": 1024,
    "video_out_height": 768,
    "video_out_bitrate": None,
    "video_out_framerate": 30,
    "video_out_color_format": "RGB",
    "video_out_codec": None,
    "video_out_destinations": [],
}


def test_names_and_defaults_are_the_documented_ones_and_the_lead_is_ours() -> None:
    assert TransportParams().model_dump() == {**DOCUMENTED, "audio_out_lead_ms": 400}


def test_a_bitrate_that_is_given_can_be_told_from_one_that_is_not() -> None:
    assert "audio_out_bitrate" not in TransportParams().model_fields_set
    assert "audio_out_bitrate" in TransportParams(audio_out_bitrate=96000).model_fields_set


@pytest.mark.parametrize(
    "wrong",
    [
        {"audio_out_channels": 3},
        {"audio_out_10ms_chunks": 0},
        {"audio_out_lead_ms": 1000},
        {"audio_out_volume": -1.0},
        {"audio_out_volume": float("nan")},
        {"audio_out_end_silence_secs": -1},
        {"audio_out_write_timeout_secs": 0},
        {"audio_out_mixer": "a file"},
        {"audio_out_mixer": {None: "a file"}},
        {"audio_in_sample_rate": 10},
        {"video_out_framerate": 0},
        {"video_in_sources": {"camera": {}}},
        {"video_in_enabled": True, "video_in_sources": {"camera": {"framerate": 0}}},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TransportParams(**wrong)


def test_a_source_has_a_frame_rate_or_waits_for_requests() -> None:
    assert VideoInSourceParams().framerate == 30
    assert VideoInSourceParams(on_request_only=True).on_request_only
    with pytest.raises(ValueError, match="framerate"):
        VideoInSourceParams(on_request_only=True, framerate=5)


def test_a_mixer_belongs_to_the_default_destination_and_a_mapping_to_its_names() -> None:
    one = SoundfileMixer(sound_files={"a": "a"}, default_sound="a")
    two = SoundfileMixer(sound_files={"b": "b"}, default_sound="b")
    single = TransportParams(audio_out_mixer=one)
    assert (single.mixer_of(None), single.mixer_of("stage")) == (one, None)
    both = TransportParams(audio_out_mixer={None: one, "stage": two})
    assert (both.mixer_of(None), both.mixer_of("stage"), both.mixer_of("x")) == (one, two, None)


def test_a_bitrate_of_video_is_accepted_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="no effect"):
        TransportParams(video_out_bitrate=800_000)


async def test_a_transport_without_video_or_clients_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Bare(BaseTransport):
        def input(self) -> Any: ...

        def output(self) -> Any: ...

    transport = Bare(name="bare")
    await transport.capture_participant_video("someone")
    assert transport.get_client_id(object()) == ""
    assert caplog.text.count("bare") == 2
