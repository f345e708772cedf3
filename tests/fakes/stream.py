"""A stream of 20 ms packets on its way to a reorder, and who writes down what is heard."""

from __future__ import annotations

from ipc.clock import NS_PER_MS
from workers.audio.reorder import NO_SOUND, Reorder

BEGIN_NS = 5_000_000_007
FRAME = 960
KIND = 111


class Listener:
    """What was written, as ("play", number), ("recover", number), ("conceal", ms), ("fill", ms)."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []
        self.redundant: set[int] = set()
        self.broken: set[int] = set()
        self.no_sound: set[int] = set()

    def decode(self, kind: int, data: int | bytes, length: int) -> int:
        assert kind == KIND
        assert isinstance(data, bytes)
        assert len(data) == length
        number = int.from_bytes(data, "big")
        if number in self.broken:
            return 0
        if number in self.no_sound:
            return NO_SOUND
        self.heard.append(("play", number))
        return FRAME

    def recover(self, kind: int, data: int | bytes, length: int, ticks: int) -> bool:
        assert isinstance(data, bytes)
        assert ticks == FRAME
        number = int.from_bytes(data, "big")
        if number not in self.redundant:
            return False
        self.heard.append(("recover", number - 1))
        return True

    def conceal(self, ticks: int) -> None:
        self.heard.append(("conceal", ticks // 48))

    def fill(self, ticks: int) -> None:
        self.heard.append(("fill", ticks // 48))

    def ms(self) -> int:
        """How long all of it lasts."""
        return sum(20 if what in ("play", "recover") else value for what, value in self.heard)


class Line:
    """A stream of 20 ms packets; packet n has the number n and leaves at n * 20 ms."""

    def __init__(self, first_sequence: int = 100, first_timestamp: int = 7) -> None:
        self.listener = Listener()
        self.now_ns = BEGIN_NS
        self.reorder = Reorder(self.listener, 48_000, BEGIN_NS)
        self._sequence, self._timestamp = first_sequence, first_timestamp

    @property
    def heard(self) -> list[tuple[str, int]]:
        return self.listener.heard

    def at(self, ms: float) -> Line:
        """Let time pass until so many ms after the beginning, with a tick each 2 ms."""
        until = BEGIN_NS + round(ms * NS_PER_MS)
        while self.now_ns < until:
            self.now_ns = min(until, self.now_ns + 2 * NS_PER_MS)
            self.reorder.tick(self.now_ns)
        return self

    def arrive(self, *numbers: int, step_ms: int = 0) -> None:
        """Packets come now; `step_ms` of time passed at the sender without packets before them."""
        for number in numbers:
            data = number.to_bytes(4, "big")
            self.reorder.arrive(
                (self._sequence + number) & 0xFFFF,
                (self._timestamp + number * FRAME + step_ms * 48) & 0xFFFFFFFF,
                KIND,
                data,
                len(data),
                self.now_ns,
            )

    def spare(self, number: int) -> None:
        """A redundant copy of a packet comes now."""
        self.reorder.spare(
            (self._sequence + number) & 0xFFFF,
            (self._timestamp + number * FRAME) & 0xFFFFFFFF,
            KIND,
            number.to_bytes(4, "big"),
            self.now_ns,
        )


def plays(*numbers: int) -> list[tuple[str, int]]:
    return [("play", number) for number in numbers]
