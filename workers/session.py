"""A session as its worker sees it: a leg, the rings of the bot of the moment, their bell.

The session joins the two sides and knows neither the engine nor a socket: what it has to
tell goes out through `Reports`.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from ipc.errors import BotRejected, StateError
from workers import stats
from workers.background import Background
from workers.held_messages import HeldMessages
from workers.reports import Reports
from workers.said import Said
from workers.sounds import Sounds
from workers.totals import Totals
from workers.webrtc.data_channel import MAX_READ_CHARACTERS, as_read
from workers.webrtc.peer import Peer, State
from workers.webrtc.receiver import Receiver
from workers.webrtc.sender import Sender
from workers.websocket import stats as websocket_stats
from workers.websocket.caller import CallerPeer
from workers.websocket.peer import WebsocketPeer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipc.clock import Clock
    from ipc.codec import Codec
    from ipc.ice_server import IceServer
    from ipc.messages import Candidate
    from ipc.sound_file import SoundFile
    from ipc.stats import AnyRecord
    from ipc.websocket import Websocket
    from workers.leg import Leg, LegSender
    from workers.reports import Report
    from workers.rings import Rings
    from workers.udp_mux import UdpMux
    from workers.websocket.connection import Connection
    from workers.websocket.sockets import Sockets

log = logging.getLogger(__name__)


class Session:
    """One conversation in this worker. `close` is idempotent."""

    def __init__(
        self,
        session_id: str,
        clock: Clock,
        report: Report,
        mux: UdpMux,
        sounds: Sounds | None = None,
        on_remains: Callable[[list[object]], None] = lambda _remains: None,
    ) -> None:
        """`on_remains` is given what peers that have ended leave (see `Garbage.leave`)."""
        self.id = session_id
        self._background = Background(sounds or Sounds())
        # What to encode with when rings come, if a bot has said so before them.
        self._codec: Codec | None = None
        self._mux = mux
        self._on_remains = on_remains
        self.rings: Rings | None = None
        self.offered: Rings | None = None
        # The caller's connection of the moment; `peer` or `websocket` if it is of that kind.
        self.leg: Leg | None = None
        self.peer: Peer | None = None
        self.websocket: WebsocketPeer | None = None
        # Where the caller's voice arrives; its reorder tells when it wants a `tick`.
        self.arriving: Receiver | None = None
        # Offers and candidates are carried out one at a time, in the order they came.
        self.signaling = asyncio.Lock()
        self._clock = clock
        self._reports = Reports(session_id, report)
        self._said = Said()
        self._held = HeldMessages(session_id)
        self._flush_ack = 0
        self._flushes = stats.Flushes()
        self._totals = Totals()
        self.dropped_messages = 0
        self._closed = False
        self._replaced: set[asyncio.Task[None]] = set()

    # -- the caller's leg ---------------------------------------------------------------

    async def answer(
        self, sdp: str, *, restart: bool, ice_servers: Sequence[IceServer] = ()
    ) -> str:
        """Answer an offer, on a new peer when there is none or on request.

        A new peer looks for paths through `ice_servers`.
        """
        if self.websocket is not None:
            raise StateError("the session has a WebSocket")
        old = self.peer
        if old is not None and not restart and old.can_continue(sdp):
            return await old.answer(sdp)
        sender = Sender(self._clock)
        peer = Peer(
            self._mux,
            ice_servers=ice_servers,
            sender=sender,
            receiver=Receiver(self._clock, self._mic_grew, sender.heard),
            on_state=self._leg_changed,
            on_message=self._caller_said,
            on_track_status=self._track_changed,
            clock=self._clock,
            on_silent=self._reports.caller_silent,
            on_remains=self._on_remains,
        )
        try:
            answer = await peer.answer(sdp)
            if self._closed:
                raise StateError("the session has ended", code="session_closed")
        except BaseException:
            await peer.close()
            raise
        if old is not None:
            self._totals.keep(self._counted(0))
        self.leg = self.peer = peer
        self.arriving = peer.receiver
        self._join()
        if old is not None:
            peer.data.inherit(old.data)
            # It ends in a task: until then nothing of it may touch rings that others have.
            old.sender.ring = old.receiver.ring = None
            if self.rings is not None:
                self.rings.ring.rewind()  # the frame that was ready there has not left
            if self._background.mixer is not None:
                self._background.mixer.rest()
            ending = asyncio.create_task(old.close(), name="replaced peer")
            self._replaced.add(ending)
            ending.add_done_callback(self._replaced.discard)
        return answer

    async def dial(self, websocket: Websocket, sockets: Sockets) -> Connection:
        """Dial a server, which is the session's caller from then on. Raises DialFailed."""
        if self.leg is not None:
            raise StateError("the session has a caller")
        peer = WebsocketPeer(
            websocket,
            sockets,
            self._clock,
            on_state=self._leg_changed,
            on_mic=self._mic_grew,
            on_message=self._reports.server_said,
        )
        self.leg = self.websocket = peer
        self._join()
        return await peer.dial()

    def admit(self, websocket: Websocket, sockets: Sockets) -> CallerPeer:
        """A leg for a caller whose WebSocket is about to be open, or the one that it had.

        Raises StateError for one that comes by another way than before.
        """
        if self.leg is None and not self._closed:
            peer = CallerPeer(
                websocket,
                sockets,
                self._clock,
                on_state=self._leg_changed,
                on_mic=self._mic_grew,
                on_message=self._caller_wrote,
            )
            self.leg = self.websocket = peer
            self._join()
        known = self.websocket
        if not isinstance(known, CallerPeer) or known.websocket != websocket:
            raise StateError("the session's caller speaks another format", code="another_format")
        return known

    async def add_candidates(self, candidates: list[Candidate]) -> None:
        """Trickled candidates of the caller."""
        if self.peer is None:
            raise StateError("the session has no WebRTC leg")
        await self.peer.add_candidates(candidates)

    def say(self, data: Any, at: int | None) -> None:
        """Send the caller an app message, after speaker sample `at` has left.

        One that cannot be sent or has no room to wait is dropped and counted.
        """
        # A bot may speak before the engine has told us that it attached.
        rings = self.rings or self.offered
        if at is None or rings is None:
            self._send_now(data)
        elif rings.ring.flush_sent < at <= rings.ring.flush_ack:
            # The flush, through shared memory, was quicker than the message.
            self.dropped_messages += 1
        elif rings.ring.speaker_sent >= at:
            self._send_now(data)
        elif not self._held.add(at, data):
            self.dropped_messages += 1

    def _send_now(self, data: Any) -> None:
        if self.leg is None:
            self.dropped_messages += 1
            return
        try:
            self.leg.data.send(data)
        except (TypeError, ValueError) as error:
            self.dropped_messages += 1
            log.warning("message to the caller of %s cannot be sent: %s", self.id, error)

    def _leg_changed(self, leg: Leg, state: State) -> None:
        if leg is self.leg:
            if state in ("lost", "closed"):  # what it said before comes before
                self.dropped_messages += self._said.end()
            self._reports.leg_changed(leg, state)

    def _caller_wrote(self, text: str | bytes, cursor: int) -> None:
        """The text of an app message came over a WebSocket."""
        assert isinstance(text, str)  # noqa: S101 - a CallerReceiver passes on no other
        self._caller_said(as_read(text), cursor)

    def _caller_said(self, data: Any, cursor: int | None = None) -> None:
        cursor = self._mic_cursor() if cursor is None else cursor
        size = len(data) if isinstance(data, str | bytes) else MAX_READ_CHARACTERS
        self._hear(partial(self._tell_said, data, cursor), size)

    def _track_changed(self, receiver_index: int, enabled: bool) -> None:
        told = partial(self._reports.track_changed, receiver_index, enabled, self._mic_cursor())
        self._hear(told, 0)

    def _hear(self, tell: Callable[[], object], size: int) -> None:
        if not self._said.add(tell, size):
            self.dropped_messages += 1

    def _tell_said(self, data: Any, cursor: int) -> None:
        if not self._reports.caller_said(data, cursor) and self.leg is not None:
            self.leg.data.malformed += 1

    def _mic_cursor(self) -> int:
        return self.rings.ring.mic_written if self.rings else 0

    # -- the bot's rings ----------------------------------------------------------------

    def offer_rings(self, rings: Rings) -> None:
        """Keep rings for a bot that may attach; until then those of the last one go on."""
        last, self.offered = self.offered, rings
        if last is not None:
            last.close()

    async def attach_rings(self, epoch: int) -> None:
        """The bot of `epoch` has them: media flows through them from now on.

        Raises BotRejected when it has not.
        """
        if self.websocket is not None and self.websocket.offers(epoch):
            await self.websocket.attach_messages()
            return
        rings, old = self.offered, self.rings
        if rings is None or rings.epoch != epoch:
            raise StateError("these rings are not offered any more")
        await rings.claimed()
        await self._background.fit(rings.ring)
        if self.offered is not rings:
            raise StateError("these rings are not offered any more")
        if rings.bot_end is None and not rings.ring.bot_pid:
            raise BotRejected("it has not mapped the segment")
        self.offered, self.rings = None, rings
        rings.attach()
        if old is not None:
            if rings.continues:
                rings.ring.continue_from(old.ring)
            else:
                self._held.clear()
        self._flush_ack = rings.ring.flush_ack
        self._join()
        if old is not None:
            old.close()

    def withdraw_rings(self, epoch: int) -> None:
        """The bot of `epoch` did not come."""
        if self.websocket is not None and self.websocket.offers(epoch):
            self.websocket.withdraw_messages()
        if self.offered is not None and self.offered.epoch == epoch:
            self.offered.close()
            self.offered = None

    async def configure(
        self,
        codec: Codec | None = None,
        mixer: SoundFile | msgspec.UnsetType | None = msgspec.UNSET,
    ) -> None:
        """From now on encode the bot's speech like this, and play this under it.

        Holds for callers who come back, too; before there are rings it waits for them. Raises
        ConfigError for a file that cannot be played, and nothing has changed.
        """
        if mixer is not msgspec.UNSET:
            await self._background.play(mixer)
        if codec is not None:
            self._codec = codec
            for rings in (self.rings, self.offered):
                if rings is not None:
                    rings.codec = codec
        if self.leg is not None:
            self._set_up(self.leg.sender)

    def _join(self) -> None:
        ring = self.rings.ring if self.rings is not None else None
        if self.leg is not None:
            self._set_up(self.leg.sender)
            self.leg.sender.ring = ring
            self.leg.receiver.ring = ring

    def _set_up(self, sender: LegSender) -> None:
        codec = self.rings.codec if self.rings is not None else self._codec
        if codec is not None:
            sender.configure(codec)
        sender.mixer = self._background.mixer

    # -- the beat -----------------------------------------------------------------------

    def encode(self) -> None:
        """A slot ahead: make the next packet ready."""
        if self.leg is not None:
            self.leg.sender.encode()

    def miss(self, frames: int) -> None:
        """Frames were given up after a stall."""
        if self.leg is not None:
            self.leg.sender.miss(frames)

    def send(self, now_ns: int) -> None:
        """Every 20 ms: let the packet go."""
        if self.leg is not None:
            self.leg.sender.send(now_ns)

    def settle(self, now_ns: int) -> None:
        """Behind everybody's packets: answer flushes, free held messages, ring the bell."""
        self._said.beat()
        rings = self.rings
        if rings is None:
            return
        ring = rings.ring
        ring.beat(now_ns)
        if self.leg is None or not self.leg.sender.sending:
            ring.apply_flush()
        flushed = ring.flush_ack != self._flush_ack
        if flushed:
            self._flush_ack = ring.flush_ack
            self._flushes.answered(ring.flush_asked_ns, self._clock.now_ns())
            self._release_held(ring.flush_sent)
            self.dropped_messages += sum(1 for _ in self._held.due(self._flush_ack))
        sent = ring.speaker_sent
        if self._held:
            self._release_held(sent)
        rings.left(sent, now_ns, flushed=flushed)

    def _release_held(self, sent: int) -> None:
        for data in self._held.due(sent):
            self._send_now(data)

    def _mic_grew(self) -> None:
        if self.rings is not None:
            self.rings.mic_grew()

    def stats(self, unix_ns: int) -> list[AnyRecord]:
        """How the session does at `unix_ns`; see `ipc.stats`."""
        return self._totals.add(self._counted(unix_ns))

    def _counted(self, unix_ns: int) -> list[AnyRecord]:
        """The records of the caller's connection of the moment."""
        ring = self.rings.ring if self.rings is not None else None
        flushes, dropped = self._flushes, self.dropped_messages
        if self.websocket is not None:
            return [websocket_stats.record(self.websocket, ring, flushes, dropped, unix_ns)]
        return stats.records(stats.sources(self.peer, self._mux, ring, flushes, dropped), unix_ns)

    async def close(self, reason: str) -> None:
        """End the leg politely and give the rings back."""
        self._closed = True
        rings, self.rings = self.rings, None
        self._join()
        for given in (rings, self.offered):
            if given is not None:
                given.close()
        self.offered = None
        leg, self.leg, self.peer, self.arriving = self.leg, None, None, None
        if isinstance(leg, CallerPeer):
            leg.farewell = reason
        if leg is not None:
            if reason != "caller_left":
                leg.data.say_goodbye(in_haste=reason == "engine_gone")
            await leg.close()
        await asyncio.gather(*self._replaced, return_exceptions=True)
