"""A session that the pacer drives, and that writes down what it is told."""

from __future__ import annotations

from typing import Any

from workers.pacer import FRAME_NS, Paced, Pacer

BEGIN_NS = 1_000_000_000_007


class Fake:
    """A session that writes down what it is told."""

    def __init__(self, log: list[tuple[str, Fake]] | None = None, fails_at: str = "") -> None:
        self.log = log if log is not None else []
        self.fails_at = fails_at
        self.calls: list[str] = []
        self.sent_ns: list[int] = []
        self.missed = 0
        self.settled_ns: list[int] = []

    def send(self, now_ns: int) -> None:
        self.sent_ns.append(now_ns)
        self._told("send")

    def settle(self, now_ns: int) -> None:
        self.settled_ns.append(now_ns)
        self.log.append(("settle", self))
        if self.fails_at == "settle":
            self._told("settle")

    def encode(self) -> None:
        self._told("encode")

    def miss(self, frames: int) -> None:
        assert frames > 0
        self.missed += frames
        self._told("miss")

    def _told(self, what: str) -> None:
        self.calls.append(what)
        self.log.append((what, self))
        if what == self.fails_at:
            raise RuntimeError(what)


def unexpected(_paced: Paced) -> None:
    raise AssertionError("no session was to fail")


def pacer_with(
    *sessions: Fake,
    slots: int = 4,
    stride: int = 1,
    on_fault: Any = unexpected,
    now_ns: int = BEGIN_NS,
) -> Pacer:
    pacer = Pacer(now_ns, slots=slots, stride=stride, on_fault=on_fault)
    for session in sessions:
        pacer.add(session)
    return pacer


def run_for(pacer: Pacer, frames: int) -> None:
    """Every slot of so many frames, each exactly when it is due."""
    end_ns = pacer.due_ns + frames * FRAME_NS
    while pacer.due_ns < end_ns:
        pacer.run(pacer.due_ns)
