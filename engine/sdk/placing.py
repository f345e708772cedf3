"""Sessions that a bot places itself: it brings the caller's offer, the engine takes the media.

Until the reply to an offer has made the session, what the engine tells of it waits here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.sdk.signaling import REQUEST_DEADLINE_S
from ipc.errors import BackbeatError, BotError, SdpRejected
from ipc.messages import CloseSession, Message, OpenWebrtc
from ipc.messages import Placed as Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.sdk.session import Session
    from engine.sdk.signaling import Line

PLACE_DEADLINE_S = 15.0
MAX_EARLY = 1024


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
        tell: Callable[[Session, Message], None],
    ) -> None:
        """`begin` makes and keeps the session, `tell` passes on what the engine says of it."""
        self._line = line
        self._begin = begin
        self._tell = tell
        self._early: deque[Message] = deque(maxlen=MAX_EARLY)
        self._running: set[asyncio.Task[Any]] = set()

    async def place(self, offer: OpenWebrtc, kind: str) -> Placed:
        """See `Bot.open_webrtc`."""
        if kind != "offer":
            raise SdpRejected(f"a caller is answered, so its SDP is an offer, not {kind!r}")
        placing = asyncio.create_task(self._place(offer), name="open_webrtc")
        self._keep(placing)
        try:
            return await asyncio.shield(placing)
        except asyncio.CancelledError:
            # Nobody will have the session that comes of it.
            self._keep(asyncio.create_task(self._abandon(placing), name="abandoned offer"))
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
        early = [message for message in self._early if _session_of(message) == session.id]
        for message in early:
            self._early.remove(message)
            self._tell(session, message)
        return Placed(session, reply.sdp, reply.pc_id)

    async def _abandon(self, placing: asyncio.Task[Placed]) -> None:
        with contextlib.suppress(BackbeatError):
            closing = CloseSession(
                session=(await placing).session.id, reason="abandoned", at_once=True
            )
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
