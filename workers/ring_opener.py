"""Opens what a bot hears and speaks through, before it attaches.

Rings in shared memory with a bell; for a bot that cannot map it, private ones behind a stream;
for a bot that has a serializer of its own, a stream of whole messages and no rings.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ipc.audio_ring import RingSpec
from ipc.errors import BotRejected, StateError
from ipc.message_stream import MessageStream
from ipc.messages import OpenRing, RingOpened
from workers.rings import Rings

if TYPE_CHECKING:
    from ipc.bell import BellRopes
    from ipc.media_stream import StreamHost
    from workers.session import Session

CLAIM_DEADLINE_S = 1.0


class RingOpener:
    """For all sessions of one worker. What it has opened is the session's."""

    def __init__(
        self, ropes: BellRopes, streams: StreamHost, endpoint: str, *, mic_ms: int, speaker_ms: int
    ) -> None:
        """Bots reach `streams` at `endpoint`; so much each ring holds."""
        self._ropes = ropes
        self._streams = streams
        self._endpoint = endpoint
        self._mic_ms = mic_ms
        self._speaker_ms = speaker_ms

    def open(self, session: Session, wanted: OpenRing) -> RingOpened:
        """Offer the session what a bot asks for.

        Raises a BackbeatError when it cannot be made; nothing of it is left.
        """
        if wanted.media == "messages":
            return self._open_messages(session, wanted)
        old = session.rings.ring if session.rings is not None else None
        spec = RingSpec(
            key=bytes.fromhex(wanted.session[-32:]),
            epoch=wanted.epoch,
            mic_hz=wanted.mic_hz,
            speaker_hz=wanted.speaker_hz,
            mic_channels=wanted.mic_channels,
            speaker_channels=wanted.speaker_channels,
            mic_ms=self._mic_ms,
            speaker_ms=self._speaker_ms,
            mic_base=wanted.mic_base,
            speaker_base=wanted.speaker_base,
        )
        if wanted.media == "shm":
            rope = self._ropes.take(wanted.bell)
            try:
                rings = Rings(spec, wanted.segment, rope, old)
            except BaseException:
                rope.let_go()
                raise
            stream, token, endpoint = 0, "", ""
        else:
            rings = Rings(spec, "", None, old)
            stream, token = self._stream_over(rings)
            endpoint = self._endpoint
        rings.codec = wanted.codec
        session.offer_rings(rings)
        ring = rings.ring
        return RingOpened(
            stream=stream,
            token=token,
            endpoint=endpoint,
            mic_base=ring.mic_base,
            speaker_base=ring.speaker_base,
            speaker_written=ring.speaker_written,
        )

    def _stream_over(self, rings: Rings) -> tuple[int, str]:
        streams = self._streams
        assert rings.bot_end is not None  # noqa: S101 - private rings have both ends
        stream, token = streams.open(rings.bot_end)
        rings.on_close = lambda: streams.end(stream)
        rings.claimed = lambda: self._claimed(stream)
        return stream, token

    async def _claimed(self, stream: int) -> None:
        try:
            async with asyncio.timeout(CLAIM_DEADLINE_S):
                await self._streams.wait_attached(stream)
        except TimeoutError:
            raise BotRejected("it has not claimed the stream") from None

    def _open_messages(self, session: Session, wanted: OpenRing) -> RingOpened:
        streams, leg = self._streams, session.websocket
        if leg is None:
            raise StateError("the session has no WebSocket")
        end = MessageStream(wanted.epoch)
        stream, token = streams.open_messages(end)
        end.on_incoming = lambda: streams.pump_one(stream)
        leg.offer_messages(end, lambda: self._claimed(stream), lambda: streams.end(stream))
        return RingOpened(stream=stream, token=token, endpoint=self._endpoint)
