"""Another rate by libswresample itself: no graph, no frames, above all no threads.

PyAV's resampler is a filter graph that starts two threads and joins them when it is freed, which
holds up the beat for as long as those wait for a core. The library is the one that PyAV's wheel
carries, else the system's (FFmpeg 5.1 and later: `swr_alloc_set_opts2`), else PyAV's graph.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ipc.errors import WorkerError
from workers.audio.libraries import library_paths

if TYPE_CHECKING:
    from pathlib import Path

S16 = 1
NATIVE_ORDER = 1
# Which speakers a layout of so many channels has (libavutil's `channel_layout.h`).
SPEAKERS = {1: 0x4, 2: 0x3}
SAMPLE_BYTES = 2


class Resampler(Protocol):
    """One stream of int16 PCM, channels interleaved."""

    def feed(self, pcm: bytes | memoryview) -> bytes:
        """Whole samples in; what is ready of them out."""
        ...

    def drain(self) -> bytes:
        """What is held back. Nothing may follow."""
        ...


class _Layout(ctypes.Structure):
    """AVChannelLayout."""

    _fields_ = (
        ("order", ctypes.c_int),
        ("channels", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("opaque", ctypes.c_void_p),
    )


def load(path: Path) -> ctypes.CDLL | None:
    """The library at `path` with its signatures, or None when it is not one we know."""
    try:
        library = ctypes.CDLL(str(path))
        allocate, init = library.swr_alloc_set_opts2, library.swr_init
        convert, room, free = library.swr_convert, library.swr_get_out_samples, library.swr_free
    except (OSError, AttributeError):
        return None
    pointer, number, layout = ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Layout)
    allocate.argtypes = [
        ctypes.POINTER(pointer),
        *(layout, number, number),
        *(layout, number, number),
        *(number, pointer),
    ]
    init.argtypes = [pointer]
    convert.argtypes = [
        *(pointer, ctypes.POINTER(pointer), number),
        *(ctypes.POINTER(pointer), number),
    ]
    room.argtypes = [pointer, number]
    free.argtypes = [ctypes.POINTER(pointer)]
    free.restype = None
    return library


@cache
def libswresample() -> ctypes.CDLL | None:
    """The library for this process, or None."""
    return next((lib for lib in map(load, library_paths("swresample")) if lib is not None), None)


class SwResampler:
    """A stream through the library. Raises WorkerError for what it refuses."""

    def __init__(self, library: ctypes.CDLL, from_hz: int, to_hz: int, channels: int) -> None:
        self._library = library
        self._stride = SAMPLE_BYTES * channels
        layout = _Layout(NATIVE_ORDER, channels, SPEAKERS[channels], None)
        context = self._context = ctypes.c_void_p()
        shape = ctypes.byref(layout)
        failed = library.swr_alloc_set_opts2(
            ctypes.byref(context), shape, S16, to_hz, shape, S16, from_hz, 0, None
        )
        if failed < 0 or library.swr_init(context) < 0:
            self._free()
            raise WorkerError(f"{from_hz} Hz cannot be made {to_hz} Hz", code="resampler")
        self._from, self._to = ctypes.c_void_p(), ctypes.c_void_p()
        self._from_at, self._to_at = ctypes.pointer(self._from), ctypes.pointer(self._to)
        self._out = np.zeros(0, np.uint8)

    def feed(self, pcm: bytes | memoryview) -> bytes:
        """Whole samples in; what is ready of them out."""
        given = np.frombuffer(pcm, np.uint8)
        count = len(given) // self._stride
        if not count:
            return b""
        self._from.value = given.ctypes.data
        return self._convert(count)

    def drain(self) -> bytes:
        """What is held back. Nothing may follow."""
        return self._convert(0)

    def _convert(self, count: int) -> bytes:
        library = self._library
        room = library.swr_get_out_samples(self._context, count)
        if room * self._stride > len(self._out):
            self._out = np.zeros(room * self._stride, np.uint8)
            self._to.value = self._out.ctypes.data
        source = self._from_at if count else None
        made = library.swr_convert(self._context, self._to_at, room, source, count)
        if made < 0:
            raise WorkerError("libswresample failed", code="resampler")
        return self._out[: made * self._stride].tobytes()

    def _free(self) -> None:
        self._library.swr_free(ctypes.byref(self._context))

    def __del__(self) -> None:
        self._free()


class GraphResampler:
    """The same by PyAV, where there is no library that we know."""

    def __init__(self, from_hz: int, to_hz: int, channels: int) -> None:
        from av import AudioFrame, AudioResampler

        self._frame = AudioFrame
        self._hz = from_hz
        self._layout = "stereo" if channels == 2 else "mono"
        self._stride = SAMPLE_BYTES * channels
        self._graph = AudioResampler(format="s16", layout=self._layout, rate=to_hz)

    def feed(self, pcm: bytes | memoryview) -> bytes:
        """Whole samples in; what is ready of them out."""
        count = len(pcm) // self._stride
        if not count:
            return b""
        frame = self._frame(format="s16", layout=self._layout, samples=count)
        frame.sample_rate = self._hz
        # A plane is padded, and takes only all of its bytes.
        memoryview(frame.planes[0])[: len(pcm)] = pcm
        return b"".join(map(self._bytes, self._graph.resample(frame)))

    def drain(self) -> bytes:
        """What is held back. Nothing may follow."""
        return b"".join(map(self._bytes, self._graph.resample(None)))

    def _bytes(self, frame: object) -> bytes:
        return bytes(memoryview(frame.planes[0])[: frame.samples * self._stride])  # type: ignore[attr-defined]  # an AudioFrame


def new_resampler(from_hz: int, to_hz: int, channels: int) -> Resampler:
    """The best that there is."""
    library = libswresample()
    if library is None:
        return GraphResampler(from_hz, to_hz, channels)
    return SwResampler(library, from_hz, to_hz, channels)
