"""Text over a WebSocket: what is UTF-8 comes back, what is not ends the connection (category 6).

The sequences are made from the definition, RFC 3629: the edges of each length, what is too long,
the surrogates, what lies beyond the last character, and what is cut off.
"""

from __future__ import annotations

from tests.fakes.websocket_cases import NOT_UTF8, Case, a, fragments, split
from tests.fakes.websocket_raw import CONT, TEXT, Got

EDGES = (0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFF, 0x1_0000, 0x10_FFFF, 0xD7FF, 0xE000, 0xFFFD)
SURROGATES = (0xD800, 0xDB7F, 0xDB80, 0xDBFF, 0xDC00, 0xDF80, 0xDFFF)
WORDS = ("κόσμε", "Hello-µ@ßöäüàá-UTF-8!!", "日本語", "🎧🎙", "שלום", "e\u0301")
BEYOND = (0x11_0000, 0x13_FFFF, 0x1F_FFFF, 0x20_0000, 0x3FF_FFFF, 0x400_0000, 0x7FFF_FFFF)


def encoded(point: int, length: int) -> bytes:
    """These bits in the pattern of that many bytes, be it allowed or not."""
    if length == 1:
        return bytes([point])
    tail = [0x80 | point >> 6 * at & 0x3F for at in range(length - 1)]
    lead = (0xFF00 >> length & 0xFF) | point >> 6 * (length - 1)
    return bytes([lead, *reversed(tail)])


def valid() -> list[tuple[str, bytes]]:
    """Names and texts."""
    found = [(f"word.{at}", word.encode()) for at, word in enumerate(WORDS)]
    found += [(f"U+{point:04X}", chr(point).encode()) for point in EDGES]
    # Those that are no characters are text all the same.
    for plane in range(17):
        for last in (0xFFFE, 0xFFFF):
            point = plane << 16 | last
            found.append((f"U+{point:04X}.none", chr(point).encode()))
    return found


def invalid() -> list[tuple[str, bytes]]:
    """Names and bytes that are none."""
    found = [(f"stray.{byte:02X}", bytes([byte])) for byte in (0x80, 0xBF, 0xFE, 0xFF)]
    found += [(f"stray.{count}", b"\x80\xbf" * count) for count in (1, 2, 3)]
    found.append(("all_strays", bytes(range(0x80, 0xC0))))
    found += [(f"lonely.{byte:02X}", bytes([byte, 0x20])) for byte in range(0xC0, 0xFE, 3)]
    for length in range(2, 7):
        cut = encoded(EDGES[2 * length - 3] if length < 5 else 1 << 5 * length - 4, length)
        found += [(f"cut.{length}.{at}", cut[:at]) for at in range(1, length)]
        for point in (0, 0x2F, (1 << (7 if length == 2 else 5 * length - 4)) - 1):
            found.append((f"too_long.{length}.{point:X}", encoded(point, length)))
    for point in SURROGATES:
        found.append((f"surrogate.{point:X}", encoded(point, 3)))
    for high in SURROGATES[:4]:
        for low in (0xDC00, 0xDFFF):
            found.append((f"pair.{high:X}.{low:X}", encoded(high, 3) + encoded(low, 3)))
    for point in BEYOND:
        length = 4 if point < 0x20_0000 else 5 if point < 0x400_0000 else 6
        found.append((f"beyond.{point:X}", encoded(point, length)))
    return found


def utf8() -> list[Case]:
    """6: as one frame, in frames of one byte, in pieces, and said to be wrong at once."""
    found = []
    for name, text in valid():
        answers = (Got(TEXT, text),)
        found += [
            Case(name=f"6.1.{name}", steps=(a(TEXT, text),), answers=answers),
            Case(name=f"6.2.{name}", steps=fragments(TEXT, split(text)), answers=answers),
            Case(name=f"6.3.{name}", steps=(a(TEXT, text),), answers=answers, pieces_of=1),
        ]
    for name, wrong in invalid():
        text = WORDS[0].encode() + wrong + b"edited"
        found += [
            Case(name=f"6.5.{name}", steps=(a(TEXT, wrong),), code=NOT_UTF8),
            Case(name=f"6.6.{name}", steps=(a(TEXT, text),), code=NOT_UTF8),
            Case(name=f"6.7.{name}", steps=fragments(TEXT, split(text)), code=NOT_UTF8),
        ]
        if not name.startswith("cut"):
            # Nobody waits for the end of a message that is wrong already.
            early = (a(TEXT, WORDS[0].encode(), fin=False), a(CONT, wrong + b" ", fin=False))
            found.append(Case(name=f"6.4.{name}", steps=early, code=NOT_UTF8))
    return found
