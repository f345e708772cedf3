"""All calls of a worker share a certificate, which is renewed daily."""

from __future__ import annotations

import time

import aiortc.rtcpeerconnection
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.rtcdtlstransport import SRTP_PROFILES, RTCCertificate

from workers.webrtc import certificate
from workers.webrtc.certificate import RENEW_S, SharedCertificate


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedCertificate, "_current", None)
    monkeypatch.setattr(aiortc.rtcpeerconnection, "RTCCertificate", RTCCertificate)


def now(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: seconds)


def test_it_is_the_same_for_a_day_and_then_another(monkeypatch: pytest.MonkeyPatch) -> None:
    now(monkeypatch, 1_000)
    first = SharedCertificate.generateCertificate()
    now(monkeypatch, 1_000 + RENEW_S)
    assert SharedCertificate.generateCertificate() is first
    now(monkeypatch, 1_001 + RENEW_S)
    second = SharedCertificate.generateCertificate()
    assert second is not first
    assert second.getFingerprints() != first.getFingerprints()


def test_each_has_one_context_of_its_own() -> None:
    first = SharedCertificate.generateCertificate()
    context = first._create_ssl_context(srtp_profiles=SRTP_PROFILES)
    assert first._create_ssl_context(srtp_profiles=SRTP_PROFILES) is context


async def test_connections_made_from_now_on_carry_it() -> None:
    certificate.share_certificate()
    fingerprint = SharedCertificate.generateCertificate().getFingerprints()[0].value
    for _ in range(2):
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peer.createDataChannel("x")
        await peer.setLocalDescription(await peer.createOffer())
        assert fingerprint in peer.localDescription.sdp
        await peer.close()
