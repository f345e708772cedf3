"""What a WebSocket must bear, case by case, in the categories of the Autobahn test suite.

Each case says bytes and what comes back of an end that echoes every message: these frames, then a
close with this code. The numbers before the dot are Autobahn's categories, those behind it ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from tests.fakes.websocket_raw import BINARY, CLOSE, CONT, PING, PONG, TEXT, Got, RawPeer

Step = Callable[[RawPeer], bytes]
NORMAL, WRONG, NO_CODE, NOT_UTF8, TOO_LARGE = 1000, 1002, 1005, 1007, 1009
# Of the ends that are put to the test.
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`steps` are sent, in pieces of `pieces_of` bytes (0: each as a whole).

    When the answers are there a close is sent, unless the steps have it (`says_close=False`) or the
    other side closes, for another reason than NORMAL. What stands before such an end in the same
    breath may be answered or not. `no_close`: no more is sent, and it just ends.
    """

    name: str
    steps: tuple[Step, ...]
    answers: tuple[Got, ...] = ()
    code: int = NORMAL
    pieces_of: int = 0
    says_close: bool = True
    no_close: bool = False
    # The bytes of the close that is the answer, where they matter.
    close: bytes | None = None


def a(opcode: int, data: bytes = b"", *, fin: bool = True, rsv: int = 0) -> Step:
    """A frame of the peer's."""
    return lambda peer: peer.frame(opcode, data, fin=fin, rsv=rsv)


def together(*steps: Step) -> Step:
    """Frames in one write."""
    return lambda peer: b"".join(step(peer) for step in steps)


def part(step: Step, end: int) -> Step:
    """The beginning of these bytes."""
    return lambda peer: step(peer)[:end]


def code(number: int, reason: bytes = b"") -> bytes:
    """What a close frame carries."""
    return number.to_bytes(2) + reason


def fragments(opcode: int, parts: list[bytes]) -> tuple[Step, ...]:
    """One message in so many frames."""
    last = len(parts) - 1
    return tuple(a(CONT if at else opcode, part, fin=at == last) for at, part in enumerate(parts))


def split(data: bytes, size: int = 1) -> list[bytes]:
    """The data in parts of so many bytes."""
    return [data[at : at + size] for at in range(0, len(data), size)] or [b""]


def framing() -> list[Case]:
    """1: messages of every kind of length, whole and in pieces."""
    found = []
    sizes = [(size, 0) for size in (0, 1, 125, 126, 127, 128, 1_000, 65_535, 65_536, 200_000)]
    sizes += [(10, 1), (126, 1), (300, 7), (65_536, 997), (65_536, 4_096)]
    for opcode, (size, pieces_of) in itertools.product((TEXT, BINARY), sizes):
        data = b"*" * size if opcode == TEXT else bytes(at % 251 for at in range(size))
        name = f"1.{opcode}.{size}.{pieces_of}"
        found.append(
            Case(
                name=name,
                steps=(a(opcode, data),),
                answers=(Got(opcode, data),),
                pieces_of=pieces_of,
            )
        )
    return found


def pings() -> list[Case]:
    """2: pings are answered with what they carry, pongs not at all."""
    found = []
    for size, pieces_of in itertools.product((0, 5, 125), (0, 1, 3)):
        data = bytes(range(size))
        name = f"2.1.{size}.{pieces_of}"
        ping = Case(
            name=name, steps=(a(PING, data),), answers=(Got(PONG, data),), pieces_of=pieces_of
        )
        found.append(ping)
        pong = (a(PONG, data), a(PING, b"!"))
        name = f"2.2.{size}.{pieces_of}"
        found.append(Case(name=name, steps=pong, answers=(Got(PONG, b"!"),), pieces_of=pieces_of))
    ten = [b"%d" % number for number in range(10)]
    many = tuple(a(PING, data) for data in ten)
    answers = tuple(Got(PONG, data) for data in ten)
    found += [
        Case(name="2.3", steps=many, answers=answers),
        Case(name="2.4", steps=(together(*many),), answers=answers),
        Case(name="2.5", steps=many, answers=answers, pieces_of=1),
        Case(name="2.6", steps=(a(PING, bytes(126)),), code=WRONG),
        Case(name="2.7", steps=(a(PONG, bytes(126)),), code=WRONG),
    ]
    return found


def reserved_bits() -> list[Case]:
    """3: bits that nobody has agreed upon end the connection."""
    found = []
    for rsv, opcode in itertools.product(range(1, 8), (TEXT, BINARY, PING, CLOSE)):
        wrong = a(opcode, b"", rsv=rsv)
        before = (a(TEXT, b"x"), wrong)
        answers = (Got(TEXT, b"x"),)
        found += [
            Case(name=f"3.{rsv}.{opcode}", steps=(wrong,), code=WRONG),
            Case(name=f"3.{rsv}.{opcode}.behind", steps=before, answers=answers, code=WRONG),
        ]
        if opcode in (TEXT, BINARY):
            large = (a(opcode, bytes(300), rsv=rsv),)
            found.append(Case(name=f"3.{rsv}.{opcode}.large", steps=large, code=WRONG))
    return found


def opcodes() -> list[Case]:
    """4: opcodes that mean nothing, and masks that are none, end the connection."""
    found = []
    for opcode in (*range(3, 8), *range(11, 16)):
        whole = together(a(TEXT, b"x"), a(opcode, b"y"), a(PING))
        found += [
            Case(name=f"4.{opcode}.empty", steps=(a(opcode),), code=WRONG),
            Case(name=f"4.{opcode}.full", steps=(a(opcode, b"reserved"),), code=WRONG),
            Case(name=f"4.{opcode}.large", steps=(a(opcode, bytes(300)),), code=WRONG),
            Case(
                name=f"4.{opcode}.behind",
                steps=(whole,),
                answers=(Got(TEXT, b"x"), Got(PONG, b"")),
                code=WRONG,
            ),
        ]
    for opcode in (TEXT, BINARY, PING, CLOSE):
        for size in (0, 100, 300)[: 2 if opcode > CLOSE - 1 else 3]:
            # A client masks and a server does not, section 5.1.
            name = f"4.mask.{opcode}.{size}"
            found.append(Case(name=name, steps=(_unlike(opcode, bytes(size)),), code=WRONG))
    return found


def _unlike(opcode: int, data: bytes) -> Step:
    return lambda peer: peer.frame(opcode, data, masked=not peer.masks)


def fragmentation() -> list[Case]:
    """5: messages in frames, with pings between them, and all ways to get that wrong."""
    found = []
    pong = Got(PONG, b"p")
    for opcode, pieces_of in itertools.product((TEXT, BINARY), (0, 1)):
        whole = (Got(opcode, b"onetwo"),)
        two, large = fragments(opcode, [b"one", b"two"]), bytes(300)
        five = fragments(opcode, [b"on", b"", b"et", b"", b"wo"])
        between = tuple(step for each in five for step in (a(PING, b"p"), each))
        for name, steps, answers in (
            ("two", two, whole),
            ("together", (together(*two),), whole),
            ("ping", (two[0], a(PING, b"p"), two[1]), (pong, *whole)),
            ("pong", (two[0], a(PONG, b"p"), two[1]), whole),
            ("pings", between, (pong,) * 5 + whole),
            ("empty", fragments(opcode, [b"", b"", b""]), (Got(opcode, b""),)),
            ("ones", fragments(opcode, split(b"onetwo")), whole),
            ("large", fragments(opcode, [large, large, large]), (Got(opcode, large * 3),)),
            ("twice", two + two, whole + whole),
        ):
            found.append(
                Case(
                    name=f"5.{opcode}.{name}.{pieces_of}",
                    steps=steps,
                    answers=answers,
                    pieces_of=pieces_of,
                )
            )
        begun, end = a(opcode, b"one", fin=False), a(CONT, b"two")
        stray = a(CONT, b"stray", fin=False)
        for name, wrong, before in (
            ("no_begin", (end,), ()),
            ("no_begin_no_end", (stray, end), ()),
            ("second_begin", (begun, a(opcode, b"new")), ()),
            ("second_large", (begun, a(opcode, bytes(300))), ()),
            ("second_fragmented", (begun, a(opcode, b"new", fin=False)), ()),
            ("stray_behind", (begun, end, stray), whole),
            ("ping_in_fragments", (a(PING, b"p", fin=False), a(CONT, b"q")), ()),
            ("pong_in_fragments", (a(PONG, b"p", fin=False),), ()),
            ("close_in_fragments", (a(CLOSE, code(NORMAL), fin=False),), ()),
        ):
            found.append(
                Case(
                    name=f"5.{opcode}.{name}.{pieces_of}",
                    steps=wrong,
                    answers=before,
                    code=WRONG,
                    pieces_of=pieces_of,
                )
            )
    return found


def goodbye(
    name: str, *steps: Step, answers: tuple[Got, ...] = (), close: bytes | None = None
) -> Case:
    """A case whose steps have the close, in which `close` is to be the answer."""
    return Case(name=name, steps=steps, answers=answers, says_close=False, close=close)


def close_handling() -> list[Case]:
    """7: every way to say goodbye, and what is none."""
    end, word = a(CLOSE, code(NORMAL)), (Got(TEXT, b"word"),)
    found = [
        goodbye("7.1.message", a(TEXT, b"word"), end, answers=word),
        goodbye("7.1.twice", end, end),
        goodbye("7.1.ping", together(end, a(PING))),
        goodbye("7.1.text", together(end, a(TEXT, b"late"))),
        goodbye("7.1.unfinished", a(TEXT, b"be", fin=False), end),
        goodbye("7.2.none", a(CLOSE), close=b""),
        Case(name="7.2.one_byte", steps=(a(CLOSE, b"\x03"),), code=WRONG),
        Case(name="7.2.too_long", steps=(a(CLOSE, code(NORMAL, bytes(124))),), code=WRONG),
        Case(name="7.2.not_utf8", steps=(a(CLOSE, code(NORMAL, b"\xce\xba\xff")),), code=NOT_UTF8),
        Case(name="7.3.vanish", steps=(a(TEXT, b"word"),), answers=word, no_close=True),
        Case(name="7.3.in_frame", steps=(part(a(TEXT, b"word"), -1),), no_close=True),
        Case(name="7.3.in_head", steps=(part(a(TEXT, bytes(999)), 3),), no_close=True),
        Case(name="7.3.at_once", steps=(), no_close=True),
    ]
    for reason in (b"", b"bye", "привет".encode(), b"r" * 123):
        data = code(NORMAL, reason)
        found.append(goodbye(f"7.4.{len(reason)}", a(CLOSE, data), close=data))
    for number in (*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999):
        data = code(number, b"why")
        found.append(goodbye(f"7.7.{number}", a(CLOSE, data), close=data))
    return found + [
        Case(name=f"7.9.{number}", steps=(a(CLOSE, code(number)),), code=WRONG)
        for number in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    ]


def limits() -> list[Case]:
    """9: messages up to the bound come back, those beyond it end the connection unread."""
    found = []
    most = b"m" * MAX_BYTES
    for opcode in (TEXT, BINARY):
        for size in (1 << 16, 1 << 18, MAX_BYTES):
            data = most[:size]
            answers = (Got(opcode, data),)
            parts = fragments(opcode, split(data, size // 16))
            found += [
                Case(name=f"9.1.{opcode}.{size}", steps=(a(opcode, data),), answers=answers),
                Case(name=f"9.2.{opcode}.{size}", steps=parts, answers=answers),
            ]
        beyond = fragments(opcode, [most, b"", b"1"])
        found += [
            Case(name=f"9.3.{opcode}", steps=(a(opcode, most + b"1"),), code=TOO_LARGE),
            Case(name=f"9.4.{opcode}", steps=beyond, code=TOO_LARGE),
        ]
        for size in (MAX_BYTES + 1, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
            announced = _announced(opcode, size)
            found.append(Case(name=f"9.5.{opcode}.{size}", steps=(announced,), code=TOO_LARGE))
        small = tuple(a(opcode, b"%d" % number) for number in range(200))
        each = tuple(Got(opcode, b"%d" % number) for number in range(200))
        found += [
            Case(name=f"9.7.{opcode}", steps=small, answers=each),
            Case(name=f"9.8.{opcode}", steps=(together(*small),), answers=each),
        ]
    return found


def _announced(opcode: int, size: int) -> Step:
    return lambda peer: peer.frame(opcode, b"", size=size)


def fragmented_by_others() -> list[Case]:
    """10: a large message that comes in as many frames as its sender's buffers are small."""
    data = bytes(at % 128 for at in range(65_536))
    return [
        Case(
            name=f"10.{opcode}.{size}.{pieces_of}",
            steps=(together(*fragments(opcode, split(data, size))),),
            answers=(Got(opcode, data),),
            pieces_of=pieces_of,
        )
        for opcode, size, pieces_of in itertools.product(
            (TEXT, BINARY), (1_300, 4_096, 32_768), (0, 1_448)
        )
    ]
