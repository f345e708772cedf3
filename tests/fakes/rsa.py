"""A caller whose certificate is RSA, as those of older gateways and devices are, in either role."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Literal
from unittest import mock

import aiortc.rtcpeerconnection
from aiortc.rtcdtlstransport import RTCCertificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.fakes.caller import FakeCaller

if TYPE_CHECKING:
    from aiortc.rtcdtlstransport import SRTPProtectionProfile
    from OpenSSL import SSL

Setup = Literal["actpass", "active", "passive"]
SUITES = b"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305"
# As a DTLS client one is served by whatever certificate the other side has.
OUR_SUITES = b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305"


class RsaCertificate(RTCCertificate):
    """RSA 2048, self-signed."""

    @classmethod
    def generateCertificate(cls) -> Any:
        """A new one."""
        key = rsa.generate_private_key(65_537, 2_048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rsa")])
        now = datetime.datetime.now(tz=datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        return cls(key=key, cert=certificate)  # type: ignore[arg-type]  # OpenSSL takes any key

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        context = super()._create_ssl_context(srtp_profiles=srtp_profiles)
        context.set_cipher_list(SUITES + b":" + OUR_SUITES)
        return context


class RoleCaller(FakeCaller):
    """A caller who offers one DTLS role; `certificate` makes what it shows."""

    def __init__(
        self,
        url: str,
        *arguments: Any,
        setup: Setup,
        certificate: type[RTCCertificate] = RTCCertificate,
        **options: Any,
    ) -> None:
        super().__init__(url, *arguments, **options)
        self._setup = setup
        self._certificate = certificate

    async def dial(self, *, restart: bool = False) -> None:
        """Offer a new peer connection."""
        with mock.patch.object(aiortc.rtcpeerconnection, "RTCCertificate", self._certificate):
            await super().dial(restart=restart)

    async def _ask(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        if "sdp" in body:
            body["sdp"] = body["sdp"].replace("a=setup:actpass", f"a=setup:{self._setup}")
        return await super()._ask(method, body)
