"""What a transport is told when it is made: pydantic models, checked once, here.

Names and defaults are those of the documented classes. `audio_out_lead_ms` is ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine.transports.base.filter import BaseAudioFilter
from engine.transports.base.mixer import BaseAudioMixer


class BotCapabilities(BaseModel):
    """Which media a bot takes and gives; None where that is not known."""

    audio_in: bool | None = None
    audio_out: bool | None = None
    video_in: bool | None = None
    screen_in: bool | None = None
    video_out: bool | None = None
    metrics: bool | None = None


class VideoInSourceParams(BaseModel):
    """How one video source of the caller is passed on.

    `framerate` is a most of frames per second, 1 or more. With `on_request_only` a frame comes
    only as the answer to a `UserImageRequestFrame`; then there is no `framerate` to give.
    """

    framerate: int = Field(default=30, ge=1)
    on_request_only: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.on_request_only and "framerate" in self.model_fields_set:
            raise ValueError("with on_request_only there is no framerate")
        return self


class TransportParams(BaseModel):
    """Media of a transport. Raises ValidationError, a ValueError, for what cannot be.

    Audio toward the caller:
      audio_out_enabled: audio is sent; else audio frames go no further than the transport.
      audio_out_sample_rate: Hz; None takes the pipeline's (24000 there by default).
      audio_out_channels: 1 or 2.
      audio_out_bitrate: bits per second of the encoder. Only when it is given: left alone, the
        engine's own default holds.
      audio_out_10ms_chunks: size of a write, and of the audio frames passed downstream.
      audio_out_filter: applied to queued audio of the default destination, before the volume.
      audio_out_volume: factor on the samples, before the mixer; a `VolumeFrame` changes it.
      audio_out_mixer: background for the default destination, or a mapping of destinations
        (None is the default one) to mixers.
      audio_out_destinations: names that frames may have as `transport_destination`.
      audio_out_end_silence_secs: seconds of silence behind the last audio at an EndFrame.
      audio_out_auto_silence: whether packets of silence leave while nothing is queued.
      audio_out_write_timeout_secs: a write that takes longer makes the transport unusable.
      audio_out_lead_ms: how much unsent audio a write may leave behind, 0 to 900: what outlasts
        a pause of this process. At most 100 with a mixer of yours, or with destinations.

    Audio of the caller:
      audio_in_enabled, audio_in_sample_rate (None takes the pipeline's, 16000), audio_in_channels.
      audio_in_filter: applied to each frame; what it holds back is not passed on.
      audio_in_stream_on_start: False waits for an InputTransportStartAudioStreamingFrame.
      audio_in_passthrough: False filters the audio and passes none on.

    Video:
      video_in_enabled, video_in_sources: which sources of each caller ("camera", "screenVideo")
        are passed on, and how; needs video_in_enabled.
      video_out_enabled, video_out_is_live: False repeats the newest image at the frame rate,
        True shows each image once, in its turn.
      video_out_width, video_out_height, video_out_framerate, video_out_color_format,
      video_out_codec, video_out_destinations.
      video_out_bitrate: without effect, as it has been documented.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    audio_out_enabled: bool = False
    audio_out_sample_rate: int | None = Field(default=None, ge=8_000, le=192_000)
    audio_out_channels: int = Field(default=1, ge=1, le=2)
    audio_out_bitrate: int = Field(default=96_000, ge=6_000, le=510_000)
    audio_out_10ms_chunks: int = Field(default=4, ge=1, le=100)
    audio_out_filter: BaseAudioFilter | None = None
    audio_out_volume: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    audio_out_mixer: BaseAudioMixer | Mapping[str | None, BaseAudioMixer] | None = None
    audio_out_destinations: list[str] = Field(default_factory=list)
    audio_out_end_silence_secs: int = Field(default=2, ge=0)
    audio_out_auto_silence: bool = True
    audio_out_write_timeout_secs: float = Field(default=10.0, gt=0)
    audio_out_lead_ms: int = Field(default=400, ge=0, le=900)
    audio_in_enabled: bool = False
    audio_in_sample_rate: int | None = Field(default=None, ge=8_000, le=192_000)
    audio_in_channels: int = Field(default=1, ge=1, le=2)
    audio_in_filter: BaseAudioFilter | None = None
    audio_in_stream_on_start: bool = True
    audio_in_passthrough: bool = True
    video_in_enabled: bool = False
    video_in_sources: dict[str, VideoInSourceParams] = Field(default_factory=dict)
    video_out_enabled: bool = False
    video_out_is_live: bool = False
    video_out_width: int = Field(default=1024, ge=1)
    video_out_height: int = Field(default=768, ge=1)
    video_out_bitrate: int | None = None
    video_out_framerate: int = Field(default=30, ge=1)
    video_out_color_format: str = "RGB"
    video_out_codec: str | None = None
    video_out_destinations: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.video_in_sources and not self.video_in_enabled:
            raise ValueError("video_in_sources needs video_in_enabled")
        if self.video_out_bitrate is not None:
            warnings.warn("video_out_bitrate has no effect", DeprecationWarning, stacklevel=2)
        return self

    def mixer_of(self, destination: str | None) -> BaseAudioMixer | None:
        """The background of one destination. A single mixer is that of the default one."""
        mixers: Any = self.audio_out_mixer
        if isinstance(mixers, Mapping):
            return mixers.get(destination)
        return mixers if destination is None else None

    def sends_audio_to(self, destination: str | None) -> bool:
        """Whether audio leaves for a destination; not where only images go."""
        return self.audio_out_enabled and destination in (None, *self.audio_out_destinations)
