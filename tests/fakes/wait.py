"""`tests.support.until` for conditions that must be awaited, such as the answer to a request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.support import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LOOK_S = 0.02


async def eventually(
    condition: Callable[[], Awaitable[object]], what: str, timeout_s: float = DEADLINE_S
) -> None:
    """Return when the awaited condition is true. AssertionError after the deadline."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not await condition():
        if loop.time() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        look = loop.create_future()
        loop.call_later(LOOK_S, look.set_result, None)
        await look
