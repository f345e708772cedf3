"""Request, reply and notify over one ZeroMQ socket, with deadlines, limits and counters.

Either end of a ROUTER/DEALER pair. Nothing a peer sends makes an exception escape: bytes
that are no message are counted and answered with a code, and only the peer itself can
answer a request that was sent to it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

import zmq

from ipc.errors import BackbeatError, LimitError, MalformedMessage, RingClosed, StateError
from ipc.messages import Failure, Message
from ipc.sockets import Socket, SocketReader
from ipc.wire import Envelope, Unreadable, decode, encode

log = logging.getLogger(__name__)

OnRequest = Callable[[bytes, Message], Awaitable[Message]]
OnNotify = Callable[[bytes, Message], None]
MAX_RUNNING = 1024
MAX_REFUSALS_PER_S = 100


class Channel:
    """Messages both ways over a socket that this channel owns.

    `on_request(peer, message)` returns the reply or raises a BackbeatError, which travels as
    a `Failure`. `on_notify(peer, message)` is called in order of arrival. `peer` is the
    routing id on a ROUTER and empty on a DEALER. `refused` counts input by error code.
    """

    def __init__(self, socket: Socket, *, on_request: OnRequest, on_notify: OnNotify) -> None:
        self._socket = socket
        self._routed = socket.type == zmq.ROUTER
        self._on_request = on_request
        self._on_notify = on_notify
        self._numbers = itertools.count(1)
        self._pending: dict[tuple[bytes, int], asyncio.Future[Message]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        self.refused: Counter[str] = Counter()
        self.dropped = 0
        self._second = 0
        self._refusals = 0
        self._reader = SocketReader(socket, self._receive)

    async def request(self, message: Message, *, to: bytes = b"", timeout_s: float) -> Message:
        """Send a request and return its reply.

        Raises what the peer answered, BackbeatError(`timeout`) after `timeout_s`,
        StateError(`peer_gone`) or LimitError(`queue_full`) when it cannot be sent.
        """
        number = next(self._numbers)
        data = encode(message, request=number)
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending[to, number] = reply
        try:
            self._send(to, data)
            await asyncio.wait([reply], timeout=timeout_s)
            if not reply.done():
                # If this loop was blocked, the answer may have come and not been read yet.
                self._reader.drain()
            if not reply.done():
                raise BackbeatError(
                    f"no answer to {type(message).__name__} in {timeout_s:g} s",
                    code="timeout",
                    retryable=True,
                )
            answer = reply.result()
        finally:
            del self._pending[to, number]
        if isinstance(answer, Failure):
            raise answer.error()
        return answer

    def notify(self, message: Message, *, to: bytes = b"") -> bool:
        """Send without waiting for anything. False, and counted, when the peer is gone or full."""
        try:
            self._send(to, encode(message))
        except BackbeatError as error:
            self.dropped += 1
            log.debug("notify dropped: %s", error.code)
            return False
        return True

    def forget(self, peer: bytes) -> None:
        """Fail what is still asked of a peer that is gone."""
        for (to, _), reply in self._pending.items():
            if to == peer and not reply.done():
                reply.set_result(Failure(code="peer_gone", message="the other side is gone"))

    async def close(self) -> None:
        """End running requests, fail pending ones and close the socket."""
        if self._closed:
            return
        self._closed = True
        self._reader.close()
        for reply in self._pending.values():
            if not reply.done():
                reply.set_result(Failure(code="channel_closed", message="the channel is closed"))
        running = [task for task in self._running if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        # What was just said (a goodbye, a last reply) may take this long to reach the peer.
        self._socket.close(250)

    def _send(self, to: bytes, data: bytes) -> None:
        if self._closed:
            raise RingClosed("the channel is closed", code="channel_closed")
        try:
            self._socket.send_multipart([to, data] if self._routed else [data], zmq.NOBLOCK)
        except zmq.Again:
            raise LimitError("the other side does not read", code="queue_full") from None
        except zmq.ZMQError as error:
            raise StateError(f"the other side is gone: {error}", code="peer_gone") from error
        finally:
            self._reader.look()

    def _receive(self, frames: list[bytes]) -> None:
        peer = frames.pop(0) if self._routed else b""
        try:
            if len(frames) != 1:
                raise Unreadable(MalformedMessage("a message is one frame"), None, False)
            envelope = decode(frames[0])
        except Unreadable as unreadable:
            self.refused[unreadable.error.code] += 1
            # A failure is never answered with a failure: two confused peers would not stop.
            if not unreadable.is_failure:
                self._refuse(peer, unreadable.error, unreadable.request)
            return
        if envelope.reply_to is not None:
            self._take_reply(peer, envelope)
        elif envelope.request is not None:
            self._take_request(peer, envelope)
        else:
            # After the requests that came before it have begun to be carried out.
            asyncio.get_running_loop().call_soon(self._take_notify, peer, envelope.message)

    def _take_reply(self, peer: bytes, envelope: Envelope) -> None:
        assert envelope.reply_to is not None  # noqa: S101 - the caller looked
        reply = self._pending.get((peer, envelope.reply_to))
        if reply is None or reply.done():
            self.refused["late_reply"] += 1
        else:
            reply.set_result(envelope.message)

    def _take_request(self, peer: bytes, envelope: Envelope) -> None:
        if len(self._running) >= MAX_RUNNING:
            self.refused["too_many_requests"] += 1
            error = LimitError("too many requests at once", code="too_many_requests")
            self._refuse(peer, error, envelope.request)
            return
        task = asyncio.create_task(self._answer(peer, envelope), name="channel request")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _take_notify(self, peer: bytes, message: Message) -> None:
        if self._closed:
            return
        if isinstance(message, Failure):
            log.warning("the other side refused a message: %s: %s", message.code, message.message)
            return
        try:
            self._on_notify(peer, message)
        except BackbeatError as error:
            self.refused[error.code] += 1
            self._refuse(peer, error, None)
        except Exception:
            self.refused["internal"] += 1
            log.exception("handling %s failed", type(message).__name__)

    async def _answer(self, peer: bytes, envelope: Envelope) -> None:
        reply: Message
        try:
            reply = await self._on_request(peer, envelope.message)
        except BackbeatError as error:
            self.refused[error.code] += 1
            reply = Failure.of(error)
        except Exception as error:
            self.refused["internal"] += 1
            log.exception("answering %s failed", type(envelope.message).__name__)
            reply = Failure(code="internal", message=f"{type(error).__name__}: {error}"[:300])
        try:
            data = encode(reply, reply_to=envelope.request)
        except BackbeatError as error:
            # Too large, for one: whoever asked shall not wait until the deadline.
            self.refused[error.code] += 1
            self._refuse(peer, error, envelope.request)
            return
        try:
            self._send(peer, data)
        except BackbeatError as error:
            self.dropped += 1
            log.debug("reply dropped: %s", error.code)

    def _refuse(self, peer: bytes, error: BackbeatError, request: int | None) -> None:
        if request is None and not self._may_refuse():
            return
        try:
            self._send(peer, encode(Failure.of(error), reply_to=request))
        except BackbeatError:
            self.dropped += 1

    def _may_refuse(self) -> bool:
        """A flood of nonsense is counted whole and answered now and then.

        Otherwise the refusals would fill the peer's queue, and what it asks for in earnest
        could not be answered.
        """
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second, self._refusals = second, 0
        self._refusals += 1
        return self._refusals <= MAX_REFUSALS_PER_S
