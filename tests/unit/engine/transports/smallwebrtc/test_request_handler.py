"""The handler forgets whoever has left, also one who leaves while a further offer is answered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from engine.transports.processors import BaseObject
from engine.transports.smallwebrtc.request_handler import (
    ConnectionMode,
    SmallWebRTCRequest,
    SmallWebRTCRequestHandler,
)


class Leaving(BaseObject):
    """A connection whose caller leaves while its further offer is answered."""

    def __init__(self, _ice_servers: object = None) -> None:
        super().__init__()
        self._register_event_handler("closed", sync=True)
        self.session = SimpleNamespace(closed=False)
        self.pc_id = "pc-1"

    async def initialize(self, sdp: str, type: str) -> None:
        pass

    async def renegotiate(self, sdp: str, type: str, restart_pc: bool = False) -> None:
        self.session.closed = True
        await self._call_event_handler("closed")

    def get_answer(self) -> dict[str, str]:
        return {"sdp": "v=0", "type": "answer", "pc_id": self.pc_id}


class Handler(SmallWebRTCRequestHandler):
    connection_class: Any = Leaving


async def test_a_caller_who_left_during_its_offer_does_not_keep_others_out() -> None:
    handler = Handler(connection_mode=ConnectionMode.SINGLE)
    came: list[object] = []

    async def keep(connection: object) -> None:
        came.append(connection)

    await handler.handle_web_request(SmallWebRTCRequest("v=0", "offer"), keep)
    await handler.handle_web_request(SmallWebRTCRequest("v=0", "offer", "pc-1"), keep)
    assert await handler.handle_web_request(SmallWebRTCRequest("v=0", "offer"), keep)
    assert len(came) == 2
