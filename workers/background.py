"""The background of one session: what the bot wants to play, and the mixer that plays it.

The mixer belongs to the session, so what plays goes on where it stands when the caller's
connection or the bot is replaced. Files are opened when they are asked for, never on the beat.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ipc.errors import BackbeatError
from workers.audio.mixer import Mixer

if TYPE_CHECKING:
    from ipc.audio_ring import WorkerRing
    from ipc.sound_file import SoundFile
    from workers.sounds import Sounds

log = logging.getLogger(__name__)

# Before there are rings a file is opened at the rate that most bots have, to refuse it in time.
USUAL_HZ = 48_000


class Background:
    """Plays what `play` was given, at the rate that `fit` was given."""

    def __init__(self, sounds: Sounds) -> None:
        self._sounds = sounds
        self._settings: SoundFile | None = None
        self._hz, self._channels = USUAL_HZ, 1
        # One change at a time, in the order they came.
        self._changing = asyncio.Lock()
        self.mixer: Mixer | None = None

    async def play(self, settings: SoundFile | None) -> None:
        """Play this from now on, or nothing. Raises ConfigError, and all stays as it was."""
        async with self._changing:
            if settings is not None:
                sound = await self._sounds.load(
                    settings.path, self._hz, self._channels, loop=settings.loop
                )
                mixer = self.mixer = self.mixer or Mixer()
                volume = float(settings.volume) if settings.mixing else 0.0
                same = self._settings is not None and self._settings.path == settings.path
                play = mixer.go_on if same else mixer.play
                play(sound, volume=volume, loop=settings.loop)
            elif self.mixer is not None:
                self.mixer.play(None)
            self._settings = settings

    async def fit(self, ring: WorkerRing) -> None:
        """Go on at the rate of rings that are about to be used."""
        async with self._changing:
            shape = (ring.speaker.hz, ring.speaker.channels)
            settings, mixer = self._settings, self.mixer
            if shape == (self._hz, self._channels):
                return
            self._hz, self._channels = shape
            if settings is None or mixer is None:
                return
            try:
                sound = await self._sounds.load(settings.path, *shape, loop=settings.loop)
            except BackbeatError as error:
                # The call matters more than its background.
                log.warning("a background cannot go on: %s", error)
                mixer.play(None)
                return
            volume = float(settings.volume) if settings.mixing else 0.0
            mixer.go_on(sound, volume=volume, loop=settings.loop)
