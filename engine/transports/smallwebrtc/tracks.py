"""Tracks for anybody's RTCPeerConnection: queue audio or images, aiortc pulls them in real time.

Our own transport does not need them: there the media workers keep the time. Time is the loop's
monotonic clock, counted from the first `recv`; whoever comes late is not followed by a burst.
The one module of the documented transports that loads aiortc and av.
"""

from __future__ import annotations

import asyncio
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING

from aiortc import AudioStreamTrack, VideoStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, VideoFrame

from engine.transports.smallwebrtc.images import check_image

if TYPE_CHECKING:
    from engine.transports.frames import OutputImageRawFrame

CHUNK_MS = 10
SAMPLE_BYTES = 2
MAX_QUEUED_MS = 10_000
MAX_IMAGES = 8
VIDEO_HZ = 90_000


class RawAudioTrack(AudioStreamTrack):
    """Mono int16 PCM at `sample_rate` Hz, in frames of 10 ms.

    With `auto_silence` an empty queue plays as silence; without, `recv` waits for audio.
    """

    def __init__(self, sample_rate: int, auto_silence: bool = True) -> None:
        super().__init__()
        if sample_rate * CHUNK_MS // 1000 < 1:
            raise ValueError(f"{sample_rate} Hz has no sample in {CHUNK_MS} ms")
        self._sample_rate = sample_rate
        self._auto_silence = auto_silence
        self._chunk_samples = sample_rate * CHUNK_MS // 1000
        self._chunk_bytes = self._chunk_samples * SAMPLE_BYTES
        self._queue: deque[tuple[bytes, asyncio.Future[bool] | None]] = deque()
        self._came = asyncio.Event()
        self._timestamp = 0
        self._began_s: float | None = None

    def add_audio_bytes(self, audio_bytes: bytes) -> asyncio.Future[bool]:
        """Queue audio; the future is True once its last 10 ms have been taken.

        Empty audio resolves at once, and `stop` cancels what is pending. Raises ValueError for
        what is not a multiple of 10 ms, for more than 10 s in the queue, and after `stop`.
        """
        if len(audio_bytes) % self._chunk_bytes:
            raise ValueError("Audio bytes must be a multiple of 10ms size.")
        if self.readyState != "live":
            raise ValueError("the track has been stopped: nobody would take the audio")
        count = len(audio_bytes) // self._chunk_bytes
        if (len(self._queue) + count) * CHUNK_MS > MAX_QUEUED_MS:
            raise ValueError(
                f"the queue holds at most {MAX_QUEUED_MS // 1000} s; await what add_audio_bytes "
                "returned before adding more"
            )
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if not count:
            done.set_result(True)
            return done
        for at in range(0, len(audio_bytes), self._chunk_bytes):
            last = at + self._chunk_bytes == len(audio_bytes)
            chunk = bytes(audio_bytes[at : at + self._chunk_bytes])
            self._queue.append((chunk, done if last else None))
        self._came.set()
        return done

    async def recv(self) -> AudioFrame:
        """The next 10 ms, when they are due. Raises MediaStreamError once it is stopped."""
        await self._due()
        if not self._queue and not self._auto_silence:
            await self._audio_came()
        if self.readyState != "live":
            raise MediaStreamError
        chunk, done = self._queue.popleft() if self._queue else (bytes(self._chunk_bytes), None)
        if done is not None and not done.done():
            done.set_result(True)
        frame = AudioFrame(format="s16", layout="mono", samples=self._chunk_samples)
        frame.planes[0].update(chunk)
        frame.sample_rate = self._sample_rate
        frame.pts = self._timestamp
        frame.time_base = Fraction(1, self._sample_rate)
        self._timestamp += self._chunk_samples
        return frame

    async def _due(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._began_s is None:
            self._began_s = now_s
        wait_s = self._began_s + self._timestamp / self._sample_rate - now_s
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        elif -wait_s > CHUNK_MS / 1000:
            # Whoever pulls was away for longer than a frame: from here on in real time again.
            self._began_s -= wait_s

    async def _audio_came(self) -> None:
        """Wait for audio; the pause counts in the timestamps."""
        loop = asyncio.get_running_loop()
        while not self._queue and self.readyState == "live":
            self._came.clear()
            await self._came.wait()
        assert self._began_s is not None  # noqa: S101 - `_due` came first
        elapsed = round((loop.time() - self._began_s) * self._sample_rate)
        behind = (elapsed - self._timestamp) // self._chunk_samples
        self._timestamp += max(0, behind) * self._chunk_samples

    def stop(self) -> None:
        """End the track and cancel what is pending."""
        super().stop()
        for _, done in self._queue:
            if done is not None:
                done.cancel()
        self._queue.clear()
        self._came.set()


class RawVideoTrack(VideoStreamTrack):
    """RGB images of `width` by `height` pixels, each with the time at which it was added.

    At most 8 wait: a slow receiver gets the newest ones.
    """

    def __init__(self, width: int, height: int) -> None:
        super().__init__()
        self._width = width
        self._height = height
        self._queue: deque[tuple[float, OutputImageRawFrame]] = deque(maxlen=MAX_IMAGES)
        self._came = asyncio.Event()
        self._began_s: float | None = None
        self._timestamp = -1

    def add_video_frame(self, frame: OutputImageRawFrame) -> None:
        """Queue an image. Raises ValueError for a wrong size or a colour format but RGB."""
        check_image(frame, (self._width, self._height))
        self._queue.append((asyncio.get_running_loop().time(), frame))
        self._came.set()

    async def recv(self) -> VideoFrame:
        """The next image, as soon as there is one. Raises MediaStreamError once it is stopped."""
        while not self._queue and self.readyState == "live":
            self._came.clear()
            await self._came.wait()
        if self.readyState != "live":
            raise MediaStreamError
        added_s, image = self._queue.popleft()
        if self._began_s is None:
            self._began_s = added_s
        # Two images of one instant still need timestamps of their own.
        self._timestamp = max(self._timestamp + 1, round((added_s - self._began_s) * VIDEO_HZ))
        frame = VideoFrame(self._width, self._height, "rgb24")
        frame.planes[0].update(_padded(image.image, self._width * 3, frame.planes[0].line_size))
        frame.pts = self._timestamp
        frame.time_base = Fraction(1, VIDEO_HZ)
        return frame

    def stop(self) -> None:
        """End the track; what waits is dropped."""
        super().stop()
        self._queue.clear()
        self._came.set()


def _padded(image: bytes, row: int, line: int) -> bytes:
    """The image with rows as long as the frame's lines."""
    if row == line:
        return image
    gap = bytes(line - row)
    return b"".join(image[at : at + row] + gap for at in range(0, len(image), row))
