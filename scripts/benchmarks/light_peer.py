"""One WebRTC peer that costs next to nothing: aiortc agrees on the keys, then it sleeps.

SDP, ICE, DTLS and RTCP are aiortc's. Media is ours: packets encoded before go out with SRTP in
place; what comes in is noted with the kernel's time of arrival and neither decrypted nor
decoded. aiortc's senders and receivers do nothing in a process that called `install`.
"""

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections import deque
from typing import TYPE_CHECKING

import aiortc.rtcicetransport
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSessionDescription,
)
from pylibsrtp import _binding

from scripts.benchmarks import speech
from scripts.benchmarks.light_socket import LightConnection, LightSocket, now
from tests.fakes.network import Faults, Network
from workers.audio import red

if TYPE_CHECKING:
    from collections.abc import Callable

PACKET_TICKS = 960
TRAILER_BYTES = 160
RED_TYPE = 63
CONNECT_DEADLINE_S = 15.0
_HEADER = struct.Struct("!BBHII")


def install(address: str = "127.0.0.1") -> None:
    """Make every peer of this process a light one, on a local address."""
    LightSocket.address = address

    async def nothing(self: object, parameters: object) -> None:
        """No media work, no decoder thread, no RTCP of aiortc's."""

    aiortc.rtcicetransport.Connection = LightConnection  # type: ignore[attr-defined]  # the hook
    RTCRtpSender.send = nothing  # type: ignore[method-assign]
    RTCRtpReceiver.receive = nothing  # type: ignore[method-assign]


def offer_red(sdp: str) -> str:
    """An offer of one audio line that offers RED too, over the codec that stands first."""
    lines = []
    for line in sdp.splitlines():
        if line.startswith("m=audio "):
            over = line.split()[3]
            line = f"{line} {RED_TYPE}"
        lines.append(line)
    lines += [f"a=rtpmap:{RED_TYPE} red/48000/2", f"a=fmtp:{RED_TYPE} {over}/{over}"]
    return "\r\n".join(lines) + "\r\n"


def without_red(sdp: str) -> str:
    """An answer as aiortc understands it; the same when it has no RED."""
    lines = []
    for line in sdp.splitlines():
        if line.startswith("m=audio "):
            line = " ".join(word for word in line.split(" ") if word != str(RED_TYPE))
        if not line.startswith((f"a=rtpmap:{RED_TYPE} ", f"a=fmtp:{RED_TYPE} ")):
            lines.append(line)
    return "\r\n".join(lines) + "\r\n"


class LightPeer:
    """A peer with one audio line. `connected` is set once SRTP has its keys."""

    def __init__(
        self, number: int, note: Callable[[int, bytes, bytes], None], *, red_level: int = 0
    ) -> None:
        """`note(number, packet, time)` gets every RTP packet as it came, and its timespec.

        `red_level`: how many earlier packets each one carries when the server takes RED, which
        is offered when it is not 0.
        """
        self.number = number
        self.red_level = red_level
        self.red = False
        self._earlier: deque[tuple[int, bytes]] = deque(maxlen=red_level)
        self._note = note
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connected = asyncio.Event()
        self._failed = ""
        self._pc.on("connectionstatechange", self._state_changed)
        self._light: LightSocket | None = None
        self._packets = speech.packets()
        self._index = number * 7 % len(self._packets)  # no two callers say the same at once
        self._sequence = random.randrange(1 << 15)
        self._timestamp = random.randrange(1 << 32)
        largest = (max(map(len, self._packets)) + 4) * (1 + red_level)
        self._buffer = bytearray(largest + 12 + TRAILER_BYTES)
        self._last = b""
        self._got = 0
        # Highest sequence number at the last report.
        self._reported: int | None = None
        self.sent = 0
        # What left: the packet of the speech, and when (CLOCK_MONOTONIC ns); None: not noted.
        self.log: list[tuple[int, int]] | None = None
        self._there: Network | None = None
        self._back: Network | None = None
        self._lost_before: list[int] = []

    async def offer(self) -> str:
        """The SDP of an offer that sends and receives audio."""
        self._pc.addTransceiver("audio", direction="sendrecv")
        await self._pc.setLocalDescription(await self._pc.createOffer())
        sdp = str(self._pc.localDescription.sdp)
        return offer_red(sdp) if self.red_level else sdp

    async def accept(self, sdp: str) -> None:
        """Take the answer and wait until media may flow. Raises ConnectionError."""
        if self.red_level:
            plain = without_red(sdp)
            self.red = plain.splitlines() != sdp.splitlines()
            sdp = plain
        await self._pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        try:
            async with asyncio.timeout(CONNECT_DEADLINE_S):
                await self._connected.wait()
        except TimeoutError:
            raise ConnectionError(f"it did not connect in {CONNECT_DEADLINE_S:g} s") from None
        if self._failed:
            raise ConnectionError(f"the connection {self._failed}")

    async def answer(self, sdp: str) -> str:
        """Answer an offer; the peer connects by itself."""
        await self._pc.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        self._pc.getTransceivers()[0].direction = "sendrecv"
        await self._pc.setLocalDescription(await self._pc.createAnswer())
        return str(self._pc.localDescription.sdp)

    def _state_changed(self) -> None:
        state = self._pc.connectionState
        if state == "connected":
            self._take_over()
            self._connected.set()
        elif state in ("failed", "closed"):
            self._failed = state
            self._light = None
            self._connected.set()

    def _take_over(self) -> None:
        transceiver = self._pc.getTransceivers()[0]
        dtls = transceiver.sender.transport
        connection = dtls.transport._connection
        assert isinstance(connection, LightConnection)
        self.rx_srtp = dtls._rx_srtp
        self._tx_srtp = dtls._tx_srtp
        self._ssrc = transceiver.sender._ssrc
        self._payload_type = int(transceiver._codecs[0].payloadType or 0)
        self._address = connection._nominated[1].remote_addr
        handle = self._tx_srtp._srtp[0]
        pointer = _binding.ffi.from_buffer("unsigned char[]", self._buffer)
        length = _binding.ffi.new("int *")
        protect = _binding.lib.srtp_protect
        view = memoryview(self._buffer)
        sendto = self._sendto = connection.light.sock.sendto

        def emit(size: int) -> None:
            length[0] = size
            if protect(handle, pointer, length) == 0:
                if self._there is None:
                    sendto(view[: length[0]], self._address)
                else:
                    self._there.send(bytes(view[: length[0]]), time.monotonic_ns())
                    self.pump()

        self._emit = emit
        connection.on_media = self._arrived
        connection.light.unwatch()
        self._light = connection.light

    @property
    def live(self) -> bool:
        """Whether media can flow."""
        return self._light is not None

    def impair(self, faults: Faults, seed: int) -> None:
        """From now on media goes through a network with faults, each way. Call `pump` often."""
        self._there = Network(faults, 2 * seed)
        self._back = Network(faults, 2 * seed + 1)
        self.mark()

    def mark(self) -> None:
        """Forget what was lost so far."""
        self._lost_before = [len(net.counts.losses) for net in (self._there, self._back) if net]

    def lost(self, reach: int) -> list[tuple[int, int]]:
        """Since the mark, there and back: packets lost, and those that RED cannot bring back.

        They are followed by `reach` others that were lost too.
        """
        found = []
        networks = [net for net in (self._there, self._back) if net]
        for network, before in zip(networks, self._lost_before, strict=True):
            gone = set(network.counts.losses)
            since = network.counts.losses[before:]
            hopeless = [n for n in since if gone.issuperset(range(n + 1, n + 1 + reach))]
            found.append((len(since), len(hopeless)))
        return found

    def pump(self) -> None:
        """Let go what the networks hold and is due."""
        now_ns = time.monotonic_ns()
        if self._there is not None:
            for data in self._there.due(now_ns):
                self._sendto(data, self._address)
        if self._back is not None:
            for data in self._back.due(now_ns):
                self._take(data, now())

    def _arrived(self, data: bytes, when: bytes) -> None:
        if self._back is None:
            self._take(data, when)
            return
        now_ns = time.monotonic_ns()
        self._back.send(data, now_ns)
        for passed in self._back.due(now_ns):
            self._take(passed, when)

    def _take(self, data: bytes, when: bytes) -> None:
        self._last = data
        self._got += 1
        self._note(self.number, data, when)

    def drain(self) -> None:
        """Note what has come. Call it on a timer once the peer is live."""
        if self._light is not None:
            self._light.drain()

    def send(self) -> None:
        """Let the next 20 ms of speech go."""
        if self._light is None:
            return
        payload = self._packets[self._index]
        self._index = (self._index + 1) % len(self._packets)
        kind = self._payload_type
        if self.red:
            kind, payload = RED_TYPE, self._wrapped(payload)
        buffer = self._buffer
        size = 12 + len(payload)
        marker = 0x80 if self.sent == 0 else 0
        _HEADER.pack_into(
            buffer,
            0,
            0x80,
            kind | marker,
            self._sequence,
            self._timestamp,
            self._ssrc,
        )
        buffer[12:size] = payload
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._timestamp = (self._timestamp + PACKET_TICKS) & 0xFFFFFFFF
        if self.log is not None:
            self.log.append(((self._index or len(self._packets)) - 1, time.monotonic_ns()))
        try:
            self._emit(size)
            self.sent += 1
        except OSError:  # the other end went away; ICE will tell
            pass

    def _wrapped(self, payload: bytes) -> bytes:
        """With the packets before it (RFC 2198); remembers this one for the next."""
        timestamp, kind = self._timestamp, self._payload_type
        blocks = [
            (kind, (timestamp - then) & 0xFFFFFFFF, len(data)) for then, data in self._earlier
        ]
        old = b"".join(data for _, data in self._earlier)
        self._earlier.append((timestamp, payload))
        return red.header(blocks, kind) + old + payload

    def report(self) -> None:
        """Send a receiver report (RFC 3550 section 6.4.2): what got lost since the last one.

        It is a silent caller's sign of life too.
        """
        light = self._light
        if light is None or not self._last:
            return
        (highest,) = struct.unpack_from("!H", self._last, 2)
        due = 0 if self._reported is None else (highest - self._reported) & 0xFFFF
        lost = min(255, max(0, due - self._got) * 256 // due) if due else 0
        self._reported, self._got = highest, 0
        block = self._last[8:12] + struct.pack("!IIIII", lost << 24, highest, 0, 0, 0)
        report = struct.pack("!BBHI", 0x81, 201, 7, self._ssrc) + block
        light.sendto(bytes(self._tx_srtp.protect_rtcp(report)), self._address)

    async def close(self) -> None:
        """End the call."""
        self._light = None
        await self._pc.close()
