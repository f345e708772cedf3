"""What a bot's author gets wrong is told at the call that has it wrong."""

from __future__ import annotations

from typing import Any

import pytest

from engine.sdk import Bot
from engine.sdk.playable import as_samples
from ipc.errors import ConfigError
from ipc.ring_layout import Samples

SPEAKER = Samples(memoryview(bytearray(4 * 2 * 480)), 480, 480, 48_000, 1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": ""}, "has a name"),
        ({"capacity": -1}, "0 or more, not -1"),
        ({"media": "udp"}, '"shm" or "zmq", not \'udp\''),
    ],
)
def test_a_bot_that_no_engine_would_take_is_not_made(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Bot(**arguments)


@pytest.mark.parametrize("pcm", [[1, 2, 3], "text", None, 7])
def test_what_cannot_be_played_is_named(pcm: Any) -> None:
    with pytest.raises(ConfigError, match=f"play takes .*, not {type(pcm).__name__}"):
        as_samples(pcm, None, SPEAKER)
