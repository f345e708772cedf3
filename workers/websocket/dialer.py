"""Dialling a WebSocket server: name, path, TLS, proxy, upgrade, redirects, all within a time.

Raises DialFailed with a code that says which of these it was.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
import ssl
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote, urljoin, urlsplit

from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.uri import WebSocketURI, parse_uri

from ipc.errors import DialFailed
from workers.websocket.connection import Connection
from workers.websocket.protocol import ClientEnd

if TYPE_CHECKING:
    from ipc.clock import Clock
    from ipc.websocket import Websocket
    from workers.websocket.sockets import Sockets

# At DEBUG the protocol would log headers, and with them secrets.
_QUIET = logging.getLogger("workers.websocket.protocol")
_QUIET.setLevel(logging.ERROR)
MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
# Answers that another attempt may not get.
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
# Headers that stand once: what a bot gives takes the place of ours.
ONCE = ("host", "user-agent", "authorization", "origin")
# What belongs to one server and must not be told to another.
PRIVATE = ("authorization", "cookie", "proxy-authorization")
MAX_PROXY_ANSWER = 8_192
USER_AGENT = "Backbeat"


async def dial(websocket: Websocket, sockets: Sockets, clock: Clock) -> Connection:
    """An open connection. Raises DialFailed."""
    connection: Connection | None = None
    try:
        async with asyncio.timeout(websocket.open_timeout_s):
            uri, headers = websocket.uri, websocket.headers
            for _ in range(MAX_REDIRECTS + 1):
                connection = _new(websocket, uri, headers, sockets, clock)
                found = await _open(connection, websocket.proxy, sockets.tls)
                if found is None:
                    return connection
                connection.abort()
                uri, headers = _follow(uri, found, headers)
            raise DialFailed(f"more than {MAX_REDIRECTS} redirects", code="dial_redirects")
    except BaseException as error:
        if connection is not None:
            connection.abort()
        failure = _failure(error, websocket)
        if failure is None:
            raise
        raise failure from error


def _new(
    websocket: Websocket,
    uri: str,
    headers: list[tuple[str, str]],
    sockets: Sockets,
    clock: Clock,
) -> Connection:
    protocol = ClientEnd(
        parse_uri(uri),
        origin=websocket.origin,  # type: ignore[arg-type]  # a name for str
        extensions=[ClientPerMessageDeflateFactory()] if websocket.compression else None,
        subprotocols=websocket.subprotocols or None,  # type: ignore[arg-type]  # the same
        max_size=websocket.max_message_bytes,
        logger=_QUIET,
    )
    request = protocol.connect()
    for name, value in headers:
        if name.lower() in ONCE and name in request.headers:
            del request.headers[name]
        request.headers[name] = value
    if "User-Agent" not in request.headers:
        request.headers["User-Agent"] = USER_AGENT
    protocol.send_request(request)
    return Connection(
        protocol,
        sockets,
        clock,
        ping_interval_s=websocket.ping_interval_s,
        ping_timeout_s=websocket.ping_timeout_s,
        close_timeout_s=websocket.close_timeout_s,
    )


async def _open(connection: Connection, proxy: str | None, tls: ssl.SSLContext) -> str | None:
    """Connect and have it upgraded; a redirect's target, or None when it is open."""
    loop = asyncio.get_running_loop()
    uri = cast("ClientEnd", connection.protocol).uri
    context = tls if uri.secure else None
    name = uri.host if uri.secure else None
    if proxy:
        transport: asyncio.BaseTransport | None = await _tunnel(proxy, uri)
        if context is not None:
            transport = await loop.start_tls(
                cast("asyncio.Transport", transport), connection, context, server_hostname=name
            )
        else:
            cast("asyncio.Transport", transport).set_protocol(connection)
        if transport is None:
            raise ConnectionResetError("the proxy closed the connection")
        connection.connection_made(transport)
    else:
        await loop.create_connection(
            lambda: connection, uri.host, uri.port, ssl=context, server_hostname=name
        )
    response = await connection.response
    if response.status_code in REDIRECTS and "Location" in response.headers:
        return str(response.headers["Location"])
    if connection.protocol.handshake_exc is not None:
        raise connection.protocol.handshake_exc
    return None


def _follow(
    uri: str, location: str, headers: list[tuple[str, str]]
) -> tuple[str, list[tuple[str, str]]]:
    """Where a redirect leads, and what may be said there."""
    target = urljoin(f"http{uri.removeprefix('ws')}", location)
    scheme, _, rest = target.partition("://")
    scheme = {"http": "ws", "https": "wss"}.get(scheme, scheme)
    if scheme not in ("ws", "wss") or (uri.startswith("wss:") and scheme == "ws"):
        raise DialFailed("a redirect leads away from a WebSocket", code="dial_redirects")
    target = f"{scheme}://{rest}"
    try:
        before, after = urlsplit(uri), urlsplit(target)
        same = (before.scheme, before.hostname, before.port) == (
            after.scheme,
            after.hostname,
            after.port,
        )
    except ValueError:
        raise DialFailed("a redirect leads nowhere", code="dial_redirects") from None
    return target, headers if same else [
        (name, value) for name, value in headers if name.lower() not in PRIVATE
    ]


class _Tunnel(asyncio.Protocol):
    """The answer of a proxy to CONNECT."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        whole = b"\r\n\r\n" in self._data or len(self._data) > MAX_PROXY_ANSWER
        if whole and not self.answer.done():
            self.answer.set_result(self._data)

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_result(b"")


async def _tunnel(proxy: str, uri: WebSocketURI) -> asyncio.Transport:
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme != "http" or not parts.hostname:
        raise DialFailed("a proxy is http://[USER:SECRET@]HOST:PORT", code="dial_proxy")
    loop = asyncio.get_running_loop()
    try:
        transport, tunnel = await loop.create_connection(_Tunnel, parts.hostname, parts.port or 80)
    except OSError as error:
        raise DialFailed(
            f"the proxy cannot be reached: {error}", code="dial_proxy", retryable=True
        ) from error
    try:
        host = f"[{uri.host}]" if ":" in uri.host else uri.host
        lines = [f"CONNECT {host}:{uri.port} HTTP/1.1", f"Host: {host}:{uri.port}"]
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(secret).decode()}")
        transport.write("\r\n".join([*lines, "", ""]).encode())
        answer = await tunnel.answer
        status = answer.split(b"\r\n", 1)[0].split(b" ")
        head, _, rest = answer.partition(b"\r\n\r\n")
        # What follows the head at once would be lost; no proxy sends it before we spoke.
        if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or status[1] != b"200" or rest:
            shown = head[:60].decode("latin-1")
            raise DialFailed(f"the proxy refused: {shown!r}", code="dial_proxy")
    except BaseException:
        transport.abort()
        raise
    return transport


def _failure(error: BaseException, websocket: Websocket) -> DialFailed | None:
    """What an exception means for whoever dialled; None when it is none of ours."""
    if isinstance(error, DialFailed):
        return error
    if isinstance(error, TimeoutError):
        return DialFailed(
            f"the server did not accept within {websocket.open_timeout_s:g} s",
            code="dial_timeout",
            retryable=True,
        )
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        return DialFailed(
            f"the server answered with HTTP {status}",
            code=f"dial_http_{status}",
            retryable=status in TRANSIENT,
        )
    if isinstance(error, InvalidHandshake | InvalidURI):
        return DialFailed(f"no WebSocket is there: {error}"[:300], code="dial_protocol")
    if isinstance(error, socket.gaierror):
        return DialFailed(f"the host is unknown: {error}", code="dial_unknown_host", retryable=True)
    if isinstance(error, ssl.SSLError):
        return DialFailed(f"TLS failed: {error}"[:300], code="dial_tls")
    if isinstance(error, OSError):
        # Not the whole URI: its query may have a secret.
        where = urlsplit(websocket.uri).netloc.rpartition("@")[2]
        reason = f"no connection to {where}: {error}"
        return DialFailed(reason[:300], code="dial_refused", retryable=True)
    if isinstance(error, UnicodeError | ValueError):
        return DialFailed(f"that cannot be dialled: {error}"[:300], code="dial_protocol")
    return None
