"""A STUN or TURN server, as W3C's RTCIceServer has it, checked wherever it comes in.

`stun:HOST[:PORT]`, `turn:HOST[:PORT][?transport=udp|tcp]` or `turns:HOST[:PORT]` (RFC 7064,
RFC 7065). A credential never shows in a repr, and so in no log.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from ipc.errors import ConfigError

MAX_URLS = 8
_URL = re.compile(
    r"(?P<scheme>stuns?|turns?):(?P<host>[A-Za-z0-9_.-]+)(:(?P<port>\d{1,5}))?"
    r"(\?transport=(?P<transport>udp|tcp))?"
)
_FORMS = "write stun:HOST[:PORT], turn:HOST[:PORT][?transport=udp|tcp] or turns:HOST[:PORT]"
_KEYS = '{"urls": URL or list, "username": NAME, "credential": SECRET}'


class IceServer(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One server under one or more URLs. Refused values raise ConfigError(`ice_server`)."""

    urls: list[str]
    username: str = ""
    credential: str = ""

    def __post_init__(self) -> None:
        """Refuse what neither aiortc nor a browser could use."""
        if not 1 <= len(self.urls) <= MAX_URLS:
            raise _refused(f"a server has 1 to {MAX_URLS} URLs, not {len(self.urls)}")
        for url in self.urls:
            _check_url(url)
            if url.startswith("turn") and not (self.username and self.credential):
                raise _refused(
                    f"{url} needs a user name and a credential: write it as JSON, {_KEYS}"
                )

    def __repr__(self) -> str:
        """For logs: without the credential."""
        secret = ", credential=***" if self.credential else ""
        name = f", username={self.username!r}" if self.username else ""
        return f"IceServer({' '.join(self.urls)}{name}{secret})"

    @classmethod
    def of(cls, value: object) -> IceServer:
        """From a URL, JSON text or what JSON and TOML make of it. Raises ConfigError."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            if not value.strip().startswith("{"):
                return cls(urls=[value.strip()])
            try:
                value = json.loads(value)
            except ValueError:
                raise _refused(f"this is not JSON; write a URL or {_KEYS}") from None
        if not isinstance(value, dict) or not set(value) <= {"urls", "username", "credential"}:
            raise _refused(f"a server is a URL or {_KEYS}, and nothing else")
        fields: dict[str, Any] = dict(value)
        if isinstance(fields.get("urls"), str):
            fields["urls"] = [fields["urls"]]
        try:
            return msgspec.convert(fields, cls)
        except msgspec.ValidationError:  # it would repeat no value, but says little either
            raise _refused(f"a server is {_KEYS}, all of them text") from None

    def as_w3c(self) -> dict[str, Any]:
        """What a browser's RTCPeerConnection takes."""
        given = {"username": self.username, "credential": self.credential}
        return {"urls": self.urls} | {name: text for name, text in given.items() if text}


def _check_url(url: str) -> None:
    match = _URL.fullmatch(url)
    if match is None or (match["port"] and not 1 <= int(match["port"]) <= 65_535):
        raise _refused(f"{url[:80]!r} is no URL of a STUN or TURN server; {_FORMS}")
    scheme, transport = match["scheme"], match["transport"]
    if scheme == "stuns":
        raise _refused("STUN over TLS is not supported; write stun:HOST[:PORT]")
    if (scheme == "stun" and transport) or (scheme == "turns" and transport == "udp"):
        raise _refused(f"{url}: {scheme} does not take transport={transport}; {_FORMS}")


def _refused(message: str) -> ConfigError:
    return ConfigError(f"ice_server: {message}"[:300], code="ice_server")
