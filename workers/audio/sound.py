"""An audio file as samples that can be mixed: decoded once, at the speaker's rate, bounded.

Blocking: callers run it in a thread. A file is opened here and nowhere else, so whatever a bot
names (a pipe, a device, a playlist of other places) is refused here. Big steps are cut into
pieces of a second or release the GIL, for the beat goes on meanwhile.
"""

from __future__ import annotations

import os
import stat
from contextlib import closing
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soxr

from ipc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from av import AudioFrame

Pcm = np.ndarray[tuple[int, ...], np.dtype[np.int16]]

MAX_SOUND_S = 300
MAX_FILE_BYTES = 64 << 20
RATES_HZ = range(4_000, 384_001)
# Containers that hold their audio themselves; others name files and addresses.
CONTAINERS = frozenset(
    {"wav", "w64", "aiff", "au", "flac", "ogg", "mp3", "aac", "mov", "mp4", "matroska", "webm"}
)
# A loop's two ends are joined over 5 ms, and a sound that plays once ends by fading as long.
JOIN_MS = 5
# What the resampler needs to see of the other end of a loop.
WRAP_S = 0.1


class Sound:
    """Samples of one file: `mono`, and `stereo` interleaved where a speaker has two channels."""

    __slots__ = ("__weakref__", "hz", "length", "mono", "stereo")

    def __init__(self, hz: int, mono: Pcm, stereo: Pcm | None = None) -> None:
        self.hz = hz
        self.length = len(mono)
        self.mono = mono
        self.stereo = stereo

    def samples(self, channels: int) -> Pcm:
        """Interleaved int16 for a frame of 1 or 2 channels."""
        return self.mono if channels == 1 or self.stereo is None else self.stereo


def open_file(path: str) -> BinaryIO:
    """A regular file of a fair size.

    Raises ConfigError: `sound_missing`, `sound_unreadable`, `sound_too_long`.
    """
    try:
        # Without waiting: a pipe would have us wait for its writer.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except FileNotFoundError:
        raise ConfigError(f"there is no sound file {path!r}"[:300], code="sound_missing") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    info = os.fstat(file.fileno())
    if not stat.S_ISREG(info.st_mode):
        file.close()
        raise _unreadable(path, "it is not a file")
    if info.st_size > MAX_FILE_BYTES:
        file.close()
        raise _too_long(path)
    return file


def load(
    path: str,
    hz: int,
    channels: int,
    *,
    loop: bool,
    file: BinaryIO | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Sound:
    """Decode a file for a speaker of that rate and 1 or 2 channels. Closes `file`.

    `stopped` ends the work early. Raises ConfigError as `open_file` does.
    """
    with closing(file or open_file(path)) as source:
        source_hz, pcm = _decode(path, source, stopped)
    pcm = _at_rate(pcm, source_hz, hz, loop=loop)
    if not len(pcm):
        raise _unreadable(path, "it holds no sound")
    count = hz * JOIN_MS // 1000
    pcm = _with_joined_ends(pcm, count) if loop else _with_faded_end(pcm, count)
    mono = pcm[:, 0] if pcm.shape[1] == 1 else _in_pieces(pcm, _mean)
    stereo = None
    if channels == 2:
        stereo = (_in_pieces(pcm, _twice) if pcm.shape[1] == 1 else pcm).reshape(-1)
    return Sound(hz, np.ascontiguousarray(mono), stereo)


def _decode(path: str, file: BinaryIO, stopped: Callable[[], bool]) -> tuple[int, Pcm]:
    """The rate and the samples, (n, 1 or 2)."""
    import av  # heavy, and only here

    try:
        with av.open(file, "r") as container:
            if not CONTAINERS & set(container.format.name.split(",")):
                raise _unreadable(path, f"{container.format.name} is no audio format")
            if not container.streams.audio:
                raise _unreadable(path, "it holds no sound")
            stream = container.streams.audio[0]
            hz = stream.rate
            if hz not in RATES_HZ:
                raise _unreadable(path, f"its rate is {hz} Hz")
            channels = 1 if stream.channels == 1 else 2
            convert = av.AudioResampler("s16", "mono" if channels == 1 else "stereo", hz)
            pieces: list[Pcm] = []
            count = 0
            for frame in container.decode(stream):
                if frame.sample_rate != hz:
                    raise _unreadable(path, "its rate changes")
                for piece in _packed(convert.resample(frame), channels):
                    count += len(piece)
                    pieces.append(piece)
                if count > MAX_SOUND_S * hz:
                    raise _too_long(path)
                if stopped():
                    raise _unreadable(path, "the worker ends")
            pieces += _packed(convert.resample(None), channels)
    except (OSError, ValueError, ArithmeticError, LookupError) as error:
        # PyAV's errors are these, each one also an FFmpegError.
        raise _unreadable(path, error) from None
    return hz, np.concatenate([np.zeros((0, channels), np.int16), *pieces])


def _packed(frames: list[AudioFrame], channels: int) -> list[Pcm]:
    return [frame.to_ndarray().astype(np.int16).reshape(-1, channels) for frame in frames]


def _at_rate(pcm: Pcm, source_hz: int, hz: int, *, loop: bool) -> Pcm:
    """Resampled; a loop as if it had been going round for ever, so that its ends fit."""
    if source_hz == hz or not len(pcm):
        return pcm
    length = round(len(pcm) * hz / source_hz)
    pad = 0
    if loop:
        # So many that they are a whole number of samples on both sides.
        step = source_hz // np.gcd(source_hz, hz)
        pad = int(step * -(-int(WRAP_S * source_hz) // step))
        around = np.arange(pad) % len(pcm)
        pcm = np.concatenate([pcm[::-1][around][::-1], pcm, pcm[around]])
    stream = soxr.ResampleStream(source_hz, hz, pcm.shape[1], dtype="int16", quality="HQ")
    pieces = [stream.resample_chunk(piece) for piece in _pieces(pcm, source_hz)]
    pieces.append(stream.resample_chunk(pcm[:0], last=True))
    start = pad * hz // source_hz
    resampled: Pcm = np.concatenate(pieces)[start : start + length].copy()
    return resampled


def _with_joined_ends(pcm: Pcm, count: int) -> Pcm:
    """A loop that was cut anywhere, its end running over into its beginning for `count`.

    One that was cut to fit, where a straight line through the end misses the beginning no more
    than any such line its next sample, stays as it is.
    """
    if len(pcm) < 4 * count:
        return pcm
    end, start = pcm[-count:].astype(np.float64), pcm[:count].astype(np.float64)
    step = np.abs(2 * end[-1] - end[-2] - start[0])
    usual = np.abs(np.diff(np.stack([end, start]), 2, axis=1)).max(axis=(0, 1))
    if (step <= 1.5 * usual + 2).all():
        return pcm
    fade = (0.5 + 0.5 * np.cos(np.pi * np.arange(count) / count))[:, np.newaxis]
    pcm[:count] = np.rint(end * fade + start * (1 - fade)).astype(np.int16)
    return pcm[:-count]


def _with_faded_end(pcm: Pcm, count: int) -> Pcm:
    count = min(count, len(pcm))
    fade = np.linspace(1, 0, count)[:, np.newaxis]
    pcm[-count:] = np.rint(pcm[-count:] * fade).astype(np.int16)
    return pcm


def _mean(piece: Pcm) -> Pcm:
    mixed: Pcm = (piece.sum(axis=1, dtype=np.int32) // 2).astype(np.int16)
    return mixed


def _twice(piece: Pcm) -> Pcm:
    return np.repeat(piece, 2, axis=1)


def _in_pieces(pcm: Pcm, change: Callable[[Pcm], Pcm]) -> Pcm:
    return np.concatenate([change(piece) for piece in _pieces(pcm, 48_000)])


def _pieces(pcm: Pcm, count: int) -> Iterator[Pcm]:
    for start in range(0, len(pcm), count):
        yield pcm[start : start + count]


def _unreadable(path: str, why: object) -> ConfigError:
    return ConfigError(
        f"the sound file {path!r} cannot be played: {why}"[:300], code="sound_unreadable"
    )


def _too_long(path: str) -> ConfigError:
    return ConfigError(
        f"the sound file {path!r} is longer than {MAX_SOUND_S} s or {MAX_FILE_BYTES >> 20} MiB",
        code="sound_too_long",
    )
