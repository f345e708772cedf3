"""One media process: its sessions, its tick, its channel to the engine.

The engine decides and the worker carries: every command comes over the `workers` socket and
is answered there. The tick is one absolute timer for all sessions; what is not on the beat
passes the gate between two ticks. A beat goes out every 50 ms so that the engine can tell a
hang from a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from pathlib import Path

import zmq

from ipc.audio_ring import RingSpec
from ipc.bell import BellRopes
from ipc.channel import Channel
from ipc.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from ipc.errors import SessionNotFound, StateError, UnknownMessage, WorkerError
from ipc.media_stream import StreamHost
from ipc.message_stream import MessageStream
from ipc.messages import (
    Accepting,
    Admit,
    Answer,
    Candidates,
    CloseSession,
    Configure,
    Dial,
    Dialled,
    DropRing,
    GetStats,
    LegState,
    Message,
    Offer,
    Ok,
    OpenRing,
    RingAttached,
    RingOpened,
    SendMessage,
    SendRaw,
    Stats,
    WorkerHello,
    WorkerSettings,
)
from ipc.sockets import Context, open_socket
from workers.beat import Beat
from workers.garbage import Garbage
from workers.gate import Gate
from workers.overdue import Overdue
from workers.pacer import Pacer
from workers.priority import Breath, raise_priority
from workers.rings import Rings
from workers.session import Session
from workers.sound_loader import SoundLoader
from workers.sounds import Sounds
from workers.timer import new_timer
from workers.udp_mux import UdpMux
from workers.webrtc import addresses, hooks, ice, sctp
from workers.webrtc.certificate import share_certificate
from workers.websocket.acceptor import Acceptor, inherited
from workers.websocket.sockets import Sockets

log = logging.getLogger(__name__)

HELLO_DEADLINE_S = 10.0
CLOSE_DEADLINE_S = 0.5
# With fewer sessions, datagrams are handled when they come; with more, only in the slots. But an
# offer begins a dialogue, in which every answer counts.
FEW_SESSIONS = 8
DIALOGUE_NS = NS_PER_S
# Speech comes over WebSockets in chunks of two frames or so. With many sessions it is taken in once
# a frame, when the bells ring that could wait: that costs the worker less than each slot, and its
# bots half as much. After a frame in which there was no time for it, as soon as there is.
HEAR_NS = 22 * NS_PER_MS
# WebSockets are drained until so shortly before the next slot.
DRAIN_RESERVE_NS = NS_PER_MS


class Worker:
    """The media process. `run` returns when `stop` was called."""

    def __init__(self, name: str, engine: str, token: str, *, listener: int | None = None) -> None:
        """`listener` is the descriptor of the socket on which WebSocket callers come."""
        self.name = name
        self._engine = engine
        self._token = token
        self._listener = listener
        self._acceptor: Acceptor | None = None
        self._clock = MonotonicClock()
        self._sessions: dict[str, Session] = {}
        self._stopping = asyncio.Event()
        self._failed: set[asyncio.Task[None]] = set()
        self._undo = contextlib.ExitStack()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping.set()

    async def run(self) -> None:
        """Say hello, serve until stopped, give everything back."""
        self._context: Context = zmq.Context()
        channel = Channel(
            open_socket(self._context, zmq.DEALER, connect=self._engine),
            on_request=self._on_request,
            on_notify=self._on_notify,
        )
        self._channel = channel
        self._streams: StreamHost | None = None
        self._timer = new_timer(asyncio.get_running_loop(), self._tick)
        try:
            await hooks.self_test()
            settings = await channel.request(
                WorkerHello(worker=self.name, pid=os.getpid(), token=self._token),
                timeout_s=HELLO_DEADLINE_S,
            )
            if not isinstance(settings, WorkerSettings):
                raise WorkerError("the engine's answer to hello carries no settings")
            self._settings = settings
            logging.getLogger().setLevel(settings.log_level.upper())
            share_certificate()
            hooks.shorten_chunks()
            sctp.mend(lambda: self._mux.dropped.update(("sctp",)))
            directory = Path(settings.runtime_dir)
            self._ropes = BellRopes(directory)
            self._endpoint = f"ipc://{directory / f'media-{self.name}'}"
            self._streams = StreamHost(self._context, self._endpoint)
            self._start_media()
            await self._stopping.wait()
        finally:
            await self._shut_down()

    async def _shut_down(self) -> None:
        self._stopping.set()
        if self._acceptor is not None:
            await self._acceptor.close()
        closing = [self._close(session, "engine_gone") for session in [*self._sessions.values()]]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_DEADLINE_S):
                await asyncio.gather(*closing, *self._failed, return_exceptions=True)
        if self._streams is not None:
            self._streams.close()
        self._timer.close()
        self._undo.close()
        await self._channel.close()
        self._context.destroy(0)

    # -- the beat -----------------------------------------------------------------------

    def _start_media(self) -> None:
        loop = asyncio.get_running_loop()
        self._sounds = Sounds(SoundLoader())
        self._sockets = Sockets(self._settings.tls_ca_file)
        self._undo.callback(self._sounds.close)
        self._garbage = Garbage()
        self._garbage.begin(self._clock.now_ns())
        now_ns = self._clock.now_ns()
        self._pacer = Pacer(now_ns, on_fault=self._session_failed, drain=self._take_in)
        self._overdue = Overdue(on_fault=self._session_failed)
        self._gate = Gate(loop, self._clock, lambda: self._pacer.due_ns)
        settings = self._settings
        self._mux = UdpMux(
            self._clock, self._gate, lambda: self._pacer.due_ns, on_read=self._ropes.ring
        )
        self._undo.callback(self._mux.close)
        local = addresses.local_addresses(settings.ice_addresses)
        self._udp_port = self._mux.open(
            local, settings.udp_ports, all_of_them=bool(settings.ice_addresses)
        )
        public = addresses.public_addresses(local, settings.public_addresses)
        ice.live_on(self._mux, self._clock, public)
        if self._listener is not None:
            self._acceptor = Acceptor(
                inherited(self._listener),
                self._sockets,
                self._clock,
                self._gate,
                lambda claim, timeout_s: self._channel.request(claim, timeout_s=timeout_s),
            )
        self._dialogue_until_ns = 0
        self._hear_ns = 0
        self._beat = Beat(
            self._pacer, now_ns, every_ms=settings.beat_ms, resting_ms=settings.resting_beat_ms
        )
        self._breath = Breath(now_ns)
        self._priority = raise_priority(settings.priority)
        log.info("the pacer's priority: %s", self._priority)
        self._timer.arm(self._pacer.due_ns)

    def _tick(self) -> None:
        if self._stopping.is_set():
            return
        clock = self._clock
        try:
            due_ns = self._pacer.run(clock.now_ns())
        finally:
            self._timer.arm(self._pacer.due_ns)
        at_frame = self._pacer.at_frame
        self._ropes.ring(waiting=at_frame)
        if at_frame and self._streams is not None:
            try:
                self._streams.pump()
            except Exception:
                log.exception("the media streams failed")
        now_ns = clock.now_ns()
        few = not self._mux.busy or len(self._sessions) < FEW_SESSIONS
        self._mux.watch(few or now_ns < self._dialogue_until_ns)
        self._sockets.reading.watch(len(self._sessions) < FEW_SESSIONS)
        if now_ns >= self._beat.due_ns:
            self._say_beat(now_ns)
            self._breath.take(now_ns)
        # An input uses up the gap: then only what cannot wait is collected.
        gap_ns = 0 if self._gate else due_ns - now_ns
        self._gate.open()
        self._garbage.collect(now_ns, gap_ns, len(self._sessions))
        if self._beat.rest(now_ns, busy=self._busy):
            self._timer.arm(self._pacer.due_ns)

    def _take_in(self) -> None:
        """In each slot, when all have sent: what has come, and what has not."""
        self._mux.drain()
        now_ns = self._clock.now_ns()
        few = len(self._sessions) < FEW_SESSIONS
        if few or self._pacer.at_frame or now_ns >= self._hear_ns:
            self._sockets.drain(now_ns, self._slot_is_over)
            # What is left is for the next slot.
            self._hear_ns = 0 if self._sockets.waiting else now_ns + HEAR_NS
        self._overdue.tick(self._sessions, now_ns)

    def _slot_is_over(self) -> bool:
        return self._pacer.due_ns - self._clock.now_ns() < DRAIN_RESERVE_NS

    @property
    def _busy(self) -> bool:
        """Whether anything may be due before the next beat."""
        return bool(
            self._sessions or self._gate or self._sockets.waiting or self._garbage or self._failed
        )

    def _say_beat(self, now_ns: int) -> None:
        self._channel.notify(
            self._beat.next(
                now_ns,
                sessions=len(self._sessions),
                unheard=self._mux.dropped["backlog"],
                priority=self._priority,
                udp_port=self._udp_port,
                upgrades=dict(self._acceptor.counts) if self._acceptor is not None else {},
            )
        )

    def _session_failed(self, session: object) -> None:
        """One session's fault must not stop the beat of the others."""
        assert isinstance(session, Session)  # noqa: S101 - nothing else is paced here
        log.exception("session %s failed", session.id)
        self._pacer.remove(session)
        self._channel.notify(LegState(session=session.id, state="closed", reason="internal"))
        self._sessions.pop(session.id, None)
        closing = asyncio.create_task(session.close("internal"), name="failed")
        self._failed.add(closing)
        closing.add_done_callback(self._failed.discard)
        self._garbage.session_ended()

    # -- commands -----------------------------------------------------------------------

    async def _on_request(self, _peer: bytes, message: Message) -> Message:
        await self._gate.turn()
        if isinstance(message, Offer):
            return await self._offer(message)
        if isinstance(message, Candidates):
            session = self._session(message.session)
            async with session.signaling:
                await session.add_candidates(message.candidates)
            return Ok()
        if isinstance(message, Dial):
            return await self._dial(message)
        if isinstance(message, Admit):
            return self._admit(message)
        if isinstance(message, SendRaw):
            leg = self._session(message.session).websocket
            if leg is None:
                raise StateError("the session has no WebSocket", code="not_connected")
            leg.data.send_raw(
                message.data.decode(errors="replace") if message.text else message.data
            )
            return Ok()
        if isinstance(message, OpenRing):
            if message.media == "messages":
                return self._open_messages(message)
            return self._open_ring(message)
        if isinstance(message, Configure):
            await self._session(message.session).configure(message.codec, message.mixer)
            return Ok()
        if isinstance(message, GetStats):
            return Stats(records=self._session(message.session).stats(time.time_ns()))
        if isinstance(message, RingAttached):
            await self._session(message.session).attach_rings(message.epoch)
            return Ok()
        if isinstance(message, CloseSession):
            ending = self._sessions.get(message.session)
            if ending is not None:
                await self._close(ending, message.reason)
            return Ok()
        raise UnknownMessage(f"a worker does not answer {type(message).__name__}")

    def _on_notify(self, _peer: bytes, message: Message) -> None:
        if isinstance(message, SendMessage):
            self._session(message.session).say(message.data, message.at)
        elif isinstance(message, DropRing):
            session = self._sessions.get(message.session)
            if session is not None:
                session.withdraw_rings(message.epoch)
        elif isinstance(message, Accepting) and self._acceptor is not None:
            self._acceptor.switch(message.on)
        else:
            raise UnknownMessage(f"a worker does not take {type(message).__name__}")

    def _session(self, session_id: str) -> Session:
        session = self._sessions.get(session_id)
        if session is None:
            raise SessionNotFound(f"worker {self.name} has no session {session_id}")
        return session

    async def _offer(self, message: Offer) -> Answer:
        self._dialogue_until_ns = self._clock.now_ns() + DIALOGUE_NS
        session = self._sessions.get(message.session)
        fresh = session is None
        if session is None:
            session = self._new_session(message.session)
        try:
            async with session.signaling:
                sdp = await session.answer(
                    message.sdp, restart=message.restart, ice_servers=message.ice_servers
                )
                return Answer(sdp=sdp)
        except BaseException:
            if fresh:
                await self._close(session, "offer_failed")
            raise

    def _new_session(self, session_id: str) -> Session:
        session = Session(
            session_id,
            self._clock,
            self._channel.notify,
            self._mux,
            self._sounds,
            on_remains=lambda remains: self._garbage.leave(remains, self._clock.now_ns()),
        )
        self._sessions[session_id] = session
        self._beat.wake(self._clock.now_ns())
        self._timer.arm(self._pacer.due_ns)
        self._pacer.add(session)
        return session

    async def _dial(self, message: Dial) -> Dialled:
        if message.session in self._sessions:
            raise StateError("the session has a caller")
        session = self._new_session(message.session)
        try:
            connection = await session.dial(message.websocket, self._sockets)
        except BaseException:
            await self._close(session, "dial_failed")
            raise
        return Dialled(
            session=message.session,
            remote_address=[*connection.remote_address],
            headers=[*connection.response.result().headers.raw_items()],
            subprotocol=connection.protocol.subprotocol,
        )

    def _admit(self, message: Admit) -> Ok:
        if self._acceptor is None:
            raise StateError("the worker takes no callers", code="caller_gone")
        websocket = self._acceptor.admit(message.caller)
        session = self._sessions.get(message.session) or self._new_session(message.session)
        self._acceptor.admitted(message.caller, session.admit(websocket, self._sockets))
        return Ok()

    def _open_messages(self, message: OpenRing) -> RingOpened:
        streams, leg = self._streams, self._session(message.session).websocket
        if streams is None or leg is None:
            raise StateError("the session has no WebSocket")
        end = MessageStream(message.epoch)
        stream, token = streams.open_messages(end)
        end.on_incoming = lambda: streams.pump_one(stream)
        leg.offer_messages(end, lambda: streams.wait_attached(stream), lambda: streams.end(stream))
        return RingOpened(stream=stream, token=token, endpoint=self._endpoint)

    def _open_ring(self, message: OpenRing) -> RingOpened:
        session = self._session(message.session)
        if self._streams is None:
            raise StateError("the worker is still starting")
        old = session.rings.ring if session.rings is not None else None
        spec = RingSpec(
            key=bytes.fromhex(message.session[-32:]),
            epoch=message.epoch,
            mic_hz=message.mic_hz,
            speaker_hz=message.speaker_hz,
            mic_channels=message.mic_channels,
            speaker_channels=message.speaker_channels,
            mic_ms=self._settings.mic_ms,
            speaker_ms=self._settings.speaker_ms,
            mic_base=message.mic_base,
            speaker_base=message.speaker_base,
        )
        if message.media == "shm":
            rope = self._ropes.take(message.bell)
            try:
                rings = Rings(spec, message.segment, rope, old)
            except BaseException:
                rope.let_go()
                raise
            rings.codec = message.codec
            session.offer_rings(rings)
            return _opened(rings)
        streams = self._streams
        rings = Rings(spec, "", None, old)
        assert rings.bot_end is not None  # noqa: S101 - private rings have both ends
        stream, token = streams.open(rings.bot_end)
        rings.on_close = lambda: streams.end(stream)
        rings.claimed = lambda: streams.wait_attached(stream)
        rings.codec = message.codec
        session.offer_rings(rings)
        return _opened(rings, stream, token, self._endpoint)

    async def _close(self, session: Session, reason: str) -> None:
        self._sessions.pop(session.id, None)
        self._pacer.remove(session)
        await session.close(reason)
        self._garbage.session_ended()


def _opened(rings: Rings, stream: int = 0, token: str = "", endpoint: str = "") -> RingOpened:
    ring = rings.ring
    return RingOpened(
        stream=stream,
        token=token,
        endpoint=endpoint,
        mic_base=ring.mic_base,
        speaker_base=ring.speaker_base,
        speaker_written=ring.speaker_written,
    )
