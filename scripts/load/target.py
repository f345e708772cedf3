"""Where the load goes, what may be loaded, and what to do when a call fails."""

from __future__ import annotations

import ipaddress
import socket
from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlsplit

OFFER_PATH = "/api/offer"
MAX_CALLS = 500
MAX_DURATION_S = 3600.0
MAX_RAMP_S = 600.0

# What callers say of a failed call, and what to do then; the first that fits.
ADVICE = (
    ("ConnectError", "nothing listens there: start the server, or check host and port"),
    ("HTTP 404", "the server has no POST /api/offer there: give the URL of its root or prefix"),
    ("HTTP 405", "the server has no POST /api/offer there: give the URL of its root or prefix"),
    ("HTTP 401", "the server wants credentials, which this load test does not have"),
    ("HTTP 403", "the server refuses this host name (Backbeat: --allowed-host)"),
    ("HTTP 429", "the server limits the rate of calls: take a longer --ramp"),
    ('"no_bot"', "no such bot is there: start it, or ask for another (--bot NAME)"),
    ('"overloaded"', "the machine has no time for more calls: fewer --calls, or more cores"),
    ("HTTP 503", "no bot has room: more bots (Backbeat: --bots N), or fewer --calls"),
    ("HTTP 5", "the server failed: its log tells why"),
    ("HTTP", "the server does not take the offer: it wants {sdp, type, pc_id, restart_pc}"),
    ("no SDP", "the answer is not {sdp, type}: is this a SmallWebRTC server?"),
    ("Timeout", "it did not answer in time: it hangs or is overloaded; fewer --calls or a longer "
     "--ramp"),
    ("did not connect", "signaling worked and media did not: UDP is blocked, the server offers an "
     "address that cannot be reached (Backbeat: --ice-address), or it is overloaded"),
    ("the connection failed", "media broke off while it connected: the server's log tells why"),
)  # fmt: skip


class WrongUse(ValueError):
    """What was asked for cannot be done; the text says what can."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server to be loaded. `url` is what `/api/offer` is added to."""

    url: str
    local_address: str = "127.0.0.1"

    @classmethod
    def parse(cls, url: str, *, allow_remote: bool = False) -> Target:
        """The server behind a URL, with or without `/api/offer`. Raises WrongUse.

        Names other than localhost are not even looked up unless `allow_remote` says so.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise WrongUse(f"{url!r} is no http URL; try http://127.0.0.1:7860")
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise WrongUse(f"{url!r}: {error}") from None
        if parts.query or parts.fragment:
            raise WrongUse(f"{url!r}: a query cannot be passed on; give the URL without it")
        base = url.rstrip("/").removesuffix(OFFER_PATH).rstrip("/")
        if is_loopback(parts.hostname):
            return cls(base)
        if not allow_remote:
            raise WrongUse(
                f"{parts.hostname} is not this machine: a load test may harm a server; if it is "
                "yours, say --allow-remote"
            )
        return cls(base, _address_towards(parts.hostname, port))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name alone; nothing is looked up."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address_towards(host: str, port: int) -> str:
    """The address of ours from which packets go there (nothing is sent)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port))
        except OSError as error:
            raise WrongUse(f"{host} cannot be reached by IPv4: {error}") from None
        address: str = probe.getsockname()[0]
        return address


def advice(error: str) -> str:
    """What to do about a failed call; empty when nobody knows."""
    return next((text for sign, text in ADVICE if sign in error), "")


def explain(errors: list[str], limit: int = 3) -> list[str]:
    """The most frequent failures, how often they were, and what to do about each."""
    lines = []
    for error, count in Counter(errors).most_common(limit):
        todo = advice(error)
        lines.append(f"{count}x {error}" + (f" -> {todo}" if todo else ""))
    return lines
