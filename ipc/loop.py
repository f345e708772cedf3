"""The event loop that our processes run on: uvloop where it exists."""

from __future__ import annotations

import asyncio


def new_runner() -> asyncio.Runner:
    """A runner with a fresh event loop."""
    try:
        import uvloop  # not on every platform
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)
