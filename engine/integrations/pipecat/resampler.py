"""Speech of another rate than the transport's, on its way to the sender.

In place of Pipecat's, which knows one channel and one rate a transport.
"""

from __future__ import annotations

from engine.sdk.resample import Resampler, check_rate


class StreamResampler:
    """One destination's stream of int16 PCM with so many channels, as Pipecat calls it."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._stream: Resampler | None = None

    async def resample(self, audio: bytes, in_rate: int, out_rate: int) -> bytes:
        """The samples that are ready at `out_rate`, behind those of a stream that ended."""
        stream = self._stream
        ended = b""
        if stream is not None and (stream.hz != in_rate or in_rate == out_rate):
            ended = await self.flush()
        if in_rate == out_rate:
            return ended + audio
        if self._stream is None:
            check_rate(in_rate)
            self._stream = Resampler(in_rate, out_rate, self._channels)
        return ended + bytes(self._stream.feed(memoryview(audio)))

    async def flush(self) -> bytes:
        """What is held back; the next samples are a stream of their own."""
        stream, self._stream = self._stream, None
        return bytes(stream.drain()) if stream is not None else b""

    async def reset(self) -> None:
        """Forget what is held back."""
        self.clear()

    def clear(self) -> None:
        """Forget what is held back."""
        self._stream = None

    @property
    def holds(self) -> bool:
        """Whether samples are held back."""
        return self._stream is not None and self._stream.held > 0
