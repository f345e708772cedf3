"""STUN and TURN servers as the documented API has them, and as the engine takes them."""

from __future__ import annotations

import dataclasses
from typing import Any

from ipc import ice_server


@dataclasses.dataclass
class IceServer:
    """A STUN or TURN server; fields as those of W3C's RTCIceServer."""

    urls: str | list[str]
    username: str | None = None
    credential: str | None = None
    credentialType: str = "password"


def as_servers(given: list[str] | list[IceServer] | None) -> list[Any]:
    """Servers from URLs or from objects. Raises TypeError for a mixture."""
    servers: list[Any] = list(given or [])
    if all(isinstance(server, str) for server in servers):
        return [IceServer(urls=server) for server in servers]
    if any(isinstance(server, str) for server in servers):
        raise TypeError("ice_servers are all URLs or all IceServer objects")
    return servers


def for_engine(server: Any) -> ice_server.IceServer:
    """From ours, or from aiortc's RTCIceServer. Raises ConfigError for what cannot be used."""
    urls = server.urls
    return ice_server.IceServer(
        urls=[urls] if isinstance(urls, str) else list(urls),
        username=server.username or "",
        credential=server.credential or "",
    )
