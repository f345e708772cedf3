"""How the bot's speech is encoded: every knob of the Opus encoder that a bot may turn.

RFC 6716, RFC 7587 and libopus' `opus_defines.h`. Knows no codec library: the worker sets it.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from ipc.errors import ConfigError

Application = Literal["voip", "audio", "lowdelay"]
MIN_BITRATE_BPS = 6_000
MAX_BITRATE_BPS = 510_000
MAX_COMPLEXITY = 10


class Codec(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Parameters of the Opus encoder toward the caller. Refused values raise ConfigError(`codec`).

    `bitrate_bps` is 6000 to 510000; `complexity` 0 (least CPU) to 10. `application` is `lowdelay`
    (CELT, 2.5 ms of look-ahead), `audio` or `voip` (SILK for speech at low rates; three times
    the CPU). `fec` adds in-band FEC for `expected_loss_percent` (0 to 100) of loss; `lowdelay`
    has none. With `dtx` nothing is sent while the bot is silent. Without `silence` nothing is
    sent while nothing is queued, whatever the codec (a background of its own is sent).
    """

    bitrate_bps: int = 48_000
    complexity: int = 5
    application: Application = "lowdelay"
    fec: bool = False
    expected_loss_percent: int = 0
    dtx: bool = False
    silence: bool = True

    def __post_init__(self) -> None:
        """Refuse what libopus would refuse or silently ignore."""
        _check_range("bitrate_bps", self.bitrate_bps, MIN_BITRATE_BPS, MAX_BITRATE_BPS)
        _check_range("complexity", self.complexity, 0, MAX_COMPLEXITY)
        _check_range("expected_loss_percent", self.expected_loss_percent, 0, 100)
        if self.application not in get_args(Application):
            raise _refused(f"application is voip, audio or lowdelay, not {self.application!r}")
        for name, flag in (("fec", self.fec), ("dtx", self.dtx), ("silence", self.silence)):
            if not isinstance(flag, bool):
                raise _refused(f"{name} is true or false, not {flag!r}")
        if self.fec and self.application == "lowdelay":
            raise _refused("in-band FEC needs application voip or audio: lowdelay emits none")


def _check_range(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _refused(f"{name} is {low} to {high}, not {value!r}")


def _refused(message: str) -> ConfigError:
    return ConfigError(f"codec: {message}"[:200], code="codec")
