"""The workers: started, watched, replaced, and chosen for sessions.

One spare is always warm, so that a dead worker is replaced at once. A worker is dead when
its process is gone and hung when no beat came for a second, not counting the time in which
this process itself did not turn. Without sessions workers rest, and beat more rarely.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import zmq

from engine.backoff import Backoff
from engine.process import Child
from engine.strain import Strain
from ipc.channel import Channel
from ipc.clock import NS_PER_MS, NS_PER_S, Clock
from ipc.errors import (
    AuthError,
    BackbeatError,
    NoWorker,
    Overloaded,
    UnknownMessage,
    WorkerStalled,
)
from ipc.messages import (
    Accepting,
    Claim,
    Message,
    WorkerBeat,
    WorkerHello,
    WorkerSettings,
)
from ipc.sockets import Context, open_socket

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Coroutine

    from engine.config import Settings
    from ipc.runtime_dir import RuntimeDir

log = structlog.get_logger(__name__)

WORKER_FILE = Path(__file__).resolve().parent.parent / "workers" / "__main__.py"
WATCH_INTERVAL_S = 0.1
# Between the beats of a worker that rests, at most; and between the looks while all of them do.
RESTING_BEAT_MS = 250
RESTING_WATCH_S = 0.25
START_DEADLINE_S = 20.0
COMMAND_DEADLINE_S = 5.0


class WorkerState(Enum):
    """A worker's life."""

    STARTING = "starting"
    SPARE = "spare"
    LIVE = "live"
    GONE = "gone"


@dataclass(eq=False)
class WorkerHandle:
    """What the engine knows of one worker process."""

    name: str
    token: str
    child: Child | None = None
    peer: bytes = b""
    state: WorkerState = WorkerState.STARTING
    started_ns: int = 0
    beat_ns: int = 0
    beat: WorkerBeat | None = None
    strain: Strain = field(default_factory=Strain)
    reason: str = "worker_died"
    sessions: set[str] = field(default_factory=set)

    @property
    def rests(self) -> bool:
        """Whether it may beat more rarely, by what it said last."""
        return self.beat is not None and not self.beat.sessions


class Supervisor:
    """Owns the worker processes and the `workers` socket."""

    def __init__(
        self,
        settings: Settings,
        runtime: RuntimeDir,
        context: Context,
        clock: Clock,
        *,
        on_request: Callable[[WorkerHandle, Message], Awaitable[Message]],
        on_message: Callable[[WorkerHandle, Message], None],
        on_gone: Callable[[WorkerHandle], None],
        listener: socket.socket | None = None,
    ) -> None:
        """From `listener` the workers take the connections of WebSocket callers."""
        self._settings = settings
        self._runtime = runtime
        self._context = context
        self._clock = clock
        self._on_worker_request = on_request
        self._on_message = on_message
        self._on_gone = on_gone
        self._listener = listener
        self._accepting: WorkerHandle | None = None
        self._workers: dict[str, WorkerHandle] = {}
        self._by_peer: dict[bytes, WorkerHandle] = {}
        self._started = 0
        self._backoff = Backoff()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self.replaced = 0

    async def start(self) -> None:
        """Start all workers and return when they are live. Raises NoWorker."""
        socket = open_socket(
            self._context, zmq.ROUTER, bind=self._runtime.endpoint("workers"), queue=10_000
        )
        self._channel = Channel(socket, on_request=self._on_request, on_notify=self._on_notify)
        for _ in range(self._settings.workers + self._settings.spare_workers):
            self._spawn()
        self._keep(self._watch())
        try:
            async with asyncio.timeout(START_DEADLINE_S):
                while len(self.live) < self._settings.workers:
                    if self._backoff.failures > self._settings.workers:
                        raise NoWorker("the media workers end right after their start; see the log")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise NoWorker(f"the media workers did not start in {START_DEADLINE_S:g} s") from None

    @property
    def workers(self) -> list[WorkerHandle]:
        """All workers that are not gone."""
        return list(self._workers.values())

    @property
    def live(self) -> list[WorkerHandle]:
        """The workers that take sessions."""
        return [worker for worker in self._workers.values() if worker.state is WorkerState.LIVE]

    def place(self, among: list[WorkerHandle] | None = None) -> WorkerHandle:
        """The least loaded live worker, for a new call. Raises NoWorker, Overloaded."""
        keeping_up = _keeping_up(among or self.live)
        if self.live and not keeping_up:
            raise Overloaded(
                "the media workers have more calls than they can serve in time; "
                "try again later, or give the engine more cores (--workers)"
            )
        return _least_loaded(keeping_up)

    def find(self) -> WorkerHandle:
        """The least loaded live worker, for a call that has lost its own. Raises NoWorker."""
        return _least_loaded(_keeping_up(self.live) or self.live)

    async def request(
        self, worker: WorkerHandle, message: Message, *, timeout_s: float = COMMAND_DEADLINE_S
    ) -> Message:
        """Carry out a command. Raises what the worker answers, or WorkerError."""
        try:
            return await self._channel.request(message, to=worker.peer, timeout_s=timeout_s)
        except BackbeatError as error:
            if error.code in ("timeout", "peer_gone", "queue_full"):
                raise WorkerStalled(
                    f"worker {worker.name} does not answer: {error.message}"
                ) from error
            raise

    def notify(self, worker: WorkerHandle, message: Message) -> bool:
        """Tell a worker something; False when it is gone or does not read."""
        return self._channel.notify(message, to=worker.peer)

    def switch(self) -> None:
        """Have the least loaded worker take the connections that come, and no other."""
        if self._listener is None or self._closing or not (live := self.live):
            return
        before = self._accepting if self._accepting in live else None
        best = self.find()
        # Whoever comes to one that does not keep up is refused: then any that does is better.
        strained = before is not None and before.strain.too_much and not best.strain.too_much
        if before is not None and not strained and len(before.sessions) <= len(best.sessions):
            return
        if self.notify(best, Accepting(on=True)):
            self._accepting = best
            if before is not None:
                self.notify(before, Accepting(on=False))

    async def close(self) -> None:
        """End every worker."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        children = [worker.child for worker in self._workers.values() if worker.child]
        await asyncio.gather(*(child.end() for child in children))
        if hasattr(self, "_channel"):
            await self._channel.close()

    # -- starting and replacing ---------------------------------------------------------

    def _spawn(self) -> None:
        self._started += 1
        worker = WorkerHandle(name=f"w{self._started}", token=secrets.token_hex(16))
        arguments = [
            sys.executable,
            "-P",
            str(WORKER_FILE),
            "--name",
            worker.name,
            "--engine",
            self._runtime.endpoint("workers"),
        ]
        inherit = []
        if self._listener is not None:
            inherit.append(self._listener.fileno())
            arguments += ["--listener", str(self._listener.fileno())]
        worker.child = Child(
            worker.name,
            arguments,
            secret=worker.token,
            on_exit=lambda _child: self._exited(worker),
            inherit=inherit,
        )
        worker.started_ns = self._clock.now_ns()
        # Its first beat may take long on a machine that has other things to do.
        worker.beat_ns = worker.started_ns + int(START_DEADLINE_S * NS_PER_S)
        self._workers[worker.name] = worker

    def _exited(self, worker: WorkerHandle) -> None:
        before = worker.state
        worker.state = WorkerState.GONE
        self._workers.pop(worker.name, None)
        self._by_peer.pop(worker.peer, None)
        self._changed.set()
        if self._closing:
            return
        returncode = worker.child.returncode if worker.child else None
        log.error("worker_gone", worker=worker.name, reason=worker.reason, returncode=returncode)
        self._channel.forget(worker.peer)
        if before is WorkerState.LIVE:
            self.replaced += 1
        lived_s = (self._clock.now_ns() - worker.started_ns) / NS_PER_S
        self._promote()
        # A spare has taken its place: only one that keeps dying makes anybody wait.
        self._keep(self._respawn(self._backoff.ended(lived_s)))
        self._on_gone(worker)

    async def _respawn(self, delay_s: float) -> None:
        while True:
            await asyncio.sleep(delay_s)
            try:
                self._spawn()
            except OSError as error:  # no process or descriptor is to be had now
                log.error("worker_not_started", error=str(error))
                delay_s = self._backoff.ended(0)
            else:
                return

    def _promote(self) -> None:
        for worker in self._workers.values():
            if len(self.live) >= self._settings.workers:
                return
            if worker.state is WorkerState.SPARE:
                worker.state = WorkerState.LIVE
                log.info("worker_live", worker=worker.name)
        self.switch()

    async def _watch(self) -> None:
        before = self._clock.now_ns()
        while True:
            resting = all(worker.rests for worker in self._workers.values())
            interval_s = RESTING_WATCH_S if resting else WATCH_INTERVAL_S
            await asyncio.sleep(interval_s)
            now = self._clock.now_ns()
            self._look(now, max(0, now - before - int(interval_s * NS_PER_S)))
            before = now

    def _look(self, now_ns: int, lag_ns: int) -> None:
        """Kill those that hang; for so long this loop did not turn, and could see no beat."""
        limit_ns = self._settings.worker_stall_ms * NS_PER_MS
        for worker in self._workers.values():
            worker.beat_ns += lag_ns
            # One that rests has just as much time left when its next beat is due.
            rest_ns = self._resting_beat_ms * NS_PER_MS if worker.rests else 0
            if now_ns - worker.beat_ns > limit_ns + rest_ns and worker.child is not None:
                worker.reason = "worker_stalled"
                worker.child.kill()

    @property
    def _resting_beat_ms(self) -> int:
        settings = self._settings
        return max(settings.beat_ms, min(RESTING_BEAT_MS, settings.worker_stall_ms // 4))

    # -- what workers say ---------------------------------------------------------------

    async def _on_request(self, peer: bytes, message: Message) -> Message:
        known = self._by_peer.get(peer)
        if isinstance(message, Claim) and known is not None:
            return await self._on_worker_request(known, message)
        if not isinstance(message, WorkerHello):
            raise UnknownMessage(f"the engine does not answer {type(message).__name__} of a worker")
        worker = self._workers.get(message.worker)
        if worker is None or not secrets.compare_digest(
            worker.token.encode(), message.token.encode()
        ):
            raise AuthError("this engine did not start such a worker")
        worker.peer = peer
        self._by_peer[peer] = worker
        settings = self._settings
        return WorkerSettings(
            beat_ms=settings.beat_ms,
            resting_beat_ms=self._resting_beat_ms,
            runtime_dir=str(self._runtime.instance),
            ice_addresses=settings.ice_address,
            mic_ms=settings.mic_ms,
            speaker_ms=settings.speaker_ms,
            log_level=settings.log_level,
            priority=settings.priority,
            udp_ports=settings.udp_ports,
            public_addresses=settings.public_address,
            tls_ca_file=str(settings.tls_ca_file or ""),
        )

    def _on_notify(self, peer: bytes, message: Message) -> None:
        worker = self._by_peer.get(peer)
        if worker is None:
            raise AuthError("say hello first")
        if isinstance(message, WorkerBeat):
            self._heard(worker, message)
        else:
            self._on_message(worker, message)

    def _heard(self, worker: WorkerHandle, beat: WorkerBeat) -> None:
        # A worker whose tick stands still is as dead as one that says nothing.
        if worker.beat is None or beat.ticks != worker.beat.ticks:
            worker.beat_ns = self._clock.now_ns()
        worker.beat = beat
        worker.strain.heard(beat)
        if worker.state is WorkerState.STARTING:  # its first beat: all of it runs
            worker.state = WorkerState.SPARE
            self._promote()
            self._changed.set()
        self.switch()

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="supervisor")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _keeping_up(workers: list[WorkerHandle]) -> list[WorkerHandle]:
    return [worker for worker in workers if not worker.strain.too_much]


def _least_loaded(workers: list[WorkerHandle]) -> WorkerHandle:
    if not workers:
        raise NoWorker("no media worker is running; one is being started")
    return min(workers, key=lambda worker: (len(worker.sessions), worker.name))
