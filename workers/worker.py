"""One media process: its sessions, its tick, its channel to the engine.

The engine decides and the worker carries: every command comes over the `workers` socket and
is answered there (`workers.commands`). The tick is one absolute timer for all sessions; what
is not on the beat passes the gate between two ticks. A beat goes out every 50 ms so that the
engine can tell a hang from a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path

import zmq

from ipc.bell import BellRopes
from ipc.channel import Channel
from ipc.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from ipc.errors import WorkerError
from ipc.media_stream import StreamHost
from ipc.messages import LegState, WorkerHello, WorkerSettings
from ipc.sockets import Context, open_socket
from workers.beat import Beat
from workers.commands import Commands
from workers.garbage import Garbage
from workers.gate import Gate
from workers.overdue import Overdue
from workers.pacer import Pacer
from workers.priority import Breath, raise_priority
from workers.ring_opener import RingOpener
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
            on_request=lambda _peer, message: self._commands.request(message),
            on_notify=lambda _peer, message: self._commands.notify(message),
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
            endpoint = f"ipc://{directory / f'media-{self.name}'}"
            self._streams = StreamHost(self._context, endpoint)
            self._start_media()
            self._commands = self._new_commands(self._streams, endpoint)
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

    # -- the sessions -------------------------------------------------------------------

    def _new_commands(self, streams: StreamHost, endpoint: str) -> Commands:
        settings = self._settings
        return Commands(
            self.name,
            self._gate,
            self._sessions,
            begin=self._new_session,
            end=self._close,
            on_offer=self._expect_dialogue,
            rings=RingOpener(
                self._ropes,
                streams,
                endpoint,
                mic_ms=settings.mic_ms,
                speaker_ms=settings.speaker_ms,
            ),
            sockets=self._sockets,
            acceptor=self._acceptor,
        )

    def _expect_dialogue(self) -> None:
        self._dialogue_until_ns = self._clock.now_ns() + DIALOGUE_NS

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

    async def _close(self, session: Session, reason: str) -> None:
        self._sessions.pop(session.id, None)
        self._pacer.remove(session)
        await session.close(reason)
        self._garbage.session_ended()

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
