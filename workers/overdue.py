"""Streams whose packets do not come: asked for in the slots, but no oftener than one can be due.

A look at each of many callers in each slot would cost more than what it finds, because nothing of
them is in the core's caches then. Whoever waits now waits until its `due_ns`, and whoever begins
to wait after this look waits for at least `reorder.WAIT_MIN_NS`: so the next look can be that late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from workers.audio.reorder import WAIT_MIN_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workers.webrtc.receiver import Receiver


class Arriving(Protocol):
    """A session, as far as it is looked at here."""

    @property
    def arriving(self) -> Receiver | None:
        """Where packets come; None: nowhere."""
        ...


class Overdue:
    """Ticks the receivers that have waited long enough. Hot path."""

    def __init__(self, on_fault: Callable[[Arriving], None]) -> None:
        """`on_fault` hears, in the handler of the exception, of a session that failed."""
        self._on_fault = on_fault
        self._look_ns = 0

    def tick(self, sessions: Mapping[str, Arriving], now_ns: int) -> None:
        """Conceal or fill what is due in any of them."""
        if now_ns < self._look_ns:
            return
        look_ns = now_ns + WAIT_MIN_NS
        due = []
        for session in sessions.values():
            arriving = session.arriving
            if arriving is not None:
                due_ns = arriving.reorder.due_ns
                if due_ns <= now_ns:
                    due.append((session, arriving))
                elif due_ns < look_ns:
                    look_ns = due_ns
        for session, arriving in due:
            try:
                arriving.tick(now_ns)
            except Exception:
                self._on_fault(session)
            else:
                look_ns = min(look_ns, arriving.reorder.due_ns)
        self._look_ns = look_ns
