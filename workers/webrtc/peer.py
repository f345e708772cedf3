"""One WebRTC peer connection of a session: offer in, answer out, until it ends.

aiortc does SDP, ICE, DTLS and SCTP. The peer owns its connection and its receiving task and
reports `connecting`, `connected`, `lost` (the path broke) and `closed` (the caller left).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Literal

from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.sdp import candidate_from_sdp

from ipc.errors import Overloaded, SdpRejected, StateError
from workers.webrtc import hooks
from workers.webrtc.data_channel import DataChannel
from workers.webrtc.sdp import Offer, ice_name_of, is_mdns_candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipc.clock import Clock
    from ipc.ice_server import IceServer
    from ipc.messages import Candidate
    from workers.udp_mux import UdpMux
    from workers.webrtc.ice import ChosenPair
    from workers.webrtc.receiver import Receiver
    from workers.webrtc.sender import Sender

log = logging.getLogger(__name__)

State = Literal["connecting", "connected", "lost", "closed"]
_STATES: dict[str, State] = {
    "connecting": "connecting",
    "connected": "connected",
    "failed": "lost",
    "closed": "closed",
}
CODECS = ("audio/opus", "audio/PCMU", "audio/PCMA")
MAX_CANDIDATES = 100
CLOSE_DEADLINE_S = 2.0


class Peer:
    """The caller's WebRTC leg. `close` is idempotent."""

    def __init__(
        self,
        mux: UdpMux,
        *,
        ice_servers: Sequence[IceServer] = (),
        sender: Sender,
        receiver: Receiver,
        on_state: Callable[[Peer, State], None],
        on_message: Callable[[Any], None],
        on_track_status: Callable[[int, bool], None],
        clock: Clock | None = None,
        on_silent: Callable[[], None] = lambda: None,
        on_remains: Callable[[list[object]], None] = lambda _remains: None,
    ) -> None:
        """`on_silent` hears that nothing has come from the caller for 2 s.

        `on_remains` is given, after the end, what has to be taken apart (see `Garbage.leave`).
        """
        self.sender = sender
        self.receiver = receiver
        self.data = DataChannel(on_message, on_track_status, clock=clock, on_alive=self._alive)
        self._on_silent = on_silent
        self._on_remains = on_remains
        self._turn = mux.turn
        self.state: State | None = None
        # Why the leg was closed from our side; empty when the caller closed it.
        self.fault = ""
        # Of WebSockets only.
        self.close_code, self.close_reason = 0, ""
        # aiortc cannot take an offer back: after a failed one only a new connection helps.
        self.broken = False
        self._on_state = on_state
        self._offer: Offer | None = None
        self._candidates = 0
        self._closing: asyncio.Task[None] | None = None
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=_as_aiortc(ice_servers)))
        transceiver = self._transceiver = self._pc.addTransceiver("audio", "sendrecv")
        sender.bind(transceiver, hooks.cname_of(self._pc))
        receiver.bind(transceiver, mux.buffer)
        receiver.on_fault = self._media_failed
        sender.report_block = receiver.report_block
        sender.on_begin = receiver.listen
        sender.on_fault = self._media_failed
        capabilities = RTCRtpSender.getCapabilities("audio").codecs
        transceiver.setCodecPreferences([c for c in capabilities if c.mimeType in CODECS])
        self._pc.on("connectionstatechange", self._state_changed)
        self._pc.on("datachannel", self._channel_added)

    async def answer(self, sdp: str) -> str:
        """Answer an offer, the first or a later one. Raises NegotiationError."""
        offer = Offer.parse(sdp)
        # Each step holds the loop for up to a millisecond: the beat comes between them.
        await self._turn()
        description = RTCSessionDescription(sdp=offer.sdp, type="offer")
        try:
            await self._pc.setRemoteDescription(description)
            await self._turn()
            codec = hooks.codec_of(self._transceiver)
            if not self.sender.fits(codec.clockRate):
                hooks.renew_source(self._transceiver)
            await self._pc.setLocalDescription(await self._pc.createAnswer())
        except Exception as error:  # aiortc's parser asserts and raises almost anything
            log.debug("offer refused: %r", error)
            self.broken = True
            raise SdpRejected(f"the offer cannot be read: {error}"[:300]) from error
        local = self._pc.localDescription
        if not any(line.startswith("a=candidate:") for line in local.sdp.splitlines()):
            raise Overloaded(
                "no UDP port can be bound on the addresses that callers are offered", code="no_port"
            )
        self._offer = offer
        self.sender.agree(codec, ssrc=hooks.source_of(self._transceiver), heard=self._is_heard)
        self.sender.stereo = offer.wants_stereo
        self.sender.red_type = offer.red_type
        self.receiver.take_red(offer.red_type)
        return offer.answer(local.sdp)

    @property
    def pair(self) -> ChosenPair | None:
        """The path that ICE has chosen, once it has."""
        transports = [transceiver.receiver.transport for transceiver in self._pc.getTransceivers()]
        found: ChosenPair | None = hooks.connection_of(transports[0]).chosen if transports else None
        return found

    def can_continue(self, sdp: str) -> bool:
        """Whether an offer is for this connection: it lives, and the caller's path is the same."""
        if self.broken or self.state in ("lost", "closed") or self._offer is None:
            return False
        return self._offer.ice_name in (ice_name_of(sdp), "")

    @property
    def _is_heard(self) -> bool:
        """Whether the caller listens, by its newest offer."""
        return self._transceiver.currentDirection in ("sendrecv", "sendonly")

    @property
    def _connection(self) -> Any:
        return hooks.connection_of(self._transceiver.receiver.transport)

    async def add_candidates(self, candidates: list[Candidate]) -> None:
        """Add trickled candidates; an empty one ends them. Raises SdpRejected."""
        if self._offer is None:
            raise StateError("there is no offer that these candidates belong to")
        for given in candidates:
            text = given.candidate.removeprefix("a=").removeprefix("candidate:")
            if not text:
                # Other sections may still send theirs: with one transport for all there is
                # nothing to gain from closing it to them.
                continue
            self._candidates += 1
            if is_mdns_candidate(text) or self._candidates > MAX_CANDIDATES:
                continue
            try:
                candidate = candidate_from_sdp(text)
            except (ValueError, AssertionError, IndexError) as error:
                raise SdpRejected(f"malformed candidate {text[:80]!r}") from error
            mid = self._offer.mid_of(given.sdp_mid, given.sdp_mline_index)
            # Everything is bundled on the audio section's transport, also what names another.
            served = {self._offer.sections[i].mid for i in self._offer.served}
            candidate.sdpMid = mid if mid in served else self._offer.audio.mid
            try:
                await self._pc.addIceCandidate(candidate)
            except ValueError as error:
                raise SdpRejected(f"candidate refused: {error}") from error

    async def close(self) -> None:
        """Close the connection; the caller's side learns of it by DTLS."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="peer close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self.data.flush()
        self._pc.remove_all_listeners()
        self.sender.stop()
        self.receiver.stop()
        remains = hooks.parts_of(self._pc)
        try:
            async with asyncio.timeout(CLOSE_DEADLINE_S):
                await self._pc.close()
        except TimeoutError:  # something still works with it: what remains is the collector's
            log.warning("a peer connection did not close in time")
        else:
            self._on_remains([*remains, self.sender, self.receiver, self.data])

    def _media_failed(self) -> None:
        """A call whose bot cannot be heard ends, rather than staying silent."""
        if self.state != "closed":
            self.fault = "codec"
            self.state = "closed"
            self._on_state(self, "closed")

    def _state_changed(self) -> None:
        state = _STATES.get(self._pc.connectionState)
        if self.state in ("lost", "closed"):
            return
        if state == "closed" and self._connection.lost:
            state = "lost"  # aiortc closes everything when the path is given up
        if state is not None and state != self.state:
            self.state = state
            if state == "connected":
                self._connection.on_silent = self._on_silent
                self.data.connected()
            elif state != "connecting":
                self.data.disconnected()
            if state == "connected" and not self._is_heard:
                self.sender.begin()
            self._on_state(self, state)

    def _alive(self) -> None:
        """Something came over the data channel, a ping perhaps: the caller is there."""
        self._connection.heard()

    def _channel_added(self, channel: RTCDataChannel) -> None:
        self.data.adopt(channel)


def _as_aiortc(servers: Sequence[IceServer]) -> list[RTCIceServer]:
    return [
        RTCIceServer(
            urls=server.urls,
            username=server.username or None,
            credential=server.credential or None,
        )
        for server in servers
    ]
