"""Handlers of a session's events: how many run at once, and what is never left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.sdk.events import MAX_RUNNING, Events
from ipc.errors import ConfigError, SessionClosed

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


@pytest.mark.parametrize(
    ("error", "levels"), [(SessionClosed("it ended"), []), (ConfigError("wrong"), ["ERROR"])]
)
async def test_a_handler_that_the_end_overtakes_has_not_failed(
    error: Exception, levels: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(_message: object) -> None:
        raise error

    events = Events("s_1")
    events.add("message", answer)
    events.fire("message", "hello")
    await events.settle(1.0)
    assert [record.levelname for record in caplog.records] == levels
