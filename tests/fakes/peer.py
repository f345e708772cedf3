"""A peer that answers when the test lets it, for sessions without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipc.errors import SdpRejected

if TYPE_CHECKING:
    import asyncio


class FakeData:
    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.goodbyes = 0
        self.in_haste = False
        self.heir_of: FakeData | None = None
        self.state = self.ping_age_ns = None
        self.dropped = self.malformed = self.pings = 0

    def expire(self) -> bool:
        return False

    def inherit(self, old: FakeData) -> None:
        self.heir_of = old

    def send(self, data: Any) -> None:
        if data == "not JSON":
            raise TypeError("not JSON")
        self.sent.append(data)

    def say_goodbye(self, *, in_haste: bool = False) -> None:
        self.goodbyes += 1
        self.in_haste = in_haste


class FakePeer:
    """A peer that answers when the test lets it."""

    made: list[FakePeer]
    gate: asyncio.Event

    def __init__(self, _mux: object, **callbacks: Any) -> None:
        self.callbacks = callbacks
        self.sender, self.receiver = callbacks["sender"], callbacks["receiver"]
        self.data = FakeData()
        self.state: str | None = None
        self.pair = None
        self.answers: list[str] = []
        self.closed = self.broken = False
        self.fault = self.close_reason = ""
        self.close_code = 0
        FakePeer.made.append(self)

    async def answer(self, sdp: str) -> str:
        await FakePeer.gate.wait()
        if sdp == "bad":
            self.broken = True
            raise SdpRejected("bad")
        self.answers.append(sdp)
        return f"answer to {sdp}"

    async def close(self) -> None:
        self.closed = True

    def can_continue(self, _sdp: str) -> bool:
        return not self.broken
