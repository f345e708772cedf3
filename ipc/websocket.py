"""How a WebSocket server is dialled, what is spoken there and how it is paced.

A bot says it, a worker does it; the engine only passes it on. Knows no socket.
"""

from __future__ import annotations

from typing import Literal, get_args
from urllib.parse import urlsplit

import msgspec

from ipc.errors import ConfigError

# What runs in the worker; `messages` leaves every message to the bot.
Wire = Literal["protobuf", "raw_pcm", "messages"]
MIN_HZ, MAX_HZ = 8_000, 48_000
MAX_CHUNK_MS = 200
MAX_LEAD_MS = 1_000
MAX_MESSAGE_BYTES = 64 << 20
MAX_URI = 8_192
MAX_HEADERS = 64
MAX_HEADERS_BYTES = 32 << 10


class Reconnect(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """How a server that went away is dialled again: pauses grow from `first_s` to `longest_s`.

    After `within_s` without success the session ends.
    """

    within_s: float = 30.0
    first_s: float = 0.25
    longest_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuse pauses that are none."""
        _check("reconnect.within_s", self.within_s, 0.1, 3_600)
        _check("reconnect.first_s", self.first_s, 0.01, 60)
        _check("reconnect.longest_s", self.longest_s, self.first_s, 600)


class Websocket(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A server and how to speak to it. Refused values raise ConfigError(`websocket`).

    `wire` is the format. Speech leaves at `out_hz` with `out_channels` (0: as the bot gives
    it), in messages of `chunk_ms`, each `lead_ms` (None: one chunk) before the receiver needs
    it, with `wav_header` as a WAV file of its own. A flush sends the format's message for it
    if `interruptions`. Raw PCM comes at `in_hz` with `in_channels`; protobuf says it itself.

    `max_message_bytes` bounds what may come, `compression` offers permessage-deflate. Pings
    leave every `ping_interval_s` and must be answered within `ping_timeout_s` (None: they need
    not). A server that takes nothing for `stall_s` is given up. `proxy` is an HTTP proxy's URL.
    """

    uri: str
    headers: list[tuple[str, str]] = []
    subprotocols: list[str] = []
    origin: str | None = None
    wire: Wire = "protobuf"
    in_hz: int = 16_000
    in_channels: int = 1
    out_hz: int = 0
    out_channels: int = 0
    chunk_ms: int = 40
    lead_ms: int | None = None
    wav_header: bool = False
    interruptions: bool = True
    compression: bool = False
    max_message_bytes: int = 1 << 20
    open_timeout_s: float = 10.0
    close_timeout_s: float = 1.0
    ping_interval_s: float | None = 20.0
    ping_timeout_s: float | None = 20.0
    stall_s: float = 10.0
    proxy: str | None = None
    reconnect: Reconnect | None = None

    def __post_init__(self) -> None:
        """Refuse what no worker could carry out."""
        _check_uri(self.uri)
        if self.wire not in get_args(Wire):
            raise _refused(f"wire is one of {', '.join(get_args(Wire))}, not {self.wire!r}")
        _check("in_hz", self.in_hz, MIN_HZ, MAX_HZ)
        _check("in_channels", self.in_channels, 1, 2)
        if self.out_hz:
            _check("out_hz", self.out_hz, MIN_HZ, MAX_HZ)
        _check("out_channels", self.out_channels, 0, 2)
        _check("chunk_ms", self.chunk_ms, 10, MAX_CHUNK_MS)
        if self.chunk_ms % 10:
            raise _refused(f"chunk_ms is a multiple of 10, not {self.chunk_ms}")
        if self.lead_ms is not None:
            _check("lead_ms", self.lead_ms, 0, MAX_LEAD_MS)
        _check("max_message_bytes", self.max_message_bytes, 1, MAX_MESSAGE_BYTES)
        _check("open_timeout_s", self.open_timeout_s, 0.05, 120)
        _check("close_timeout_s", self.close_timeout_s, 0, 4)
        for name in ("ping_interval_s", "ping_timeout_s"):
            if (value := getattr(self, name)) is not None:
                _check(name, value, 0.05, 3_600)
        _check("stall_s", self.stall_s, 0.1, 600)
        _check_headers(self.headers)


def _check_uri(uri: str) -> None:
    try:
        parts = urlsplit(uri)
        known = parts.scheme in ("ws", "wss") and parts.hostname and (parts.port or 1)
    except ValueError:
        known = None
    if not known or len(uri) > MAX_URI or not uri.isprintable() or " " in uri:
        raise _refused(f"a URI is ws://HOST[:PORT]/PATH or wss://…, not {uri[:100]!r}")


def _check_headers(headers: list[tuple[str, str]]) -> None:
    size = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MAX_HEADERS or size > MAX_HEADERS_BYTES:
        raise _refused(f"give at most {MAX_HEADERS} headers with {MAX_HEADERS_BYTES} bytes")
    for name, value in headers:
        token = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
        if not token or any(end in value for end in "\r\n\0"):
            raise _refused(f"{name[:50]!r} is no HTTP header")


def _check(name: str, value: object, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # type: ignore[operator]  # a number by then
        raise _refused(f"{name} is {low:g} to {high:g}, not {value!r}")


def _refused(message: str) -> ConfigError:
    return ConfigError(f"websocket: {message}"[:200], code="websocket")
