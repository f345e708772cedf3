"""A transport's parameters: Pipecat's and one more, and what of them the engine's side needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipecat.audio.mixers.base_audio_mixer import BaseAudioMixer as PipecatMixer
from pipecat.transports.base_transport import TransportParams as PipecatParams
from pydantic import Field

from engine.integrations.pipecat.mixer import declared
from engine.transports import base
from engine.transports.base import BaseAudioMixer

if TYPE_CHECKING:
    from engine.transports.frames import MixerControlFrame

# What means the same on both sides.
SHARED = (
    "audio_in_channels",
    "audio_in_enabled",
    "audio_in_sample_rate",
    "audio_out_auto_silence",
    "audio_out_bitrate",
    "audio_out_channels",
    "audio_out_destinations",
    "audio_out_enabled",
    "audio_out_sample_rate",
    "audio_out_write_timeout_secs",
    "video_out_height",
    "video_out_width",
)


class TransportParams(PipecatParams):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """Pipecat's parameters, and how far the audio may lead.

    `audio_out_lead_ms`: how much unsent audio a write may leave behind, 0 to 900 ms: what
    outlasts a pause of this process. At most 100 with a mixer of yours, or with destinations.
    With Pipecat's own `TransportParams` it is 400.
    """

    audio_out_lead_ms: int = Field(default=400, ge=0, le=900)


class _MixesHere(BaseAudioMixer):
    """Stands for a mixer that runs in the pipeline."""

    async def start(self, sample_rate: int) -> None: ...

    async def stop(self) -> None: ...

    async def process_frame(self, frame: MixerControlFrame) -> None: ...

    async def mix(self, audio: bytes) -> bytes:
        return audio


def mixer_of(params: Any, destination: str | None) -> Any:
    """Pipecat's mixer of one destination, or None. A single one is that of the default."""
    mixers = params.audio_out_mixer
    if isinstance(mixers, Mapping):
        return mixers.get(destination)
    return mixers if destination is None else None


def for_engine(params: Any) -> base.TransportParams:
    """What the engine's side needs to know. Raises pydantic's ValidationError, a ValueError."""
    return base.TransportParams(**shared(params))


def shared(params: Any, *more: str) -> dict[str, Any]:
    """What of Pipecat's parameters means the same to the engine's side, where it was given."""
    names = (*SHARED, *more)
    given = {name: getattr(params, name) for name in names if name in params.model_fields_set}
    if (lead_ms := getattr(params, "audio_out_lead_ms", None)) is not None:
        given["audio_out_lead_ms"] = lead_ms
    mixers: Any = params.audio_out_mixer
    if isinstance(mixers, PipecatMixer):
        mixers = {None: mixers}
    if mixers:
        given["audio_out_mixer"] = {
            destination: (destination is None and declared(mixer)) or _MixesHere()
            for destination, mixer in mixers.items()
        }
    return given
