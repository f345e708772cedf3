"""The protobuf message of a chunk of audio, byte by byte: it passes many times a second.

Byte for byte what `ProtobufFrameSerializer` makes and reads, without a frame in between. The
schema is `backbeat_frames.proto`.
"""

from __future__ import annotations

from functools import lru_cache

from ipc.frames.base import numbered

KIND = "OutputAudioRawFrame"
# Tags: a field's number and its wire type (0 varint, 2 bytes).
AUDIO = 2 << 3 | 2
ID, NAME, SAMPLES, RATE, CHANNELS = 1 << 3, 2 << 3 | 2, 3 << 3 | 2, 4 << 3, 5 << 3
MORE = 0x80
MAX_VARINT = 10


def encode(pcm: bytes, hz: int, channels: int) -> bytes:
    """An output audio frame with these samples, which are not empty, numbered anew."""
    number, name = numbered(KIND)
    ordinal, size, shape = varint(number), _size(len(pcm)), _shape(hz, channels)
    # Beside the parts whose lengths differ there are three tags and the length of the name.
    whole = _size(4 + len(ordinal) + len(name) + len(size) + len(pcm) + len(shape))
    begin = b"%c%b%c%b%c%c%b%c" % (
        *(AUDIO, whole),
        *(ID, ordinal),
        *(NAME, len(name), name.encode()),
        SAMPLES,
    )
    return b"".join((begin, size, pcm, shape))


def read(data: bytes) -> tuple[memoryview, int, int] | None:
    """The samples, the rate and the channels of a message that is sound audio and no more.

    None for every other message, which is for the serializer to read or to refuse.
    """
    try:
        if data[0] != AUDIO:
            return None
        size, at = _read_varint(data, 1)
        if at + size != len(data):
            return None
        if data[at] == ID:
            _, at = _read_varint(data, at + 1)
        if data[at] == NAME:
            length = data[at + 1]
            at += 2
            if length >= MORE or not data[at : at + length].isascii():
                return None
            at += length
        if data[at] != SAMPLES:
            return None
        length, start = _read_varint(data, at + 1)
        at = start + length
        if data[at] != RATE:
            return None
        hz, at = _read_varint(data, at + 1)
        channels = data[at + 1]
        if data[at] != CHANNELS or at + 2 != len(data):
            return None
    except IndexError:
        return None
    if not 1 <= channels <= 2 or not 0 < hz < 1 << 32 or length % (2 * channels):
        return None
    return memoryview(data)[start : start + length], hz, channels


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    if 1 << 14 <= value < 1 << 21:  # most numbers of frames
        return bytes((value & 0x7F | MORE, value >> 7 & 0x7F | MORE, value >> 14))
    made = bytearray()
    while value >= MORE:
        made.append(value & 0x7F | MORE)
        value >>= 7
    made.append(value)
    return bytes(made)


_size = lru_cache(maxsize=256)(varint)


@lru_cache(maxsize=64)
def _shape(hz: int, channels: int) -> bytes:
    return b"%c%b%c%b" % (RATE, varint(hz), CHANNELS, varint(channels))


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends. Raises IndexError for what is none."""
    value = data[at]
    if value < MORE:
        return value, at + 1
    value &= 0x7F
    byte = data[at + 1]
    if byte < MORE:
        return value | byte << 7, at + 2
    for place in range(1, MAX_VARINT):
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < MORE:
            return value, at + place + 1
    raise IndexError
