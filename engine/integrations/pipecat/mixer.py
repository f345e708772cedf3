"""Backgrounds: Pipecat's mixer of sound files as one that a worker plays.

A worker needs no turn of the bot's loop to go on with the sound, and takes files of any rate.
Other mixers run in the pipeline, as Pipecat runs them.
"""

from __future__ import annotations

import logging
from typing import Any

from pipecat.audio.mixers.base_audio_mixer import BaseAudioMixer
from pipecat.frames.frames import (
    MixerControlFrame,
    MixerEnableFrame,
    MixerUpdateSettingsFrame,
)

from engine.transports import frames
from engine.transports.base import SoundfileMixer
from ipc.errors import ConfigError

log = logging.getLogger(__name__)


def declared(mixer: Any) -> SoundfileMixer | None:
    """What a worker would play for a mixer of Pipecat's; None for a mixer of another kind.

    A subclass may mix in ways of its own, so it counts as another kind.
    """
    kind = type(mixer)
    if (kind.__module__, kind.__name__) != (
        "pipecat.audio.mixers.soundfile_mixer",
        "SoundfileMixer",
    ):
        return None
    try:
        return SoundfileMixer(
            sound_files=mixer._sound_files,
            default_sound=mixer._current_sound,
            volume=mixer._volume,
            mixing=mixer._mixing,
            loop=mixer._loop,
        )
    except (AttributeError, ConfigError) as error:
        log.warning("the sounds are mixed in the bot's process: %s", error)
        return None


def as_ours(frame: Any) -> frames.MixerControlFrame | None:
    """A frame for a mixer of ours; None for what it would not know."""
    if isinstance(frame, MixerUpdateSettingsFrame):
        return frames.MixerUpdateSettingsFrame(settings=dict(frame.settings))
    if isinstance(frame, MixerEnableFrame):
        return frames.MixerEnableFrame(enable=frame.enable)
    return None


class SteadyMixer(BaseAudioMixer):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """A mixer that may fail: then the speech goes on without its background.

    Pipecat's sender would end at the first failure, and the bot were mute from then on.
    """

    def __init__(self, mixer: BaseAudioMixer) -> None:
        self._mixer = mixer
        self._fails = False

    async def start(self, sample_rate: int) -> None:
        """The transport starts."""
        await self._mixer.start(sample_rate)

    async def stop(self) -> None:
        """No more audio comes."""
        await self._mixer.stop()

    async def process_frame(self, frame: MixerControlFrame) -> None:
        """A frame for the mixer."""
        await self._mixer.process_frame(frame)

    async def mix(self, audio: bytes) -> bytes:
        """The samples with the background in them, or as they are; the first failure is logged."""
        try:
            mixed: bytes = await self._mixer.mix(audio)
        except Exception:
            if not self._fails:
                self._fails = True
                log.exception("the mixer failed")
            return audio
        self._fails = False
        return mixed
