"""Handlers of a session's events: how many run at once, and what is never left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.sdk.events import MAX_RUNNING, Events

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_the_end_is_told_however_many_messages_came_before_it() -> None:
    events = Events("s_1")
    heard: list[object] = []
    keep: Callable[[object], None] = heard.append
    for event in ("message", "closed"):
        events.add(event, keep)
    for number in range(MAX_RUNNING + 10):
        events.fire("message", number)
    events.fire("closed", "gone")
    await events.settle(1.0)
    assert heard == [*range(MAX_RUNNING), "gone"]
    assert events.dropped == 10
