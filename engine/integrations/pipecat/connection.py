"""A caller's connection for Pipecat: for our transport, and for Pipecat's own of the same name.

Pipecat's transport gives the connection a track and waits in the track for its audio to be taken.
Here that audio goes straight to the session, with one chunk of lead: nobody tells this object of
interruptions, so what leads cannot be called back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.transports.base.session_playout import SessionPlayout
from engine.transports.smallwebrtc.connection import SmallWebRTCConnection as Connection
from ipc.errors import BackbeatError, SessionClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.sdk import Session

log = logging.getLogger(__name__)

LEAD_MS = 40
# A second less than Pipecat lets a write take.
HOLD_S = 9.0
STEPS_A_SECOND = 100
# What an end waits for what was written to leave: the lead, and a packet more.
FINISH_S = 0.2


class SmallWebRTCConnection(Connection):
    """One caller; takes the place of Pipecat's class also under its stock transport."""

    def __init__(
        self, ice_servers: list[Any] | None = None, connection_timeout_secs: int = 60
    ) -> None:
        super().__init__(ice_servers, connection_timeout_secs)
        self._writer: TrackWriter | None = None

    def replace_audio_track(self, track: Any) -> None:
        """Send what a track gives from now on; None sends nothing.

        Pipecat's `RawAudioTrack` is written through; any other is pulled at its own pace.
        """
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        if callable(getattr(track, "add_audio_bytes", None)) and hasattr(track, "_sample_rate"):
            super().replace_audio_track(None)
            self._writer = TrackWriter(self.session, track, self.is_connected)
        else:
            super().replace_audio_track(track)

    def send_app_message(self, message: Any) -> bool:
        """Send anything that JSON can hold; after the end of the call it is dropped, and False.

        Raises ProtocolError for what cannot be sent, and StateError.
        """
        # Pipecat's transport sends as long as its pipeline runs. It would tell the caller of an
        # exception, in a message, without end.
        try:
            return super().send_app_message(message)
        except SessionClosed:
            log.debug("a message after the end of %s", self)
            return False

    async def disconnect(self) -> None:
        """End the call once what was written has left. Safe to call twice."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.finish()
        await super().disconnect()


class TrackWriter:
    """Takes the place of a track's queue. `close` gives the track back to itself."""

    def __init__(self, session: Session, track: Any, present: Callable[[], bool]) -> None:
        self._session = session
        self._track = track
        self._hz = int(track._sample_rate)
        self._playout = SessionPlayout(
            session, hz=self._hz, lead_ms=LEAD_MS, hold_s=HOLD_S, present=present
        )
        self._writing: set[asyncio.Task[bool]] = set()
        track.add_audio_bytes = self.add_audio_bytes

    def close(self) -> None:
        """Write no more."""
        for task in self._writing:
            task.cancel()  # of which whoever waits for it learns as a False
        vars(self._track).pop("add_audio_bytes", None)

    async def finish(self) -> None:
        """Write no more, and wait until all has left; not long, for a caller may be away."""
        self.close()
        playout = self._playout
        if not playout.written:
            return
        playout.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_S):
                await playout.wait(playout.written)

    def add_audio_bytes(self, audio_bytes: bytes) -> asyncio.Future[bool]:
        """Send int16 samples, a multiple of 10 ms; the result comes when more may follow.

        Raises ValueError for another length.
        """
        if len(audio_bytes) % (2 * (self._hz // STEPS_A_SECOND)):
            raise ValueError("audio comes in whole pieces of 10 ms")
        taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._write(audio_bytes), name="track writer")
        self._writing.add(task)

        def ended(_: asyncio.Task[bool]) -> None:
            self._writing.discard(task)
            if taken.done():
                return
            error = None if task.cancelled() else task.exception()
            if error is not None:
                taken.set_exception(error)
            else:
                taken.set_result(not task.cancelled() and task.result())

        # Not the task itself: a write that ends with the call would cancel Pipecat's audio task.
        task.add_done_callback(ended)
        taken.add_done_callback(lambda _: task.cancel())
        return taken

    async def _write(self, audio: bytes) -> bool:
        try:
            if self._session.speaker_channels == 2:
                audio = np.repeat(np.frombuffer(audio, np.int16), 2).tobytes()
            return await self._playout.write(audio)
        except BackbeatError:  # the call is over
            return False
