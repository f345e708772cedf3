"""What may be said of a WebSocket server that is to be dialled."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ipc.errors import ConfigError
from ipc.messages import Dial
from ipc.websocket import Reconnect, Websocket
from ipc.wire import decode, encode


@pytest.mark.parametrize(
    "given",
    [
        {"uri": "http://host/"},
        {"uri": "ws://"},
        {"uri": "ws://host:99999/"},
        {"uri": "ws://host/a b"},
        {"uri": "ws://host/\r\nX: y"},
        {"uri": "ws://" + "x" * 9_000},
        {"wire": "opus"},
        {"in_hz": 4_000},
        {"out_hz": 96_000},
        {"out_channels": 3},
        {"chunk_ms": 0},
        {"chunk_ms": 25},
        {"chunk_ms": 400},
        {"lead_ms": -1},
        {"lead_ms": 5_000},
        {"max_message_bytes": 0},
        {"open_timeout_s": 0},
        {"open_timeout_s": float("nan")},
        {"ping_interval_s": -1},
        {"stall_s": True},
        {"headers": [("X", "y\r\nZ: w")]},
        {"headers": [("bad name", "y")]},
        {"headers": [("X", "y")] * 65},
        {"headers": [("X", "y" * 40_000)]},
    ],
)
def test_what_no_worker_could_do_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        Websocket(**{"uri": "ws://host/", **given})
    assert refused.value.code == "websocket"


@pytest.mark.parametrize("given", [{"first_s": 0}, {"first_s": 9, "longest_s": 1}, {"within_s": 0}])
def test_pauses_that_are_none_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Reconnect(**given)


def test_it_travels_whole() -> None:
    websocket = Websocket(
        uri="wss://[::1]:8443/path?x=1",
        headers=[("Authorization", "Bearer x")],
        wire="raw_pcm",
        lead_ms=0,
        ping_timeout_s=None,
        reconnect=Reconnect(first_s=0.5),
    )
    message = Dial(session="s", websocket=websocket)
    assert decode(encode(message)).message == message
    assert msgspec.structs.replace(websocket, lead_ms=None).lead_ms is None
