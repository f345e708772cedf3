"""The audio of an SDK session both ways, as the clients of all transports have it.

Out: a playout that keeps the lead, or a sum of destinations over it. In: samples at a rate of one's
own. Nothing here decides when anything leaves; the worker's pacer does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.sdk import SoundFile
from engine.sdk.resample import Resampler, check_rate
from engine.transports.base.chunks import as_channels, channelled
from engine.transports.base.lead import lead_ms
from engine.transports.base.mixer import SoundfileMixer
from engine.transports.base.session_playout import PIECE_MS, SessionPlayout
from engine.transports.base.sum import Sum
from ipc.clock import NS_PER_S
from ipc.errors import SessionClosed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from engine.sdk import Session
    from engine.transports.base.mixer import BaseAudioMixer
    from engine.transports.base.params import TransportParams
    from engine.transports.base.session_playout import Speech
    from engine.transports.base.sum import Line
    from engine.transports.frames import OutputAudioRawFrame

RING_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
# A write that holds for a caller gives up so long before it would count as stuck.
GIVE_UP_EARLY_S = 1.0


class SessionAudio:
    """What is said to a caller. `close` ends it."""

    def __init__(
        self,
        speech: Speech,
        params: TransportParams,
        *,
        hz: int,
        present: Callable[[], bool],
        sounds_here: bool = False,
        piece_ms: int = PIECE_MS,
    ) -> None:
        """`present` tells whether a caller hears; see `lead_ms` for `sounds_here`."""
        self._speech = speech
        self._params = params
        self._playout = SessionPlayout(
            speech,
            hz=hz,
            lead_ms=lead_ms(params, sounds_here=sounds_here),
            hold_s=max(0.0, params.audio_out_write_timeout_secs - GIVE_UP_EARLY_S),
            present=present,
            piece_ms=piece_ms,
        )
        self._sum: Sum | None = None
        if params.audio_out_destinations:
            self._sum = Sum(self._playout, hz, speech.speaker_channels)

    def playout(self, destination: str | None) -> SessionPlayout | Line | None:
        """The way of a destination's audio; None for one that there is not."""
        if destination not in (None, *self._params.audio_out_destinations):
            return None
        return self._playout if self._sum is None else self._sum.line(destination)

    async def write(self, frame: OutputAudioRawFrame) -> bool:
        """Send audio; returns when unsent audio is within the lead, see `SessionPlayout`."""
        out = self.playout(frame.transport_destination)
        if out is None or self._speech.closed:
            return False
        pcm = channelled(frame, self._speech.speaker_channels)
        return await out.write(pcm, hz=frame.sample_rate, interruptible=frame.interruptible)

    def drop(self) -> None:
        """Nobody will hear it: what is queued and may be interrupted goes, everywhere."""
        for destination in (None, *self._params.audio_out_destinations):
            out = self.playout(destination)
            if out is not None:
                out.flush()

    def changed(self) -> None:
        """The caller came or went."""
        self._playout.changed()

    async def close(self) -> None:
        """End: what has not left counts as cut."""
        if self._sum is not None:
            await self._sum.close()


class Heard(NamedTuple):
    """What was heard: int16 samples, and their place since the beginning in ns."""

    pcm: bytes
    pts: int


async def hear(
    session: Session, hz: int, channels: int, *, most_ms: int = 0
) -> AsyncGenerator[Heard, None]:
    """What a session's caller says, at a rate of one's own, until its end.

    20 ms at a time, or what came at once up to `most_ms`.
    """
    try:
        ring_hz = session.mic_hz
    except SessionClosed:
        return
    resampler = Resampler(ring_hz, hz, channels) if ring_hz != hz else None
    async for heard in session.audio(most_ms=most_ms):
        pcm: bytes | memoryview = as_channels(bytes(heard.pcm), heard.channels, channels)
        if resampler is not None:
            pcm = resampler.feed(memoryview(pcm))
        if pcm:
            yield Heard(bytes(pcm), heard.cursor * NS_PER_S // heard.hz)


def ring_rate(hz: int) -> int:
    """The rate of the ring for audio of `hz`: its own, or the next that loses nothing.

    Raises ConfigError(`rate`).
    """
    if hz not in RING_RATES:
        check_rate(hz)
    return next((rate for rate in RING_RATES if rate >= hz), RING_RATES[-1])


def declared(mixer: BaseAudioMixer, destination: str | None) -> SoundFile | None:
    """What a worker can play in a mixer's place; None where it cannot."""
    if destination is not None or not isinstance(mixer, SoundfileMixer):
        return None
    background = mixer.background
    return SoundFile(
        path=background.file,
        volume=background.volume,
        loop=background.loop,
        mixing=background.mixing,
    )
