"""Sessions that a bot places itself: it brings a caller's offer, or names a server to dial.

Until the reply has made the session, what the engine tells of it waits here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from engine.sdk.signaling import REQUEST_DEADLINE_S
from ipc.errors import BackbeatError, BotError, SdpRejected
from ipc.messages import CloseSession, Dialled, Message, OpenWebrtc, OpenWebsocket
from ipc.messages import Placed as Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from engine.sdk.session import Session
    from engine.sdk.signaling import Line
    from engine.sdk.websocket import WebsocketSession

PLACE_DEADLINE_S = 15.0
# Beyond what the server has for its answer: the engine and the worker are asked, too.
DIAL_GRACE_S = 5.0
MAX_EARLY = 1024


Result = TypeVar("Result")


class Placed(NamedTuple):
    """A session that a bot has placed, the SDP answer for its caller, and its connection's id."""

    session: Session
    sdp: str
    pc_id: str


class Placing:
    """Places sessions over the line to one engine."""

    def __init__(
        self,
        line: Line,
        begin: Callable[[Reply, Any], Session],
        begin_websocket: Callable[[Dialled, Any], WebsocketSession],
        tell: Callable[[Session, Message], None],
    ) -> None:
        """`begin…` makes and keeps the session, `tell` passes on what the engine says of it."""
        self._line = line
        self._begin = begin
        self._begin_websocket = begin_websocket
        self._tell = tell
        self._early: deque[Message] = deque(maxlen=MAX_EARLY)
        self._running: set[asyncio.Task[Any]] = set()

    async def place(self, offer: OpenWebrtc, kind: str) -> Placed:
        """See `Bot.open_webrtc`."""
        if kind != "offer":
            raise SdpRejected(f"a caller is answered, so its SDP is an offer, not {kind!r}")
        return await self._shielded(self._place(offer), lambda placed: placed.session)

    async def dial(self, wanted: OpenWebsocket) -> WebsocketSession:
        """See `Bot.open_websocket`; without its media."""
        return await self._shielded(self._dial(wanted), lambda session: session)

    async def _shielded(
        self, work: Coroutine[Any, Any, Result], session_of: Callable[[Result], Session]
    ) -> Result:
        placing = asyncio.create_task(work, name="placing")
        self._keep(placing)
        try:
            return await asyncio.shield(placing)
        except asyncio.CancelledError:
            # Nobody will have the session that comes of it.
            abandoned = self._abandon(placing, session_of)
            self._keep(asyncio.create_task(abandoned, name="abandoned offer"))
            raise

    def early(self, message: Message) -> None:
        """A session that is not known here was spoken of: it may be one that is being placed."""
        if self._running:
            self._early.append(message)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _place(self, offer: OpenWebrtc) -> Placed:
        reply = await self._line.request(offer, timeout_s=PLACE_DEADLINE_S)
        if not isinstance(reply, Reply):
            raise BotError("the engine's answer to an offer places nothing")
        session = self._begin(reply, offer.request_data)
        self._tell_early(session)
        return Placed(session, reply.sdp, reply.pc_id)

    async def _dial(self, wanted: OpenWebsocket) -> WebsocketSession:
        timeout_s = wanted.websocket.open_timeout_s + DIAL_GRACE_S
        reply = await self._line.request(wanted, timeout_s=timeout_s)
        if not isinstance(reply, Dialled):
            raise BotError("the engine's answer to a dial is none")
        session = self._begin_websocket(reply, wanted.request_data)
        session.dialled(reply, wanted.websocket)
        self._tell_early(session)
        return session

    def _tell_early(self, session: Session) -> None:
        early = [message for message in self._early if _session_of(message) == session.id]
        for message in early:
            self._early.remove(message)
            self._tell(session, message)

    async def _abandon(
        self, placing: asyncio.Task[Result], session_of: Callable[[Result], Session]
    ) -> None:
        with contextlib.suppress(BackbeatError):
            session = session_of(await placing)
            closing = CloseSession(session=session.id, reason="abandoned", at_once=True)
            await self._line.request(closing, timeout_s=REQUEST_DEADLINE_S)

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not self._running:
            self._early.clear()


def _session_of(message: Message) -> str:
    return getattr(message, "session", "")
