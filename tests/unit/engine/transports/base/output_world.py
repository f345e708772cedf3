"""An output transport on a manual clock, with a playout that plays when told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from engine.transports.base import BaseOutputTransport, TransportParams
from engine.transports.frames import (
    Frame,
    OutputAudioRawFrame,
    OutputImageRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    StartFrame,
    TTSAudioRawFrame,
)
from engine.transports.processors import (
    BaseClock,
    FrameDirection,
    FrameProcessorSetup,
    TaskManager,
)
from tests.fakes.manual_loop import ManualLoop

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ipc.clock import ManualClock

HZ = 16_000
MS = HZ // 1000
CHUNK = 40 * MS
DOWN, UP = FrameDirection.DOWNSTREAM, FrameDirection.UPSTREAM
Value = TypeVar("Value")


def pcm(value: int, ms: float, channels: int = 1) -> bytes:
    """`ms` of one sample's value, at 16 kHz."""
    return value.to_bytes(2, "little", signed=True) * round(ms * MS) * channels


def audio(value: int, ms: float, *, interruptible: bool = True) -> OutputAudioRawFrame:
    frame = OutputAudioRawFrame(pcm(value, ms), HZ, 1)
    frame.interruptible = interruptible
    return frame


def speech(value: int, ms: float, *, interruptible: bool = True) -> TTSAudioRawFrame:
    frame = TTSAudioRawFrame(pcm(value, ms), HZ, 1)
    frame.interruptible = interruptible
    return frame


@dataclass
class Piece:
    start: int
    end: int
    interruptible: bool
    state: str = "queued"


class FakePlayout:
    """Plays `plays(ms)` of what was written; a flush cuts what may be interrupted."""

    def __init__(self) -> None:
        self.written = 0
        self.pieces: list[Piece] = []
        self.flushes = 0
        self.ends: list[int] = []
        self.ended = False
        self._changed: list[asyncio.Future[None]] = []

    def add(self, count: int, *, interruptible: bool) -> None:
        self.pieces.append(Piece(self.written, self.written + count, interruptible))
        self.written += count

    @property
    def unsent(self) -> int:
        return sum(piece.end - piece.start for piece in self.pieces if piece.state == "queued")

    def plays(self, ms: float) -> None:
        count = round(ms * MS)
        for piece in [piece for piece in self.pieces if piece.state == "queued"]:
            if count <= 0:
                break
            size = piece.end - piece.start
            if size > count:
                at = self.pieces.index(piece)
                played = Piece(piece.start, piece.start + count, piece.interruptible, "played")
                self.pieces.insert(at, played)
                piece.start += count
            else:
                piece.state = "played"
            count -= size
        self._wake()

    async def wait(self, cursor: int) -> bool:
        while True:
            before = [piece for piece in self.pieces if piece.start < cursor]
            reaching = [piece for piece in before if piece.end >= cursor]
            if any(piece.state == "cut" for piece in reaching):
                return False
            if all(piece.state == "played" or piece.end <= cursor - 1 for piece in reaching) and (
                not any(piece.state == "queued" for piece in before)
            ):
                return True
            if self.ended:
                return False
            await self.changed()

    def has_left(self, cursor: int) -> bool:
        return all(piece.state == "played" for piece in self.pieces if piece.start < cursor)

    async def changed(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.append(waiter)
        try:
            await waiter
        finally:
            self._changed.remove(waiter)

    def flush(self) -> None:
        self.flushes += 1
        for piece in self.pieces:
            if piece.state == "queued" and piece.interruptible:
                piece.state = "cut"
        self._wake()

    def end(self) -> None:
        self.ends.append(self.written)

    def _wake(self) -> None:
        for waiter in self._changed:
            if not waiter.done():
                waiter.set_result(None)


class LoopClock(BaseClock):
    """The pipeline's time is the loop's."""

    def get_time(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)

    def start(self) -> None:
        pass


class FakeOutput(BaseOutputTransport):
    """Keeps what it is told to write; with a playout it takes 400 ms ahead."""

    def __init__(self, params: TransportParams, *, ahead: bool) -> None:
        super().__init__(params)
        self.ahead = ahead
        self.playouts: dict[str | None, FakePlayout] = {}
        self.writes: list[OutputAudioRawFrame] = []
        self.images: list[OutputImageRawFrame] = []
        self.messages: list[Any] = []
        self.custom: list[Frame] = []
        self.pushed: list[tuple[Frame, FrameDirection]] = []
        self.takes = True
        self.blocks = False

    def playout(self, destination: str | None) -> FakePlayout | None:
        return self.playouts.setdefault(destination, FakePlayout()) if self.ahead else None

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        if self.blocks:
            await asyncio.get_running_loop().create_future()
        if not self.takes:
            return False
        self.writes.append(frame)
        if self.ahead:
            playout = self.playouts[frame.transport_destination]
            playout.add(frame.num_frames, interruptible=frame.interruptible)
            lead = self._params.audio_out_lead_ms * MS
            while playout.unsent > lead:
                await playout.changed()
        return True

    async def write_video_frame(self, frame: OutputImageRawFrame) -> bool:
        self.images.append(frame)
        return True

    async def send_message(
        self, frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame
    ) -> None:
        self.messages.append(frame.message)

    async def write_transport_frame(self, frame: Frame) -> None:
        self.custom.append(frame)

    async def push_frame(
        self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM
    ) -> None:
        self.pushed.append((frame, direction))

    def names(self, direction: FrameDirection = DOWN) -> list[str]:
        return [type(frame).__name__ for frame, way in self.pushed if way is direction]


class OutputWorld:
    """An output that is started. A context manager; `run` lets everything happen that is due."""

    def __init__(self, clock: ManualClock, *, ahead: bool = True, **params: Any) -> None:
        self.clock = clock
        given = {"audio_out_enabled": True, "audio_out_end_silence_secs": 0, **params}
        self.params = TransportParams(**given)
        self.loop = ManualLoop(clock)  # type: ignore[abstract]  # the rest is for sockets
        self._ahead = ahead

    def __enter__(self) -> OutputWorld:
        self.loop.__enter__()
        self.output = FakeOutput(self.params, ahead=self._ahead)
        manager = TaskManager()
        self.manager = manager
        setup = FrameProcessorSetup(LoopClock(), manager, audio_out_sample_rate=HZ)
        self.do(self.output.setup(setup))
        self.handle(StartFrame())
        self.output.pushed.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self.output.cleanup())
        self.run()
        left = [task.get_name() for task in self.manager.current_tasks()]
        self.loop.__exit__()
        assert not left, left
        assert not self.loop.errors, self.loop.errors

    @property
    def playout(self) -> FakePlayout:
        return self.output.playouts[None]

    @property
    def written(self) -> bytes:
        return b"".join(frame.audio for frame in self.output.writes)

    def run(self, ms: float = 0, step_ms: float = 10) -> None:
        """Let `ms` pass."""
        self.loop.run()
        while ms > 0:
            self.clock.advance_ms(min(step_ms, ms))
            ms -= step_ms
            self.loop.run()

    def begin(self, coroutine: Coroutine[Any, Any, Value]) -> asyncio.Task[Value]:
        """Start something that need not end now."""
        task = self.loop.create_task(coroutine)
        self.run()
        return task

    def do(self, coroutine: Coroutine[Any, Any, Value]) -> Value:
        """Something that ends now."""
        task = self.begin(coroutine)
        assert task.done(), "it waits for something"
        return task.result()

    def handle(self, frame: Frame, direction: FrameDirection = DOWN) -> None:
        """A frame that is handled now."""
        self.do(self.output.process_frame(frame, direction))

    def plays(self, ms: float) -> None:
        """So much leaves for the caller."""
        self.playout.plays(ms)
        self.run(ms)
