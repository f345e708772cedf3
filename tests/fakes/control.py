"""Sessions of the engine between fakes: a worker and bots that the test plays."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from engine.bots import BotHandle
from engine.config import Settings
from engine.sessions import Session, Sessions, State
from engine.supervisor import Supervisor, WorkerHandle, WorkerState
from ipc.errors import BackbeatError, BotGone, NoBot, NoWorker
from ipc.messages import (
    Answer,
    Dial,
    Dialled,
    Hello,
    LegState,
    Message,
    Offer,
    Ok,
    OpenRing,
    OpenWebrtc,
    Placed,
    RingOpened,
)
from tests.support import until

if TYPE_CHECKING:
    from engine.bots import Bots


class FakeSupervisor:
    def __init__(self) -> None:
        self.worker = WorkerHandle(name="w1", token="", state=WorkerState.LIVE)
        self.asked: list[Message] = []
        self.told: list[Message] = []
        self.failures: dict[type[Message], BackbeatError] = {}
        self.switched = 0

    def place(self, among: list[WorkerHandle] | None = None) -> WorkerHandle:
        return among[0] if among else self.find()

    def find(self) -> WorkerHandle:
        if self.worker.state is not WorkerState.LIVE:
            raise NoWorker("none")
        return self.worker

    async def request(
        self, _worker: WorkerHandle, message: Message, *, timeout_s: float = 5.0
    ) -> Message:
        self.asked.append(message)
        if (failure := self.failures.get(type(message))) is not None:
            raise failure
        if isinstance(message, Offer):
            return Answer(sdp="answer")
        if isinstance(message, Dial):
            return Dialled(session=message.session)
        return RingOpened() if isinstance(message, OpenRing) else Ok()

    def notify(self, _worker: WorkerHandle, message: Message) -> bool:
        self.told.append(message)
        return True

    def switch(self) -> None:
        self.switched += 1


class FakeBots:
    def __init__(self) -> None:
        self.all: list[BotHandle] = []
        self.told: list[tuple[str, Message]] = []
        self.refusing: set[str] = set()
        self.offered: list[str] = []
        self.offering = asyncio.Event()
        self.offering.set()

    def add(self, identity: str, name: str = "echo", capacity: int = 2) -> BotHandle:
        bot = BotHandle(identity, identity.encode(), Hello(name=name, capacity=capacity), 0)
        self.all.append(bot)
        return bot

    def choose(self, name: str | None, without: set[str] | None = None) -> BotHandle:
        for bot in self.all:
            if name in (None, bot.name) and bot.room > 0 and bot.id not in (without or ()):
                return bot
        raise NoBot("none")

    async def wait_for(self, name: str, timeout_s: float) -> BotHandle:
        try:
            await until(lambda: any(bot.name == name for bot in self.all), timeout_s)
        except AssertionError:
            raise NoBot("none came") from None
        return self.choose(name)

    async def offer(self, bot: BotHandle, _offer: Message) -> None:
        self.offered.append(bot.id)
        await self.offering.wait()
        if bot.id in self.refusing:
            raise BotGone("it did not attach")

    def notify(self, bot: BotHandle, message: Message) -> None:
        self.told.append((bot.id, message))

    def released(self, bot: BotHandle, session_id: str) -> None:
        bot.sessions.discard(session_id)
        bot.placed.discard(session_id)


class Setup:
    """Sessions between fakes."""

    def __init__(self, **settings: Any) -> None:
        self.supervisor = FakeSupervisor()
        self.bots = FakeBots()
        self.sessions = Sessions(
            Settings(**settings),
            "0123abcd",
            cast("Supervisor", self.supervisor),
            cast("Bots", self.bots),
        )

    async def call(self, request_data: Any = None) -> Session:
        _, pc_id = await self.sessions.offer(
            "offer", pc_id=None, restart=False, request_data=request_data
        )
        return next(session for session in self.sessions.all if session.pc_id == pc_id)

    async def live(self) -> Session:
        session = await self.call()
        await until(lambda: session.attached)
        self.leg(session, "connected")
        assert session.state is State.LIVE
        return session

    async def place(self, bot: BotHandle, **fields: Any) -> Session:
        """A session that this bot has placed."""
        placed = await self.sessions.bot_request(bot, OpenWebrtc(sdp="offer", **fields))
        assert isinstance(placed, Placed)
        return next(session for session in self.sessions.all if session.id == placed.session)

    def lose_worker(self, reason: str = "worker_died") -> None:
        """The worker dies; another takes its place."""
        gone = self.supervisor.worker
        gone.state, gone.reason = WorkerState.GONE, reason
        self.supervisor.worker = WorkerHandle(name="w2", token="", state=WorkerState.LIVE)
        self.sessions.worker_gone(gone)

    def leg(self, session: Session, state: Any, reason: str = "") -> None:
        message = LegState(session=session.id, state=state, reason=reason)
        self.sessions.worker_message(self.supervisor.worker, message)

    def told(self, kind: type[Message]) -> list[Message]:
        return [message for _, message in self.bots.told if isinstance(message, kind)]

    async def end(self) -> None:
        await self.sessions.close_all("test_over")
