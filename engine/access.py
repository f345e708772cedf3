"""Who may reach this engine from a browser: the host it asks for, and the page that asks.

A page of another site whose name was made to point to this machine (DNS rebinding) asks for a
host that is not ours; a page of a foreign site says so in its Origin. Programs say no Origin.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ipc.errors import AuthError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.config import Settings

LOOPBACK_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"


class Access:
    """The rules for HTTP requests and WebSocket callers. Empty lists allow everything."""

    def __init__(self, hosts: Iterable[str], origins: Iterable[str], *, loopback: bool) -> None:
        """On `loopback` pages of this machine may ask, and others only if they are listed."""
        self._hosts = frozenset(hosts)
        self._origins = frozenset(origins)
        self._loopback = loopback

    @classmethod
    def of_callers(cls, settings: Settings) -> Access:
        """For WebSocket callers, who may also ask for the host of the public URL."""
        hosts = settings.allowed_hosts
        if hosts and settings.public_ws_url:
            hosts = [*hosts, (urlsplit(settings.public_ws_url).hostname or "").lower()]
        return cls(hosts, settings.allowed_origin, loopback=settings.on_loopback)

    def check_host(self, host: str) -> None:
        """`host` is the header's value. Raises AuthError(`host_not_allowed`)."""
        name = without_port(host.lower())
        if self._hosts and name not in self._hosts:
            raise AuthError(
                f"this engine does not serve the host {name[:100]!r}; allow it with --allowed-host",
                code="host_not_allowed",
            )

    def check_origin(self, origin: str | None) -> None:
        """`origin` is the header's value. Raises AuthError(`origin_not_allowed`)."""
        if origin is None or origin in self._origins or "*" in self._origins:
            return
        if self._loopback:
            allowed = re.fullmatch(LOOPBACK_ORIGIN, origin) is not None
        else:
            allowed = not self._origins
        if not allowed:
            raise AuthError(
                f"pages of {origin[:100]!r} may not call here; allow them with --allowed-origin",
                code="origin_not_allowed",
            )


def without_port(host: str) -> str:
    """`HOST` of `HOST:PORT`; an IPv6 address keeps its brackets."""
    return host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
