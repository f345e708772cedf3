"""Audio frames of any length, rate and channels in; frames of one chunk each out.

A chunk is made of audio that follows upon itself, and is uninterruptible when any of it is.
What is left over waits for more; `drain` gives it out, so that no tail is ever lost.
"""

from __future__ import annotations

import copy
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from engine.sdk.resample import Resampler
from engine.transports.frames import AudioRawFrame, OutputAudioRawFrame
from ipc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP_MS = 1000


class Chunker:
    """The audio of one destination, cut into chunks of `chunk_bytes` at `hz` and `channels`."""

    def __init__(self, hz: int, channels: int, chunk_bytes: int) -> None:
        self._hz = hz
        self._channels = channels
        self._chunk_bytes = chunk_bytes
        # Audio that waits to fill a chunk, in runs of equal interruptibility.
        self._runs: deque[tuple[bytearray, bool]] = deque()
        self._waiting = 0
        self._last: OutputAudioRawFrame | None = None
        self._resampler: Resampler | None = None
        self._tail_interruptible = True

    @property
    def waiting(self) -> bool:
        """Whether audio waits for more to come."""
        return self._waiting > 0 or (self._resampler is not None and self._resampler.held > 0)

    @property
    def lasting(self) -> bool:
        """Whether some of what waits survives an interruption."""
        return any(not interruptible for _, interruptible in self._runs)

    def add(self, frame: OutputAudioRawFrame) -> Iterator[OutputAudioRawFrame]:
        """The chunks that a frame completes; at most a second of it is worked on at a time.

        Raises ConfigError for bytes that are no whole samples, or channels that do not fit.
        """
        pcm = channelled(frame, self._channels)
        same_rate = frame.sample_rate == self._hz
        if self._resampler is not None and (same_rate or self._resampler.hz != frame.sample_rate):
            self._drain_resampler()
        self._last = frame
        if same_rate:
            self._put(pcm, frame.interruptible)
            yield from self._whole()
            return
        step = frame.sample_rate * STEP_MS // 1000 * 2 * self._channels
        for at in range(0, len(pcm), step):
            if self._resampler is None:
                self._resampler = Resampler(frame.sample_rate, self._hz, self._channels)
            self._tail_interruptible = frame.interruptible
            self._put(self._resampler.feed(memoryview(pcm)[at : at + step]), frame.interruptible)
            yield from self._whole()

    def cut(self) -> Iterator[OutputAudioRawFrame]:
        """What waits to fill a chunk, as it is: more may follow without a seam."""
        yield from self._whole()
        if self._waiting:
            yield self._take()

    def drain(self, *, pad: bool) -> Iterator[OutputAudioRawFrame]:
        """All that waits, the resampler's tail included: the utterance ends here.

        With `pad` silence fills the last chunk.
        """
        self._drain_resampler()
        yield from self._whole()
        if self._waiting:
            if pad:
                self._put(bytes(self._chunk_bytes - self._waiting), self._runs[-1][1])
            yield self._take()

    def drop(self) -> None:
        """Forget what may be interrupted."""
        if self._resampler is not None:
            if self._tail_interruptible:
                self._resampler = None
            else:
                self._drain_resampler()
        self._runs = deque(run for run in self._runs if not run[1])
        self._waiting = sum(len(audio) for audio, _ in self._runs)

    def _drain_resampler(self) -> None:
        if self._resampler is not None:
            resampler, self._resampler = self._resampler, None
            self._put(resampler.drain(), self._tail_interruptible)

    def _put(self, pcm: bytes | memoryview, interruptible: bool) -> None:
        if not pcm:
            return
        self._waiting += len(pcm)
        if self._runs and self._runs[-1][1] == interruptible:
            self._runs[-1][0].extend(pcm)
        else:
            self._runs.append((bytearray(pcm), interruptible))

    def _whole(self) -> Iterator[OutputAudioRawFrame]:
        while self._waiting >= self._chunk_bytes:
            yield self._take()

    def _take(self) -> OutputAudioRawFrame:
        """Up to a chunk from the front."""
        chunk = bytearray()
        interruptible = True
        while self._runs and len(chunk) < self._chunk_bytes:
            audio, may_go = self._runs[0]
            interruptible = interruptible and may_go
            piece = audio[: self._chunk_bytes - len(chunk)]
            chunk += piece
            if len(piece) == len(audio):
                self._runs.popleft()
            else:
                del audio[: len(piece)]  # moves the buffer's start, not its bytes
        self._waiting -= len(chunk)
        return self._frame(bytes(chunk), interruptible)

    def _frame(self, audio: bytes, interruptible: bool) -> OutputAudioRawFrame:
        """A frame like the last one that came, of its class, with a number of its own."""
        frame = copy.copy(self._last) if self._last else OutputAudioRawFrame(b"", 1, 1)
        frame.audio = audio
        frame.sample_rate = self._hz
        frame.num_channels = self._channels
        frame.pts = None
        frame.metadata = dict(frame.metadata)
        AudioRawFrame.__post_init__(frame)
        frame.interruptible = interruptible
        return frame


def channelled(frame: AudioRawFrame, wanted: int) -> bytes:
    """A frame's samples with so many channels. ConfigError(`audio`) for what does not fit."""
    return as_channels(frame.audio, frame.num_channels, wanted)


def as_channels(pcm: bytes, given: int, wanted: int) -> bytes:
    """int16 samples of `given` channels as those of `wanted`. ConfigError(`audio`) where not."""
    if len(pcm) % (2 * given):
        raise ConfigError(
            f"{len(pcm)} bytes are no whole samples of {given} channels", code="audio"
        )
    if given == wanted:
        return pcm
    samples = np.frombuffer(pcm, np.int16)
    if given == 1:
        return bytes(np.repeat(samples, wanted).data)
    if wanted == 1:
        mean = samples.reshape(-1, given).astype(np.int32).sum(axis=1) // given
        return bytes(mean.astype(np.int16).data)
    raise ConfigError(f"{given} channels cannot become {wanted}", code="audio")


def scaled(audio: bytes, volume: float) -> bytes:
    """int16 samples times `volume`, limited to what int16 holds."""
    samples = np.rint(np.frombuffer(audio, np.int16) * volume)
    return bytes(np.clip(samples, -32_768, 32_767).astype(np.int16).data)
