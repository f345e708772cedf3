"""What sender and receiver need of the transport below them; `hooks` has it over aiortc."""

from __future__ import annotations

from typing import Protocol


class Protector(Protocol):
    """Makes SRTP of the packet in the sender's buffer."""

    def protect(self, length: int) -> int:
        """Protect in place; the new length, 0 on failure."""
        ...

    def protect_rtcp(self, packet: bytes) -> bytes:
        """A protected copy of an RTCP packet."""
        ...


class Unprotector(Protocol):
    """Undoes SRTP in the mux' buffer."""

    def unprotect(self, length: int) -> int:
        """The length of the RTP packet; 0 when it is not authentic."""
        ...

    def unprotect_rtcp(self, length: int) -> int:
        """The length of the RTCP packet; 0 when it is not authentic."""
        ...


class Path(Protocol):
    """Where datagrams go."""

    def send(self, data: bytes | memoryview) -> bool:
        """Send without waiting; False when it cannot be sent."""
        ...
