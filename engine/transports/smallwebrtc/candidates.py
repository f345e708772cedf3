"""A trickled candidate in whatever form it is given, as the engine takes it (RFC 8839)."""

from __future__ import annotations

from typing import Any

from ipc.messages import Candidate


def as_candidate(given: Any) -> Candidate:
    """From aiortc's RTCIceCandidate, the handler's IceCandidate, SDP text, or None at the end."""
    if given is None or isinstance(given, str):
        return Candidate(candidate=given or "")
    if hasattr(given, "sdp_mid"):
        return Candidate(
            candidate=given.candidate,
            sdp_mid=given.sdp_mid,
            sdp_mline_index=given.sdp_mline_index,
        )
    return Candidate(
        candidate=_as_sdp(given), sdp_mid=given.sdpMid, sdp_mline_index=given.sdpMLineIndex
    )


def _as_sdp(given: Any) -> str:
    text = (
        f"candidate:{given.foundation} {given.component} {given.protocol} {given.priority} "
        f"{given.ip} {given.port} typ {given.type}"
    )
    if given.relatedAddress is not None:
        text += f" raddr {given.relatedAddress} rport {given.relatedPort}"
    if given.tcpType is not None:
        text += f" tcptype {given.tcpType}"
    return text
