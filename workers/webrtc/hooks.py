"""Every place where we reach below aiortc's public surface, and the test that it is there.

aiortc is held to a minor version; a worker runs `self_test` at its start and refuses to serve
when something has moved.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

import aioice.ice
import aioice.turn
import aiortc.rtcicetransport
import aiortc.rtcpeerconnection
import aiortc.rtcsctptransport
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.rtcdtlstransport import RTCCertificate
from pylibsrtp import Error as SrtpError
from pylibsrtp import Policy, Session

from ipc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiortc import RTCDataChannel, RTCRtpReceiver, RTCRtpSender, RTCRtpTransceiver
    from aiortc.rtcdtlstransport import RTCDtlsTransport

SRTP_OK = 0
# Of user data: with SCTP, DTLS, UDP and IPv6 around it, it passes where an MTU is 1200.
SCTP_CHUNK_BYTES = 1_100
# Names that `ice`, `relay`, `sctp` and `certificate` replace, override or call.
REPLACED: list[tuple[Any, str]] = [
    (aiortc.rtcicetransport, "Connection"),
    (aiortc.rtcpeerconnection, "RTCCertificate"),
    (aiortc.rtcsctptransport, "USERDATA_MAX_LENGTH"),
    (aiortc.rtcsctptransport, "tsn_plus_one"),
    (aiortc.rtcsctptransport.RTCSctpTransport, "_receive_data_chunk"),
    (aiortc.rtcsctptransport.RTCSctpTransport, "_handle_data"),
    (aiortc.rtcsctptransport.RTCSctpTransport, "_mark_received"),
    (aiortc.rtcsctptransport.RTCSctpTransport, "_send_sack"),
    (aiortc.rtcsctptransport.RTCSctpTransport, "_send_chunk"),
    (aiortc.rtcsctptransport.RTCSctpTransport, "_abort"),
    (aiortc.rtcsctptransport.RTCSctpTransport, "_set_state"),
    (RTCCertificate, "_create_ssl_context"),
    (aioice.ice, "StunProtocol"),
    (aioice.ice.StunProtocol, "datagram_received"),
    (aioice.ice.StunProtocol, "send_stun"),
    (aioice.ice.Connection, "get_component_candidates"),
    (aioice.ice.Connection, "_check_periodic"),
    (aioice.ice.Connection, "_add_remote_candidate"),
    (aioice.ice.Connection, "_end_remote_candidates"),
    (aioice.ice.Connection, "request_received"),
    (aioice.ice.Connection, "check_complete"),
    (aioice.ice.Connection, "query_consent"),
    (aioice.ice.Connection, "protocol_lost"),
    (aioice.ice.Connection, "data_received"),
    (aioice.ice.Connection, "build_request"),
    (aioice.ice.Connection, "_remote_candidates_expected"),
    (aioice.ice.CandidatePair.State, "SUCCEEDED"),
    (aioice.ice.StunProtocol, "request"),
    (aioice.ice.StunProtocol, "connection_made"),
    (aioice.ice.StunProtocol, "connection_lost"),
    (aioice.turn.TurnClientUdpProtocol, "connect"),
    (aioice.turn.TurnClientUdpProtocol, "delete"),
    (aioice.turn.TurnClientUdpProtocol, "channel_bind"),
    (aioice.turn.TurnClientUdpProtocol, "_send"),
]
# What `ice` reads and writes of a connection of aioice's, `relay` of a TURN client, and `sctp` of
# an association.
OF_CONNECTION = (
    "_closing",
    "_early_checks",
    "_local_username",
    "_nominated",
    "_protocols",
    "_query_consent_task",
    "_queue",
    "_remote_candidates",
)
OF_TURN_CLIENT = (
    "channel_to_peer",
    "mapped_address",
    "peer_to_channel",
    "receiver",
    "refresh_task",
    "relayed_address",
)
OF_ASSOCIATION = (
    "_advertised_rwnd",
    "_association_state",
    "_inbound_streams",
    "_last_received_tsn",
    "_sack_duplicates",
    "_sack_misordered",
    "_sack_needed",
    "_sent_queue",
)


class ParkedSender:
    """An aiortc sender that does no media work: it only tells when it would begin and end."""

    def __init__(
        self,
        sender: RTCRtpSender,
        *,
        on_start: Callable[[Any], None],
        on_stop: Callable[[], None],
    ) -> None:
        self._sender = sender
        self._on_start = on_start
        self._on_stop = on_stop
        sender._run_rtp = self._run_rtp  # type: ignore[method-assign]
        sender._run_rtcp = self._run_rtcp  # type: ignore[method-assign]

    async def _run_rtp(self, codec: Any) -> None:
        state = vars(self._sender)
        state["_RTCRtpSender__rtp_started"].set()
        try:
            self._on_start(codec)
            await asyncio.Event().wait()  # until aiortc stops the sender
        finally:
            state["_RTCRtpSender__rtp_exited"].set()  # first: aiortc's stop waits for it
            self._on_stop()

    async def _run_rtcp(self) -> None:
        state = vars(self._sender)
        state["_RTCRtpSender__rtcp_started"].set()
        try:
            await asyncio.Event().wait()
        finally:
            state["_RTCRtpSender__rtcp_exited"].set()


def cname_of(peer: RTCPeerConnection) -> str:
    """The canonical name that the SDP promises."""
    return str(vars(peer)["_RTCPeerConnection__cname"])


class Protector:
    """SRTP in place with the keys that aiortc's DTLS has agreed on."""

    def __init__(self, transport: RTCDtlsTransport, buffer: bytearray) -> None:
        from pylibsrtp import _binding  # the compiled half of the package

        self._session = transport._tx_srtp
        self._handle = self._session._srtp[0]
        self._buffer = _binding.ffi.from_buffer("unsigned char[]", buffer)
        self._length = _binding.ffi.new("int *")
        self._rtp = _binding.lib.srtp_protect

    def protect(self, length: int) -> int:
        """Encrypt the packet of `length` bytes in the buffer; its new length, 0 on failure."""
        size = self._length
        size[0] = length
        return size[0] if self._rtp(self._handle, self._buffer, size) == SRTP_OK else 0

    def protect_rtcp(self, packet: bytes) -> bytes:
        """A protected copy of an RTCP packet."""
        return bytes(self._session.protect_rtcp(packet))


class ParkedReceiver:
    """An aiortc receiver that does no media work: it only tells what was negotiated."""

    def __init__(self, receiver: RTCRtpReceiver, *, on_start: Callable[[Any], None]) -> None:
        async def receive(parameters: Any) -> None:
            on_start(parameters)

        # Never started, it has no thread, no task and nothing to stop.
        receiver.receive = receive  # type: ignore[method-assign]


def connection_of(transport: RTCDtlsTransport) -> Any:
    """The ICE connection below a DTLS transport (`ice.MuxedConnection`)."""
    return transport.transport._connection


class Unprotector:
    """SRTP undone in place, in the buffer that datagrams are read into."""

    def __init__(self, transport: RTCDtlsTransport, buffer: bytearray) -> None:
        from pylibsrtp import _binding

        self._session = transport._rx_srtp
        self._handle = self._session._srtp[0]
        self._buffer = _binding.ffi.from_buffer("unsigned char[]", buffer)
        self._length = _binding.ffi.new("int *")
        self._rtp = _binding.lib.srtp_unprotect
        self._rtcp = _binding.lib.srtp_unprotect_rtcp

    def unprotect(self, length: int) -> int:
        """Decrypt the RTP packet of `length` bytes; its new length, 0 when it is not authentic."""
        size = self._length
        size[0] = length
        return size[0] if self._rtp(self._handle, self._buffer, size) == SRTP_OK else 0

    def unprotect_rtcp(self, length: int) -> int:
        """The same for RTCP."""
        size = self._length
        size[0] = length
        return size[0] if self._rtcp(self._handle, self._buffer, size) == SRTP_OK else 0


class Path:
    """Datagrams on the pair that ICE has chosen, which may change during the call."""

    def __init__(self, transport: RTCDtlsTransport) -> None:
        self._pairs = transport.transport._connection._nominated
        self._pair: Any = None
        self._address: Any = None
        self._send: Callable[[Any, Any], bool] = _nowhere

    def send(self, data: bytes | memoryview) -> bool:
        """Send without waiting; False when there is no pair or its socket is gone."""
        pair = self._pairs.get(1)
        if pair is not self._pair:
            self._pair, self._address, self._send = pair, None, _nowhere
            if pair is not None:
                self._address, self._send = pair.remote_addr, _way_through(pair.protocol.transport)
        return self._send(data, self._address)


def _nowhere(_data: object, _address: object) -> bool:
    return False


def _way_through(transport: Any) -> Callable[[Any, Any], bool]:
    """How to send on a pair: straight into the mux' socket, or through a relay's transport."""
    direct: Callable[[Any, Any], bool] | None = getattr(transport, "send_media", None)
    if direct is not None:
        return direct

    def relayed(data: bytes | memoryview, address: Any) -> bool:
        if transport is None or transport.is_closing():
            return False
        transport.sendto(bytes(data), address)
        return True

    return relayed


def mid_extension_of(transceiver: RTCRtpTransceiver) -> int | None:
    """The number that the SDP gave to the header extension with the media id."""
    for extension in transceiver._headerExtensions:
        if extension.uri == "urn:ietf:params:rtp-hdrext:sdes:mid":
            return int(extension.id)
    return None


def codec_of(transceiver: RTCRtpTransceiver) -> Any:
    """What was agreed on to send: `mimeType`, `payloadType` and `clockRate`."""
    return transceiver._codecs[0]


def source_of(transceiver: RTCRtpTransceiver) -> int:
    """The SSRC that the SDP gives to what we send."""
    return int(transceiver.sender._ssrc)


def renew_source(transceiver: RTCRtpTransceiver) -> None:
    """Another SSRC for what we send, in the next answer and from then on."""
    transceiver.sender._ssrc = random.SystemRandom().randrange(1, 1 << 32)


def parts_of(peer: RTCPeerConnection) -> list[object]:
    """What refers to each other in rings, so that it would not go by itself.

    To be asked before `close`, which forgets some of it.
    """
    ends: list[Any] = [
        end
        for transceiver in peer.getTransceivers()
        for end in (transceiver, transceiver.sender, transceiver.receiver)
    ]
    if peer.sctp is not None:
        ends.append(peer.sctp)
    parts: dict[int, object] = {id(part): part for part in (peer, *ends)}
    for end in ends:
        transport = getattr(end, "transport", None)
        if transport is not None:
            ice = transport.transport
            connection = ice._connection
            below = (transport, ice, ice.iceGatherer, connection, *connection._protocols)
            parts |= {id(part): part for part in below}
    return [*parts.values()]


def shorten_chunks() -> None:
    """From now on SCTP packets of this process fit into narrow tunnels, too."""
    vars(aiortc.rtcsctptransport)["USERDATA_MAX_LENGTH"] = SCTP_CHUNK_BYTES


def is_acknowledged(channel: RTCDataChannel) -> bool:
    """Whether the peer has everything that was sent over the channel's transport."""
    transport = channel.transport
    waiting = transport._data_channel_queue, transport._outbound_queue, transport._sent_queue
    return not any(waiting)


async def self_test() -> None:
    """Make sure that every hook fits. Raises ConfigError that names the one that does not."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        for owner, name in REPLACED:
            getattr(owner, name)
        transceiver = peer.addTransceiver("audio")
        mid_extension_of(transceiver)
        sender = transceiver.sender
        cname_of(peer)
        for name in ("__rtp_started", "__rtp_exited", "__rtcp_started", "__rtcp_exited"):
            if f"_RTCRtpSender{name}" not in vars(sender):
                raise AttributeError(f"RTCRtpSender{name}")
        for name in ("_run_rtp", "_run_rtcp", "_ssrc"):
            getattr(sender, name)
        _ = transceiver._codecs, transceiver.currentDirection
        if not callable(transceiver.receiver.receive):
            raise AttributeError("RTCRtpReceiver.receive")
        _ = sender.transport._tx_srtp, sender.transport._rx_srtp
        # Stock ones: what a class of ours sets itself would hide that nobody else does.
        _check_state(aioice.ice.Connection(ice_controlling=True), OF_CONNECTION)
        _check_state(aioice.turn.TurnClientUdpProtocol(("", 0), None, None, 1, 1), OF_TURN_CLIENT)
        _ = sender.transport.transport._connection._nominated
        _check_srtp(sender.transport)
        channel = peer.createDataChannel("test")
        is_acknowledged(channel)
        for part in parts_of(peer):
            vars(part)
        _check_state(channel.transport, OF_ASSOCIATION)
        _ = aiortc.rtcsctptransport.InboundStream().reassembly
    except (AttributeError, ImportError, KeyError, TypeError, SrtpError) as error:
        raise ConfigError(
            f"this version of aiortc is not the one that the workers know: {error}",
            code="hooks",
        ) from error
    finally:
        # What does not fit may keep aiortc from closing, too: the reason above matters more.
        with contextlib.suppress(AttributeError):
            await peer.close()


def _check_state(of: object, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in vars(of):
            raise AttributeError(f"{type(of).__name__}.{name}")


def _check_srtp(transport: RTCDtlsTransport) -> None:
    """One packet of each kind through SRTP and back, both in place."""
    key = bytes(range(30))
    profile = Policy.SRTP_PROFILE_AES128_CM_SHA1_80
    transmit = Policy(key=key, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile)
    receive = Policy(key=key, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=profile)
    packet = bytes([0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]) + random.randbytes(20)
    report = bytes([0x80, 201, 0, 1, 0, 0, 0, 1])
    buffer = bytearray(packet.ljust(200, b"\0"))
    before = transport._tx_srtp, transport._rx_srtp
    transport._tx_srtp, transport._rx_srtp = Session(policy=transmit), Session(policy=receive)
    try:
        protector, unprotector = Protector(transport, buffer), Unprotector(transport, buffer)
    finally:
        transport._tx_srtp, transport._rx_srtp = before
    length = protector.protect(len(packet))
    if not length or buffer.startswith(packet):
        raise TypeError("libsrtp does not protect in place")
    if unprotector.unprotect(length) != len(packet) or not buffer.startswith(packet):
        raise TypeError("libsrtp does not undo in place what it has protected")
    hidden = protector.protect_rtcp(report)
    buffer[: len(hidden)] = hidden
    if unprotector.unprotect_rtcp(len(hidden)) != len(report) or not buffer.startswith(report):
        raise TypeError("libsrtp does not undo reports in place")
    if unprotector.unprotect_rtcp(len(hidden)):
        raise TypeError("libsrtp takes what is not authentic")
