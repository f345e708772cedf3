"""SDP as small devices can read it: ESP32 boards choke on long fingerprints and many addresses."""

from __future__ import annotations

import re

LONG_FINGERPRINTS = ("sha-384", "sha-512")


def smallwebrtc_sdp_munging(sdp: str, host: str | None) -> str:
    """The answer without long fingerprints and, with `host`, with host candidates of it alone."""
    kept = [line for line in sdp.splitlines() if not _too_long(line)]
    if host:
        kept = [line for line in kept if not line.startswith("a=candidate") or _is_of(line, host)]
    return "\r\n".join(kept) + "\r\n"


def _too_long(line: str) -> bool:
    return line.startswith("a=fingerprint:") and any(name in line for name in LONG_FINGERPRINTS)


def _is_of(line: str, host: str) -> bool:
    # The whole address: 10.0.0.1 is no part of 10.0.0.12.
    whole = rf"(?<![\w.:]){re.escape(host)}(?![\w.:])"
    return re.search(whole, line) is not None and "raddr" not in line
