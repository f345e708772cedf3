"""Background behind the bot's speech.

A mixer of the user's own runs in the user's process, on each chunk before it is written. A
`SoundfileMixer` only declares what is to be heard where a transport's worker mixes it; elsewhere
it mixes here like any other.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.transports.base.sound import load
from engine.transports.frames import (
    MixerControlFrame,
    MixerEnableFrame,
    MixerUpdateSettingsFrame,
)
from ipc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipc.frames import Pcm

log = logging.getLogger(__name__)

MAX_VOLUME = 4  # as for a worker


class BaseAudioMixer(ABC):
    """Mixes something into outgoing audio, also while the bot is silent."""

    @abstractmethod
    async def start(self, sample_rate: int) -> None:
        """The transport starts; its samples come at `sample_rate` Hz."""

    @abstractmethod
    async def stop(self) -> None:
        """No more audio comes."""

    @abstractmethod
    async def process_frame(self, frame: MixerControlFrame) -> None:
        """A frame for the mixer, at once: not in order with the audio."""

    @abstractmethod
    async def mix(self, audio: bytes) -> bytes:
        """The int16 samples with the background in them, as many as before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """What a `SoundfileMixer` declares: which file is heard, and how, once it is `mixing`.

    `volume` is a factor on its samples.
    """

    file: str
    volume: float
    loop: bool
    mixing: bool


class SoundfileMixer(BaseAudioMixer):
    """Sounds of files, one at a time; the others wait to be chosen.

    `sound_files` maps names to paths, `default_sound` is the first one heard. Volume 0.4 by
    default; `mixing=False` begins silent; without `loop` the sound is heard once.
    MixerUpdateSettingsFrame changes `sound`, `volume` and `loop`, MixerEnableFrame whether it is
    heard. Files may have any rate, and any container that the media library opens.
    """

    def __init__(
        self,
        *,
        sound_files: Mapping[str, str],
        default_sound: str,
        volume: float = 0.4,
        mixing: bool = True,
        loop: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if default_sound not in sound_files:
            raise ConfigError(f"{default_sound!r} is none of the sounds", code="mixer")
        self._files = dict(sound_files)
        self._sound = default_sound
        self._volume = _checked(volume)
        self._mixing = mixing
        self._loop = loop
        # How many channels the audio has; whoever starts it may say so before.
        self.channels = 1
        self._hz = 0
        self._samples: dict[str, Pcm] = {}
        self._at = 0

    @property
    def background(self) -> Background:
        """What is declared now."""
        return Background(
            file=self._files[self._sound],
            volume=self._volume,
            loop=self._loop,
            mixing=self._mixing,
        )

    async def start(self, sample_rate: int) -> None:
        """Load the sounds. What cannot be loaded is logged, and silent."""
        self._hz = sample_rate
        self._at = 0
        for name, path in self._files.items():
            try:
                self._samples[name] = await asyncio.to_thread(
                    load, path, sample_rate, self.channels
                )
            except (OSError, ValueError) as error:
                log.error("the sound %s cannot be loaded: %s", name, error)

    async def stop(self) -> None:
        """Let the sounds go."""
        self._samples.clear()

    async def process_frame(self, frame: MixerControlFrame) -> None:
        """Change the sound, its volume, whether it loops or is heard at all.

        A setting that cannot be is logged, and the others hold.
        """
        if isinstance(frame, MixerEnableFrame):
            self._mixing = bool(frame.enable)
        elif isinstance(frame, MixerUpdateSettingsFrame):
            for name, value in frame.settings.items():
                try:
                    self._update(name, value)
                except (ConfigError, TypeError, ValueError) as error:
                    log.error("mixer setting %s: %s", name, error)

    async def mix(self, audio: bytes) -> bytes:
        """The samples with the sound in them."""
        sound = self._samples.get(self._sound)
        if not self._mixing or sound is None or len(sound) == 0:
            return audio
        samples = np.frombuffer(audio, np.int16)
        places = np.arange(self._at, self._at + len(samples))
        if self._loop:
            background = sound[places % len(sound)]
            self._at = (self._at + len(samples)) % len(sound)
        else:
            background = np.where(places < len(sound), sound[np.minimum(places, len(sound) - 1)], 0)
            self._at = min(self._at + len(samples), len(sound))
        mixed = samples + background * self._volume
        return np.clip(np.rint(mixed), -32_768, 32_767).astype(np.int16).tobytes()

    def _update(self, name: str, value: Any) -> None:
        if name == "sound":
            if value not in self._files:
                raise ConfigError(f"{value!r} is none of the sounds")
            if value != self._sound:
                self._sound, self._at = value, 0
        elif name == "volume":
            self._volume = _checked(value)
        elif name == "loop":
            if bool(value) and not self._loop:
                self._at = 0
            self._loop = bool(value)
        else:
            raise ConfigError("there is no such setting; there are sound, volume, loop")


def _checked(volume: Any) -> float:
    value = float(volume)
    if not 0 <= value <= MAX_VOLUME:
        raise ConfigError(f"a volume is 0 to {MAX_VOLUME}, not {volume}", code="mixer")
    return value
