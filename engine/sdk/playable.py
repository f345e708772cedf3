"""What a bot may play (frames, bytes, arrays of int16) as whole samples, and what comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.sdk.resample import check_rate
from ipc.errors import ConfigError
from ipc.samples import AudioFrame, Pcm

if TYPE_CHECKING:
    import asyncio

    from engine.sdk.marks import Mark
    from ipc.ring_layout import Samples

Playable = AudioFrame | bytes | bytearray | memoryview | Pcm


class Played(NamedTuple):
    """What `play` did: it queued samples `start` to `end`; `cut` of those given never left.

    Cursors of the ring. `mark` is there when one was asked for.
    """

    start: int
    end: int
    cut: int
    mark: asyncio.Future[Mark] | None = None


def as_samples(pcm: Playable, hz: int | None, speaker: Samples) -> tuple[memoryview, int]:
    """Whole samples with the speaker's channels, and their rate in Hz: without `hz` its own.

    Raises ConfigError for what cannot be played.
    """
    if isinstance(pcm, AudioFrame):
        if pcm.channels != speaker.channels or hz not in (None, pcm.hz):
            raise ConfigError(
                f"the frame has {pcm.hz} Hz and {pcm.channels} channels, the speaker "
                f"{speaker.channels}: choose equal ones for the Bot"
            )
        hz = pcm.hz
        pcm = pcm.pcm
    elif isinstance(pcm, np.ndarray):
        if pcm.dtype != np.int16:
            raise ConfigError(f"samples are int16, not {pcm.dtype}")
        if pcm.shape[1:] not in ((), (speaker.channels,)):
            raise ConfigError(
                f"an array has the shape (n,) or (n, {speaker.channels}), not {pcm.shape}"
            )
        pcm = np.ascontiguousarray(pcm).data
    hz = speaker.hz if hz is None else hz
    if hz != speaker.hz:
        check_rate(hz)
    try:
        data = memoryview(pcm)
    except TypeError:
        raise ConfigError(
            f"play takes a frame, bytes or an array of int16, not {type(pcm).__name__}"
        ) from None
    data = data.cast("B") if data.nbytes else memoryview(b"")
    if len(data) % speaker.stride:
        raise ConfigError(f"{len(data)} bytes are no whole samples of {speaker.stride} bytes")
    return data, hz
