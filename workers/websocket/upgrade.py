"""What an HTTP request on the callers' port asks for: one of two WebSockets, or nothing we have.

`/ws-client` speaks protobuf as Pipecat's JavaScript client does: it sends 16 kHz, plays 24 kHz,
and knows no message but audio and app messages. `/ws?rate=&channels=` is raw PCM, both ways the
same. The token comes as `?token=`, behind the path, or as a bearer. A pure function.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from websockets.http11 import Request, Response

from ipc.ring_layout import RATES_HZ
from ipc.websocket import MAX_HZ, MIN_HZ, Websocket
from workers.websocket.protocol import ServerEnd
from workers.websocket.receiver import is_affordable

if TYPE_CHECKING:
    from websockets.datastructures import Headers

# At DEBUG the protocol would log headers, and with them tokens.
_QUIET = logging.getLogger("workers.websocket.upgrades")
_QUIET.setLevel(logging.CRITICAL)
MAX_HEAD_BYTES = 16 << 10
MAX_TARGET = 2_048
MAX_FIELDS = 32
MAX_TOKEN = 256
MAX_HEADER = 512
# Reading a list takes time: 15 KiB of it 9 ms, in which nobody is sent anything.
LISTS = ("Connection", "Upgrade", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions")
MAX_LIST = 512
# Nobody is dialled; the field must hold something.
URI = "ws://caller/"
CLIENT_OUT_HZ = 24_000
RAW_HZ = 16_000
# A caller who says nothing for so long is lost: 5 s from the last that was heard.
PING_INTERVAL_S, PING_TIMEOUT_S = 2.0, 3.0
MAX_MESSAGE_BYTES = 1 << 20
# Taking such a message apart takes up to 12 ns a byte.
MAX_PROTOBUF_BYTES = 256 << 10
# What else an answer of this status must say, RFC 9110 section 15 and RFC 6455 section 4.4.
EXTRA = {
    400: ["Sec-WebSocket-Version: 13"],
    405: ["Allow: GET"],
    426: ["Upgrade: websocket", "Sec-WebSocket-Version: 13"],
    429: ["Retry-After: 1"],
    503: ["Retry-After: 1"],
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no WebSocket."""

    status: int
    code: str
    detail: str

    def serialize(self) -> bytes:
        """The whole HTTP answer, after which the connection ends."""
        body = json.dumps({"code": self.code, "detail": self.detail}).encode()
        lines = [
            f"HTTP/1.1 {self.status} {_phrase(self.status)}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: upgrade, close" if self.status == 426 else "Connection: close",
            *EXTRA.get(self.status, []),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that can be granted: the answer and what is spoken then."""

    protocol: ServerEnd
    answer: Response
    websocket: Websocket
    token: str
    host: str
    origin: str | None


def read(head: bytes) -> Wanted | Refusal:
    """What a request asks for; `head` ends with its empty line."""
    # Needed before the request is read, and there only one path begins like this.
    limit = MAX_PROTOBUF_BYTES if head.startswith(b"GET /ws-client") else MAX_MESSAGE_BYTES
    protocol = ServerEnd(max_size=limit, logger=_QUIET)
    protocol.receive_data(head)
    request = next(iter(protocol.events_received()), None)
    if not isinstance(request, Request):
        return Refusal(400, "malformed", _why(protocol))
    if len(request.path) > MAX_TARGET:
        return Refusal(
            414, "too_large", f"a path with its query is at most {MAX_TARGET} characters"
        )
    path, _, query = request.path.partition("?")
    wanted = _format(path, query)
    if isinstance(wanted, Refusal):
        return wanted
    for listing in LISTS:
        if sum(map(len, request.headers.get_all(listing))) > MAX_LIST:
            return Refusal(431, "too_large", f"{listing} is at most {MAX_LIST} characters")
    answer = protocol.accept(request)
    if answer.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
        return Refusal(answer.status_code, "not_a_websocket", _why(protocol))
    hosts, origins = (request.headers.get_all(name) for name in ("Host", "Origin"))
    if len(hosts) != 1:
        return Refusal(400, "malformed", "a request names one host")
    return Wanted(
        protocol=protocol,
        answer=answer,
        websocket=wanted,
        token=_token(path, query, request.headers)[:MAX_TOKEN],
        host=hosts[0][:MAX_HEADER],
        origin=origins[0][:MAX_HEADER] if origins else None,
    )


def _format(path: str, query: str) -> Websocket | Refusal:
    name, _, token = path.removeprefix("/").partition("/")
    if name not in ("ws-client", "ws") or "/" in token or not path.startswith("/"):
        return Refusal(404, "not_found", "callers come to /ws-client, or to /ws with raw PCM")
    try:
        fields = parse_qs(query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return Refusal(400, "malformed", f"a query has at most {MAX_FIELDS} fields")
    if name == "ws-client":
        return Websocket(
            uri=URI,
            out_hz=CLIENT_OUT_HZ,
            out_channels=1,
            interruptions=False,
            max_message_bytes=MAX_PROTOBUF_BYTES,
            ping_interval_s=PING_INTERVAL_S,
            ping_timeout_s=PING_TIMEOUT_S,
        )
    hz = _number(fields.get("rate", [str(RAW_HZ)])[0], MIN_HZ, MAX_HZ)
    if hz is None:
        return Refusal(400, "rate", f"rate is {MIN_HZ} to {MAX_HZ} Hz")
    if not all(is_affordable(hz, ring_hz) for ring_hz in RATES_HZ):
        return Refusal(400, "rate", f"{hz} Hz is no rate that sound has: 8000, 16000, 44100, …")
    channels = _number(fields.get("channels", ["1"])[0], 1, 2)
    if channels is None:
        return Refusal(400, "channels", "channels is 1 or 2")
    return Websocket(
        uri=URI,
        wire="raw_pcm",
        in_hz=hz,
        in_channels=channels,
        out_hz=hz,
        out_channels=channels,
        max_message_bytes=MAX_MESSAGE_BYTES,
        ping_interval_s=PING_INTERVAL_S,
        ping_timeout_s=PING_TIMEOUT_S,
    )


def _number(text: str, low: int, high: int) -> int | None:
    good = text.isascii() and text.isdigit() and len(text) <= len(str(high))
    return int(text) if good and low <= int(text) <= high else None


def _token(path: str, query: str, headers: Headers) -> str:
    in_query = parse_qs(query, max_num_fields=MAX_FIELDS).get("token")
    if in_query:
        return in_query[0]
    behind = path.removeprefix("/").partition("/")[2]
    if behind:
        return behind
    for value in headers.get_all("Authorization"):
        scheme, _, token = value.strip().partition(" ")
        if scheme.lower() == "bearer":
            return token.strip()
    return ""


def _why(protocol: ServerEnd) -> str:
    error = protocol.handshake_exc
    return f"this is no request for a WebSocket: {error}"[:200]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Refused"
