"""One certificate and one TLS context for all calls of a worker.

aiortc makes both for every peer connection, which holds the beat for 0.8 ms. The certificate is
made anew every day, far within the month that it is good for. The context also lets peers with
an RSA certificate in. aiortc finds the class by a module-level name, which is replaced once per
worker process.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

import aiortc.rtcpeerconnection
from aiortc.rtcdtlstransport import RTCCertificate
from OpenSSL import SSL

if TYPE_CHECKING:
    from aiortc.rtcdtlstransport import SRTPProtectionProfile

RENEW_S = 24 * 3600.0
# As a DTLS client we take the server's kind of certificate: ECDSA, or RSA as older ones have.
# Ours is ECDSA, so as a server only the first kind is ever chosen.
SUITES = b":".join(
    b"-".join((b"ECDHE", kind, cipher))
    for kind in (b"ECDSA", b"RSA")
    for cipher in (b"AES128-GCM-SHA256", b"CHACHA20-POLY1305", b"AES128-SHA", b"AES256-SHA")
)


class SharedCertificate(RTCCertificate):
    """What `generateCertificate` gives until it is renewed."""

    _current: ClassVar[SharedCertificate | None] = None
    _made_s: ClassVar[float] = 0.0
    _context: SSL.Context | None = None

    @classmethod
    def generateCertificate(cls) -> SharedCertificate:
        """The certificate of the day."""
        now_s = time.monotonic()
        if cls._current is None or now_s - cls._made_s > RENEW_S:
            cls._current = super().generateCertificate()
            cls._made_s = now_s
        return cls._current

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        if self._context is None:
            self._context = super()._create_ssl_context(srtp_profiles=srtp_profiles)
            self._context.set_cipher_list(SUITES)
            # A call is never taken up again by another one's session.
            self._context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        return self._context


def share_certificate() -> None:
    """From now on, every peer of this process has the same one."""
    aiortc.rtcpeerconnection.RTCCertificate = SharedCertificate  # type: ignore[attr-defined]  # the hook
    SharedCertificate.generateCertificate()
