"""RFC 6455 case by case, for a server that was dialled and for a caller.

Categories and numbers are those of the Autobahn test suite (1 framing, 2 pings, 3 reserved bits,
4 opcodes, 5 fragmentation, 6 UTF-8, 7 closing, 9 limits, 10 fragments of any size); 12 and 13 are
compression, which callers are not offered. Each case also comes byte by byte.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from websockets.frames import Close, Opcode

from tests.fakes.websocket_wire import Wire

TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
KEY = b"\x11\x22\x33\x44"
MAX = 1 << 20


class Part(NamedTuple):
    """A frame as no library would let one write it."""

    opcode: int
    data: bytes = b""
    fin: bool = True
    reserved: int = 0

    def serialize(self, masked: bool) -> bytes:
        head = bytes([self.fin << 7 | self.reserved << 4 | self.opcode])
        size, bit = len(self.data), masked << 7
        if size < 126:
            head += bytes([bit | size])
        elif size < 1 << 16:
            head += bytes([bit | 126]) + size.to_bytes(2, "big")
        else:
            head += bytes([bit | 127]) + size.to_bytes(8, "big")
        if not masked:
            return head + self.data
        return head + KEY + bytes(byte ^ KEY[at % 4] for at, byte in enumerate(self.data))


class Case(NamedTuple):
    """What is sent, the messages and pongs that come of it, and the code of the end (0: none)."""

    number: str
    parts: list[Part]
    messages: list[str | bytes]
    code: int = 0
    pongs: tuple[bytes, ...] = ()


def fragments(opcode: int, *pieces: bytes) -> list[Part]:
    """A message in so many frames."""
    last = len(pieces) - 1
    return [
        Part(opcode if at == 0 else CONT, piece, fin=at == last) for at, piece in enumerate(pieces)
    ]


def closing(code: int, reason: bytes = b"") -> Part:
    return Part(CLOSE, code.to_bytes(2, "big") + reason)


HELLO = Part(TEXT, b"hello")
SIZES = [0, 1, 125, 126, 127, 128, 65_535, 65_536]
FRAMING = [
    case
    for at, size in enumerate(SIZES, 1)
    for case in (
        Case(f"1.1.{at}", [Part(TEXT, b"*" * size)], ["*" * size]),
        Case(f"1.2.{at}", [Part(BINARY, b"\xfe" * size)], [b"\xfe" * size]),
    )
]
PINGS = [
    Case("2.1", [Part(PING)], [], pongs=(b"",)),
    Case("2.2", [Part(PING, b"ping")], [], pongs=(b"ping",)),
    Case("2.3", [Part(PING, b"\x00\xff\xfe")], [], pongs=(b"\x00\xff\xfe",)),
    Case("2.4", [Part(PING, b"\xfe" * 125)], [], pongs=(b"\xfe" * 125,)),
    Case("2.5", [Part(PING, b"\xfe" * 126)], [], 1002),
    Case("2.7", [Part(PONG)], []),
    Case("2.8", [Part(PONG, b"unasked")], []),
    Case("2.9", [Part(PONG, b"unasked"), Part(PING, b"p"), HELLO], ["hello"], pongs=(b"p",)),
    Case(
        "2.10",
        [Part(PING, b"%d" % n) for n in range(10)],
        [],
        pongs=tuple(b"%d" % n for n in range(10)),
    ),
]
RESERVED = [
    Case(f"3.{bits}", [HELLO, Part(TEXT, b"bits", reserved=bits), HELLO], ["hello"], 1002)
    for bits in range(1, 8)
]
OPCODES = [
    Case(f"4.{1 + opcode // 11}.{opcode}", [HELLO, Part(opcode, b"x"), HELLO], ["hello"], 1002)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
]
FRAGMENTS = [
    Case("5.1", [Part(PING, b"p", fin=False)], [], 1002),
    Case("5.2", [Part(PONG, b"p", fin=False)], [], 1002),
    Case("5.3", fragments(TEXT, b"frag", b"ment"), ["fragment"]),
    Case(
        "5.6", [Part(TEXT, b"a", fin=False), Part(PING, b"p"), Part(CONT, b"b")], ["ab"], 0, (b"p",)
    ),
    Case("5.9", [Part(CONT, b"of nothing"), HELLO], [], 1002),
    Case("5.12", [Part(CONT, b"of nothing", fin=False), HELLO], [], 1002),
    Case("5.15", [*fragments(TEXT, b"a", b"b"), Part(CONT, b"c"), HELLO], ["ab"], 1002),
    Case("5.18", [Part(TEXT, b"a", fin=False), Part(TEXT, b"b")], [], 1002),
    Case("5.19", [*fragments(TEXT, b"a", b"b", b"", b"c", b"d")], ["abcd"]),
]
GOOD_TEXTS = [
    "Hello-µ@ßöäüàá-UTF-8!!",
    "κόσμε",
    "\x00",
    "\x7f\x80\u07ff\u0800\ud7ff\ue000\ufffd\uffff",
    "\U00010000\U0010ffff",
    "\ufffe\U0001fffe\U0010fffe",
    "",
]
BAD_TEXTS = [
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    b"\x80",
    b"\xbf\x80",
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
    b"\xc0\x80",
    b"\xf4\x90\x80\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xfe",
    b"\xff\xff",
    b"cut \xe2\x82",
]
UTF8 = [
    *(Case(f"6.2.{at}", [Part(TEXT, text.encode())], [text]) for at, text in enumerate(GOOD_TEXTS)),
    *(
        Case(f"6.2.{at}f", fragments(TEXT, *(bytes([b]) for b in text.encode())), [text])
        for at, text in enumerate(GOOD_TEXTS)
        if text
    ),
    *(Case(f"6.3.{at}", [Part(TEXT, text), HELLO], [], 1007) for at, text in enumerate(BAD_TEXTS)),
    *(
        Case(f"6.3.{at}f", [*fragments(TEXT, *(bytes([b]) for b in text)), HELLO], [], 1007)
        for at, text in enumerate(BAD_TEXTS)
        if len(text) > 1
    ),
]
GOOD_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000]
BAD_CODES = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]
CLOSES = [
    Case("7.1.1", [HELLO, closing(1000), HELLO], ["hello"], 1000),
    Case("7.1.2", [closing(1000), closing(1000)], [], 1000),
    Case("7.1.3", [closing(1000), Part(PING, b"late")], [], 1000),
    Case("7.1.5", [Part(TEXT, b"half", fin=False), closing(1000), Part(CONT)], [], 1000),
    Case("7.3.1", [Part(CLOSE)], [], 1005),
    Case("7.3.2", [Part(CLOSE, b"\x03")], [], 1002),
    Case("7.3.4", [closing(1000, b"bye")], [], 1000),
    Case("7.3.5", [closing(1000, b"*" * 123)], [], 1000),
    Case("7.3.6", [closing(1000, b"*" * 124)], [], 1002),
    Case("7.5.1", [closing(1000, b"\xce\xba\xed\xa0\x80")], [], 1007),
    *(Case(f"7.7.{code}", [closing(code)], [], code) for code in GOOD_CODES),
    *(Case(f"7.9.{code}", [closing(code)], [], 1002) for code in BAD_CODES),
]
LIMITS = [
    Case("9.1", [Part(TEXT, b"*" * MAX)], ["*" * MAX]),
    Case("9.2", [Part(BINARY, b"\xfe" * MAX)], [b"\xfe" * MAX]),
    Case("9.3", fragments(TEXT, *[b"*" * 4_096] * (MAX // 4_096)), ["*" * MAX]),
    Case("9.4", fragments(BINARY, *[b"\xfe" * 65_536] * (MAX // 65_536)), [b"\xfe" * MAX]),
    Case("9.9", [HELLO, Part(BINARY, bytes(MAX + 1)), HELLO], ["hello"], 1009),
    Case("9.10", fragments(BINARY, bytes(MAX), b"x"), [], 1009),
]
AUTO = [Case("10.1", fragments(TEXT, *[b"*" * 1_300] * 50, b"*" * 536), ["*" * 65_536])]
CASES = [*FRAMING, *PINGS, *RESERVED, *OPCODES, *FRAGMENTS, *UTF8, *CLOSES, *LIMITS, *AUTO]


def run(case: Case, as_server: bool, step: int) -> None:
    wire = Wire(as_server=as_server, max_size=MAX)
    data = b"".join(part.serialize(as_server) for part in case.parts)
    for at in range(0, len(data), step):
        wire.arrive(data[at : at + step])
        wire.settle()
    assert wire.messages == case.messages
    answers = wire.answers()
    pongs = tuple(bytes(one.data) for one in answers if one.opcode is Opcode.PONG)
    assert pongs == case.pongs
    assert len(wire.ends) == bool(case.code)
    assert wire.connection.close_code == case.code
    closes = [Close.parse(answer.data) for answer in answers if answer.opcode is Opcode.CLOSE]
    assert [close.code for close in closes] == ([case.code] if case.code else [])
    wire.connection.connection_lost(None)
    wire.settle()
    assert len(wire.ends) == 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.number)
@pytest.mark.parametrize("as_server", [False, True], ids=["dialled", "caller"])
async def test_every_case_ends_as_the_rfc_says(case: Case, as_server: bool) -> None:
    run(case, as_server, step=1 << 16)
    if sum(len(part.data) for part in case.parts) < 2_000:
        run(case, as_server, step=1)


async def test_who_does_not_mask_as_it_must_is_not_heard() -> None:
    for as_server in (False, True):
        wire = Wire(as_server=as_server)
        wire.arrive(HELLO.serialize(not as_server))
        wire.arrive(Part(BINARY, bytes(300)).serialize(not as_server))
        wire.settle()
        assert (wire.messages, wire.connection.close_code) == ([], 1002)
