"""A sound file as samples of a wanted rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from av import AudioFrame

    from ipc.frames import Pcm

MAX_SECONDS = 3600


def load(path: str, hz: int, channels: int) -> Pcm:
    """Its samples, int16 and interleaved, at `hz`; an hour of them at most.

    Raises OSError for a file that cannot be read, ValueError for one that is no sound.
    """
    import av  # here, because importing a transport must not load it
    from av.error import FFmpegError

    layout = "mono" if channels == 1 else "stereo"
    pieces: list[Pcm] = []
    count = 0
    try:
        with av.open(path) as container:
            if not container.streams.audio:
                raise ValueError(f"{path} has no sound")
            resampler = av.AudioResampler("s16", layout, hz)
            for frame in container.decode(audio=0):
                for ready in resampler.resample(frame):
                    pieces.append(_samples(ready))
                    count += ready.samples
                if count > MAX_SECONDS * hz:
                    raise ValueError(f"{path} is longer than {MAX_SECONDS} s")
            pieces.extend(_samples(ready) for ready in resampler.resample(None))
    except FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise ValueError(f"{path} is no sound: {error}") from error
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)


def _samples(frame: AudioFrame) -> Pcm:
    return frame.to_ndarray().reshape(-1).astype(np.int16, copy=False)
