"""Both ends of a channel, and a peer that writes bytes of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ipc.channel import Channel
from ipc.messages import Failure, Message, Ok
from ipc.wire import decode
from tests.support import until

if TYPE_CHECKING:
    from ipc.sockets import Socket

ENDPOINT = "inproc://channel"


class Side:
    """One end: answers by what the test has put into `answer`, and keeps what it is told."""

    def __init__(self, socket: Socket) -> None:
        self.channel = Channel(socket, on_request=self._request, on_notify=self._notify)
        self.answer: Message | Exception = Ok()
        self.hold = asyncio.Event()
        self.hold.set()
        self.requests: list[Message] = []
        self.notes: list[Message] = []
        self.note_error: Exception | None = None
        self.peer = b""

    async def _request(self, peer: bytes, message: Message) -> Message:
        self.peer = peer
        self.requests.append(message)
        await self.hold.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def _notify(self, peer: bytes, message: Message) -> None:
        self.peer = peer
        self.notes.append(message)
        if self.note_error is not None:
            raise self.note_error


class Raw:
    """A peer that writes bytes of its own."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    def send(self, *frames: bytes) -> None:
        self._socket.send_multipart(list(frames))

    async def answer(self) -> tuple[Message, int | None]:
        await until(lambda: self._socket.poll(0), what="an answer")
        envelope = decode(self._socket.recv())
        return envelope.message, envelope.reply_to

    async def refusal(self) -> tuple[str, int | None]:
        message, reply_to = await self.answer()
        assert isinstance(message, Failure)
        return message.code, reply_to
