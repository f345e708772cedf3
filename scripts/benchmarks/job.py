"""What a bot is asked to do in a run; the same words for every kind of bot."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

Mode = Literal["talk", "hear", "both", "echo", "flush"]
VARIABLE = "BENCH_JOB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run's settings. They travel to the bot's process in one environment variable."""

    mode: Mode = "talk"
    """`talk` speaks without end, `hear` reads what the caller says, `both` does both, `echo`
    plays it back, `flush` speaks and interrupts itself at random times."""
    burn: float = 0.0
    """Share of the time (0 to 1) in which a thread of the bot holds the GIL."""
    burn_when_told: bool = False
    """Bots of pipelines: it begins with a POST to `/api/burn`, not with the first call."""
    block_ms: float = 0.0
    """The bot's loop stands still for so long once each second."""
    hz: int = 48_000
    """Rate of speaker and mic; the in-process bots have 48 kHz only."""
    bots: int = 1
    """Bot processes; the in-process bots are always one."""
    codec: dict[str, Any] = field(default_factory=dict)
    """Encoder settings that differ from the stack's own: bitrate_bps, complexity, application."""
    keep_ms: float = 0.0
    """An `echo` drops a frame while more than this waits to be played; 0: it never drops."""
    log: str = ""
    """Directory for what `flush` did."""

    def environment(self) -> dict[str, str]:
        """The environment of a bot's process."""
        return os.environ | {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> Self:
        """The job of this process; the default one when nobody set any."""
        return cls(**json.loads(os.environ.get(VARIABLE, "{}")))


# What Backbeat sends with by default, for a stock encoder that is to do the same work.
OUR_CODEC = {"bitrate_bps": 48_000, "complexity": 5, "application": "lowdelay", "channels": 1}
OUR_CODEC_NAME = "Opus lowdelay mono 48 kbit/s complexity 5"
STOCK_CODEC_NAME = "Opus voip stereo 96 kbit/s complexity 10"
