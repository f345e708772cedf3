"""A sound that plays under the bot's speech: what to play and how, in plain values.

Declarative, so that the worker can play it: no code of a bot runs there. Knows no file and no
codec; whether the file can be played is said by whoever opens it.
"""

from __future__ import annotations

import math
import os

import msgspec

from ipc.errors import ConfigError

MAX_VOLUME = 4.0
MAX_PATH = 4096


class SoundFile(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A background sound. Refused values raise ConfigError(`mixer`).

    `path` is an audio file (WAV, FLAC, Ogg, MP3, AAC and others, any rate, up to 5 minutes) on
    the engine's machine. `volume` multiplies its samples, 0 to 4. With `loop` it begins again
    at its end, seamlessly. Without `mixing` it is silent and stands still; it goes on from
    there. Changes of volume are ramped over 20 ms.
    """

    path: str
    volume: float = 0.4
    loop: bool = True
    mixing: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be played."""
        _check_path(self.path)
        _check_volume(self.volume)
        for name, flag in (("loop", self.loop), ("mixing", self.mixing)):
            if not isinstance(flag, bool):
                raise _refused(f"{name} is true or false, not {flag!r}")

    def absolute(self) -> SoundFile:
        """The same, found from any working directory: the worker's is not the bot's."""
        return msgspec.structs.replace(self, path=os.path.abspath(self.path))


def _check_path(path: object) -> None:
    if not isinstance(path, str) or not 0 < len(path) <= MAX_PATH or "\0" in path:
        raise _refused(f"path is a text of 1 to {MAX_PATH} characters, none of them zero")


def _check_volume(volume: object) -> None:
    if not isinstance(volume, int | float) or isinstance(volume, bool):
        raise _refused(f"volume is a number, not {volume!r}")
    if not math.isfinite(volume) or not 0 <= volume <= MAX_VOLUME:
        raise _refused(f"volume is 0 to {MAX_VOLUME:g}, not {volume!r}")


def _refused(message: str) -> ConfigError:
    return ConfigError(f"mixer: {message}"[:200], code="mixer")
