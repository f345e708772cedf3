"""Parameters of the encoder on their way through messages: refused with a code that says why."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from ipc.codec import Codec
from ipc.errors import ConfigError
from ipc.messages import Configure, Hello
from ipc.wire import Unreadable, decode, encode


def test_they_travel_whole_and_default_when_a_bot_says_nothing() -> None:
    codec = Codec(bitrate_bps=24_000, application="voip", fec=True, expected_loss_percent=10)
    assert decode(encode(Configure(session="s_1", codec=codec))).message == Configure(
        session="s_1", codec=codec
    )
    said = decode(msgpack.packb({"v": 1, "t": "hello", "name": "x"})).message
    assert isinstance(said, Hello)
    assert said.codec == Codec()


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"bitrate_bps": 1}, "codec"),
        ({"complexity": 11}, "codec"),
        ({"fec": True}, "codec"),
        ({"expected_loss_percent": -1}, "codec"),
        ({"application": "music"}, "malformed_message"),
        ({"bitrate_bps": "fast"}, "malformed_message"),
    ],
)
def test_a_hello_with_a_value_that_cannot_be_is_refused_with_a_code(
    wrong: dict[str, Any], code: str
) -> None:
    hello = msgpack.packb({"v": 1, "t": "hello", "id": 1, "name": "x", "codec": wrong})
    with pytest.raises(Unreadable) as caught:
        decode(hello)
    assert (caught.value.error.code, caught.value.request) == (code, 1)


@pytest.mark.parametrize("wrong", [{"bitrate_bps": 48e3}, {"dtx": 1}, {"complexity": True}])
def test_values_of_another_type_are_refused_in_python_too(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Codec(**wrong)
