"""Speech over a session whose serializer runs here: each piece becomes a message, with its time.

In the place of the SDK's session beneath a `SessionPlayout`, so that the lead, marks, flushes and
destinations are those of any transport. The worker still owns the pace.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from engine.sdk import Mark, Played
from ipc.errors import BackbeatError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.sdk import WebsocketSession

log = logging.getLogger(__name__)

# How long what is said next waits for a serializer that is asked for its interruption.
INTERRUPTION_S = 1.0


class MessageSpeech:
    """Plays samples as messages. `close` ends what it does by itself."""

    def __init__(
        self,
        session: WebsocketSession,
        channels: int,
        *,
        audio: Callable[[bytes, int], Awaitable[str | bytes | None]],
        interruption: Callable[[], Awaitable[str | bytes | None]],
    ) -> None:
        """`audio` makes a message of samples at a rate, `interruption` the one for a flush.

        Either may have none; audio without a message still takes its time.
        """
        self._session = session
        self._channels = channels
        self._audio = audio
        self._interruption = interruption
        # Whether anything was played that the server may still have.
        self._spoke = False
        self._flushes = 0
        self._interrupting: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self._session.closed

    @property
    def speaker_channels(self) -> int:
        """Channels of the samples."""
        return self._channels

    async def play(
        self,
        pcm: memoryview,
        *,
        hz: int | None = None,
        mark: str | None = None,
        interruptible: bool = True,
    ) -> Played:
        """Queue samples as one message; waits for room. Raises SessionClosed."""
        assert hz is not None  # noqa: S101 - a playout says it
        flushes = self._flushes
        if self._interrupting is not None:
            await asyncio.wait((self._interrupting,), timeout=INTERRUPTION_S)
        message = await self._audio(bytes(pcm), hz)
        outgoing = self._session.outgoing
        start = outgoing.written
        samples = len(pcm) // (2 * self._channels)
        if interruptible and flushes != self._flushes:
            return Played(start, start, samples, _mark(mark or "", start, _cut()))
        self._spoke = True
        left = await outgoing.put(message or None, samples * 1000 / hz, interruptible=interruptible)
        return Played(start, outgoing.written, 0, _mark(mark or "", outgoing.written, left))

    def flush(self) -> None:
        """Drop what has not left, and tell the server what its format has for that."""
        self._flushes += 1
        self._session.outgoing.flush()
        telling = self._interrupting is not None and not self._interrupting.done()
        if self._spoke and self._session.connected and not telling:
            self._spoke = False
            self._interrupting = asyncio.create_task(self._interrupt(), name="interruption")

    def end_of_speech(self) -> None:
        """Messages wait for no successor."""

    async def close(self) -> None:
        """End what is under way."""
        if self._interrupting is not None:
            self._interrupting.cancel()
            await asyncio.gather(self._interrupting, return_exceptions=True)

    async def _interrupt(self) -> None:
        try:
            message = await self._interruption()
            if message:
                await self._session.outgoing.put(message, 0, interruptible=False)
        except BackbeatError as error:
            log.debug("the server is not told of an interruption: %s", error.message)
        except Exception:
            log.exception("a serializer failed at an interruption")


def _mark(name: str, cursor: int, left: asyncio.Future[bool]) -> asyncio.Future[Mark]:
    """What has become of a message, as a mark."""
    mark: asyncio.Future[Mark] = asyncio.get_running_loop().create_future()

    def decided(left: asyncio.Future[bool]) -> None:
        if not mark.done():
            mark.set_result(Mark(name, cursor, left.result()))

    if left.done():
        decided(left)
    else:
        left.add_done_callback(decided)
    return mark


def _cut() -> asyncio.Future[bool]:
    cut: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    cut.set_result(False)
    return cut
