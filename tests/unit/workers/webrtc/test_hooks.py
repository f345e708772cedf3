"""What stands on the private parts of aiortc, and SRTP in place."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCRtpTransceiver
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import (
    RTCRtcpParameters,
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpSendParameters,
)
from pylibsrtp import Error, Policy, Session

from tests.support import until
from workers.webrtc import hooks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = bytes(range(30))
MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid"
OPUS = RTCRtpCodecParameters("audio/opus", 48_000, 2, 111)
PARAMETERS = RTCRtpSendParameters(codecs=[OPUS], rtcp=RTCRtcpParameters(cname="a name"), muxId="0")


@pytest.fixture
async def transceiver() -> AsyncIterator[RTCRtpTransceiver]:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    yield peer.addTransceiver("audio")
    await peer.close()


def outbound() -> Session:
    return Session(
        Policy(
            key=KEY,
            ssrc_type=Policy.SSRC_ANY_OUTBOUND,
            srtp_profile=Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
        )
    )


def inbound() -> Session:
    return Session(
        Policy(
            key=KEY,
            ssrc_type=Policy.SSRC_ANY_INBOUND,
            srtp_profile=Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
        )
    )


def over(session: Session) -> RTCDtlsTransport:
    return cast("RTCDtlsTransport", SimpleNamespace(_tx_srtp=session))


def rtp(sequence: int, payload: bytes) -> bytes:
    return bytes.fromhex(f"806f{sequence:04x}000003c0deadbeef") + payload


# -- SRTP in place ------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 3, 20, 160, 1_275])
def test_in_place_is_what_pylibsrtp_makes_of_a_copy(length: int) -> None:
    buffer = bytearray(1_500)
    protector, reference = hooks.Protector(over(outbound()), buffer), outbound()
    for sequence in (0xFFFE, 0xFFFF, 0, 1):  # and over the rollover of the sequence
        packet = rtp(sequence, bytes(range(256)) * 5)[: 12 + length]
        buffer[: len(packet)] = packet
        written = protector.protect(len(packet))
        assert written == len(packet) + 10
        assert bytes(buffer[:written]) == reference.protect(packet)


def test_the_peer_reads_what_was_protected_in_place() -> None:
    buffer = bytearray(1_500)
    protector, peer = hooks.Protector(over(outbound()), buffer), inbound()
    for sequence in range(3):
        packet = rtp(sequence, b"opus" * sequence)
        buffer[: len(packet)] = packet
        assert peer.unprotect(bytes(buffer[: protector.protect(len(packet))])) == packet


def test_what_srtp_refuses_is_a_length_of_zero() -> None:
    buffer = bytearray(1_500)
    protector = hooks.Protector(over(outbound()), buffer)
    assert protector.protect(3) == 0
    packet = rtp(1, b"opus")
    buffer[: len(packet)] = packet
    assert protector.protect(len(packet)) == len(packet) + 10


def test_rtcp_is_protected_in_a_copy() -> None:
    report = bytes.fromhex("80c90001deadbeef")
    protector = hooks.Protector(over(outbound()), bytearray(1_500))
    hidden = protector.protect_rtcp(report)
    assert hidden == outbound().protect_rtcp(report)
    assert inbound().unprotect_rtcp(hidden) == report
    with pytest.raises(Error):
        inbound().unprotect_rtcp(hidden[:-1] + bytes([hidden[-1] ^ 1]))


def receiving(session: Session, buffer: bytearray) -> hooks.Unprotector:
    transport = cast("RTCDtlsTransport", SimpleNamespace(_rx_srtp=session))
    return hooks.Unprotector(transport, buffer)


def test_what_the_peer_protected_is_read_in_place() -> None:
    buffer, peer = bytearray(2_048), outbound()
    unprotector = receiving(inbound(), buffer)
    for sequence in (0xFFFE, 0xFFFF, 0, 1):
        packet = rtp(sequence, b"opus" * 40)
        hidden = peer.protect(packet)
        buffer[: len(hidden)] = hidden
        assert unprotector.unprotect(len(hidden)) == len(packet)
        assert bytes(buffer[: len(packet)]) == packet
    report = bytes.fromhex("80c90001deadbeef")
    hidden = peer.protect_rtcp(report)
    buffer[: len(hidden)] = hidden
    assert unprotector.unprotect_rtcp(len(hidden)) == len(report)
    assert bytes(buffer[: len(report)]) == report


def test_what_is_forged_or_comes_twice_is_a_length_of_zero() -> None:
    buffer, peer = bytearray(2_048), outbound()
    unprotector = receiving(inbound(), buffer)
    hidden = peer.protect(rtp(1, b"opus"))
    for forged in (hidden[:-1] + bytes([hidden[-1] ^ 1]), hidden[:12], hidden[:3], b"", bytes(60)):
        buffer[: len(forged)] = forged
        assert unprotector.unprotect(len(forged)) == 0
        assert unprotector.unprotect_rtcp(len(forged)) == 0
    buffer[: len(hidden)] = hidden
    assert unprotector.unprotect(len(hidden)) == len(hidden) - 10
    buffer[: len(hidden)] = hidden
    assert unprotector.unprotect(len(hidden)) == 0


# -- the pair that ICE chose --------------------------------------------------------------


class Socket:
    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        self.sent.append((data, address))


def pair(socket: Socket | None, port: int) -> Any:
    return SimpleNamespace(
        protocol=SimpleNamespace(transport=socket), remote_addr=("192.0.2.1", port)
    )


def path_over(pairs: dict[int, Any]) -> hooks.Path:
    connection = SimpleNamespace(_nominated=pairs)
    dtls = SimpleNamespace(transport=SimpleNamespace(_connection=connection))
    return hooks.Path(cast("RTCDtlsTransport", dtls))


def test_a_datagram_takes_the_pair_of_the_moment() -> None:
    old, new = Socket(), Socket()
    pairs = {1: pair(old, 4_000)}
    path = path_over(pairs)
    assert path.send(b"first")
    pairs[1] = pair(new, 5_000)
    assert path.send(b"second")
    assert old.sent == [(b"first", ("192.0.2.1", 4_000))]
    assert new.sent == [(b"second", ("192.0.2.1", 5_000))]


def test_on_the_mux_a_datagram_goes_straight_into_the_socket() -> None:
    sent: list[tuple[bytes, tuple[str, int]]] = []

    def send_media(data: memoryview, address: tuple[str, int]) -> bool:
        sent.append((bytes(data), address))
        return len(sent) < 2

    transport = cast("Socket", SimpleNamespace(send_media=send_media))
    path = path_over({1: pair(transport, 4_000)})
    assert path.send(memoryview(b"first"))
    assert not path.send(memoryview(b"refused"))
    assert sent == [(b"first", ("192.0.2.1", 4_000)), (b"refused", ("192.0.2.1", 4_000))]


def test_without_a_pair_or_a_socket_nothing_is_sent() -> None:
    closing = Socket()
    closing.closing = True
    assert not path_over({}).send(b"x")
    assert not path_over({1: pair(None, 4_000)}).send(b"x")
    assert not path_over({1: pair(closing, 4_000)}).send(b"x")
    assert closing.sent == []


def test_the_media_ids_extension_is_the_one_that_was_negotiated(
    transceiver: RTCRtpTransceiver,
) -> None:
    transceiver._headerExtensions = []
    assert hooks.mid_extension_of(transceiver) is None
    transceiver._headerExtensions = [
        RTCRtpHeaderExtensionParameters(1, "urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
        RTCRtpHeaderExtensionParameters(4, MID_URI),
    ]
    assert hooks.mid_extension_of(transceiver) == 4


# -- the parked sender --------------------------------------------------------------------


class Parked:
    """A parked sender and what it told."""

    def __init__(self, sender: RTCRtpSender, fault: Exception | None = None) -> None:
        self.told: list[Any] = []
        self._fault = fault
        hooks.ParkedSender(
            sender,
            on_start=self._start,
            on_stop=lambda: self.told.append("stop"),
        )

    def _start(self, codec: Any) -> None:
        self.told.append(codec)
        if self._fault is not None:
            raise self._fault


async def test_a_parked_sender_tells_begin_and_end_once(transceiver: RTCRtpTransceiver) -> None:
    sender = transceiver.sender
    parked = Parked(sender)
    assert parked.told == []
    await sender.send(PARAMETERS)
    await until(lambda: parked.told, what="the start")
    assert parked.told == [OPUS]
    await sender.stop()
    assert parked.told == [OPUS, "stop"]


async def test_stopping_right_after_the_start_returns(transceiver: RTCRtpTransceiver) -> None:
    parked = Parked(transceiver.sender)
    await transceiver.sender.send(PARAMETERS)
    await transceiver.sender.stop()
    assert parked.told == [OPUS, "stop"]


async def test_stopping_what_never_began_tells_nothing(transceiver: RTCRtpTransceiver) -> None:
    parked = Parked(transceiver.sender)
    await transceiver.sender.stop()
    assert parked.told == []


async def test_a_parked_sender_sends_nothing(
    transceiver: RTCRtpTransceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []

    async def send_rtp(_self: RTCDtlsTransport, data: bytes) -> None:
        sent.append(data)

    monkeypatch.setattr(RTCDtlsTransport, "_send_rtp", send_rtp)
    Parked(transceiver.sender)
    await transceiver.sender.send(PARAMETERS)
    await transceiver.sender.stop()
    assert sent == []


async def test_a_start_that_fails_does_not_hold_up_the_stop(
    transceiver: RTCRtpTransceiver,
) -> None:
    sender = transceiver.sender
    parked = Parked(sender, fault=ValueError("no codec"))
    await sender.send(PARAMETERS)
    await sender.stop()
    assert parked.told == [OPUS, "stop"]
    task = vars(sender)["_RTCRtpSender__rtp_task"]
    await until(task.done)
    assert str(task.exception()) == "no codec"


# -- the parked receiver ------------------------------------------------------------------


async def test_a_parked_receiver_tells_what_was_negotiated_and_starts_nothing(
    transceiver: RTCRtpTransceiver,
) -> None:
    threads = set(threading.enumerate())
    told: list[Any] = []
    hooks.ParkedReceiver(transceiver.receiver, on_start=told.append)
    await transceiver.receiver.receive(cast("Any", PARAMETERS))
    assert told == [PARAMETERS]
    assert set(threading.enumerate()) <= threads
    await transceiver.receiver.stop()
