"""A server's audio both ways, over the rings of its session or as messages of its own format.

Thin: the playouts of `engine.transports.base` keep the lead, a worker keeps the time.
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
from engine.transports.websocket.message_speech import MessageSpeech
from ipc.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from engine.sdk import Session
    from engine.transports.base import BaseAudioMixer, TransportParams
    from engine.transports.base.session_playout import Speech
    from engine.transports.base.sum import Line
    from engine.transports.frames import OutputAudioRawFrame

RING_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
# A write that holds gives up so long before it would count as stuck.
GIVE_UP_EARLY_S = 1.0
# Of what came together, in one frame.
MOST_MS = 100


class Heard(NamedTuple):
    """What was heard: int16 samples, and their place since the beginning in ns."""

    pcm: bytes
    pts: int


class ServerAudio:
    """What is said to a server. `close` ends it."""

    def __init__(
        self, speech: Speech, params: TransportParams, *, hz: int, present: Callable[[], bool]
    ) -> None:
        """`speech` takes what is played; `present` tells whether the connection is there."""
        self._speech = speech
        self._params = params
        as_messages = isinstance(speech, MessageSpeech)
        self._playout = SessionPlayout(
            speech,
            hz=hz,
            lead_ms=lead_ms(params, sounds_here=as_messages),
            hold_s=max(0.0, params.audio_out_write_timeout_secs - GIVE_UP_EARLY_S),
            present=present,
            # The worker cuts samples into chunks; messages are what they are.
            piece_ms=10 * params.audio_out_10ms_chunks if as_messages else PIECE_MS,
        )
        self._sum: Sum | None = None
        if params.audio_out_destinations:
            self._sum = Sum(self._playout, hz, speech.speaker_channels)

    def playout(self, destination: str | None) -> SessionPlayout | Line | None:
        """The way of a destination's audio; None for one that there is not."""
        if self._sum is None:
            return self._playout
        known = destination is None or destination in self._params.audio_out_destinations
        return self._sum.line(destination) if known else None

    async def write(self, frame: OutputAudioRawFrame) -> bool:
        """Send audio; returns when unsent audio is within the lead."""
        out = self.playout(frame.transport_destination)
        if out is None:
            return False
        pcm = channelled(frame, self._speech.speaker_channels)
        return await out.write(pcm, hz=frame.sample_rate, interruptible=frame.interruptible)

    def drop(self) -> None:
        """The connection is gone: what is queued and may be interrupted goes, everywhere."""
        for destination in (None, *self._params.audio_out_destinations):
            out = self.playout(destination)
            if out is not None:
                out.flush()

    def changed(self) -> None:
        """The connection came or went."""
        self._playout.changed()

    async def close(self) -> None:
        """End: what has not left counts as cut."""
        if self._sum is not None:
            await self._sum.close()
        if isinstance(self._speech, MessageSpeech):
            await self._speech.close()


async def hear(session: Session, hz: int, channels: int) -> AsyncGenerator[Heard, None]:
    """What a session's caller says, at a rate of one's own, until its end.

    20 ms at a time, or as much as came at once: each frame costs a pipeline the same.
    """
    ring_hz = session.mic_hz
    resampler = Resampler(ring_hz, hz, channels) if ring_hz != hz else None
    async for heard in session.audio(most_ms=MOST_MS):
        pcm: bytes | memoryview = as_channels(bytes(heard.pcm), heard.channels, channels)
        if resampler is not None:
            pcm = resampler.feed(memoryview(pcm))
        if pcm:
            yield Heard(bytes(pcm), heard.cursor * NS_PER_S // heard.hz)


def ring_hz(hz: int) -> int:
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
