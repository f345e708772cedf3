"""The servers for callers: every offer carries them to its worker, and pages may ask for them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import httpx
from fastapi import FastAPI

from engine.bots import BotHandle
from engine.config import Settings
from engine.http import offer
from engine.sessions import Sessions
from engine.supervisor import WorkerHandle, WorkerState
from ipc.messages import Answer, Hello, Message, Ok, OpenRing, RingOpened
from ipc.messages import Offer as OfferMessage

if TYPE_CHECKING:
    from engine.bots import Bots
    from engine.http.parts import Parts
    from engine.supervisor import Supervisor

TURN = {"urls": ["turn:turn.example"], "username": "ada", "credential": "swordfish"}
SETTINGS: dict[str, Any] = {"ice_server": ["stun:stun.example", TURN]}


class FakeSupervisor:
    """Answers every offer."""

    def __init__(self) -> None:
        self.worker = WorkerHandle(name="w1", token="", state=WorkerState.LIVE)
        self.offers: list[OfferMessage] = []

    def place(self, _among: list[WorkerHandle] | None = None) -> WorkerHandle:
        return self.worker

    async def request(self, _worker: WorkerHandle, message: Message) -> Message:
        if isinstance(message, OfferMessage):
            self.offers.append(message)
            return Answer(sdp="answer")
        return RingOpened() if isinstance(message, OpenRing) else Ok()

    def notify(self, _worker: WorkerHandle, _message: Message) -> None:
        pass


class FakeBots:
    """One bot that takes every call."""

    def __init__(self) -> None:
        self._bot = BotHandle("b1", b"b1", Hello(name="echo", capacity=2), 0)

    def choose(self, _name: str | None, _without: set[str] | None = None) -> Any:
        return self._bot

    async def offer(self, _bot: Any, _offer: Message) -> None:
        pass

    def notify(self, _bot: Any, _message: Message) -> None:
        pass

    def released(self, bot: Any, session_id: str) -> None:
        bot.sessions.discard(session_id)


async def test_every_offer_of_a_call_carries_the_servers() -> None:
    supervisor = FakeSupervisor()
    sessions = Sessions(
        Settings(**SETTINGS),
        "0123abcd",
        cast("Supervisor", supervisor),
        cast("Bots", FakeBots()),
    )
    _, pc_id = await sessions.offer("offer", pc_id=None, restart=False, request_data=None)
    await sessions.offer("another", pc_id=pc_id, restart=True, request_data=None)
    for asked in supervisor.offers:
        assert [server.urls for server in asked.ice_servers] == [
            ["stun:stun.example"],
            ["turn:turn.example"],
        ]
    assert [asked.restart for asked in supervisor.offers] == [False, True]
    await sessions.close_all("done")


async def ask(**settings: Any) -> httpx.Response:
    sessions = SimpleNamespace(ice_servers=Settings(**settings).ice_server)
    application = FastAPI()
    application.include_router(offer.router(cast("Parts", SimpleNamespace(sessions=sessions))))
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        return await client.get("/api/ice-servers")


async def test_a_page_gets_what_its_peer_connection_takes() -> None:
    response = await ask(**SETTINGS)
    assert response.json() == {"iceServers": [{"urls": ["stun:stun.example"]}, TURN]}
    assert response.headers["cache-control"] == "no-store"
    assert (await ask()).json() == {"iceServers": []}
