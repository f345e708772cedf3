"""How a fault in somebody's code is written to the log: what, and the file and line of it."""

from __future__ import annotations

import traceback


def place(error: BaseException) -> str:
    """`file:line` where `error` was raised, or nothing if it never was."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def describe(error: BaseException) -> str:
    """One line: kind, message, and where."""
    where = place(error)
    return f"{type(error).__name__}: {error}" + (f" ({where})" if where else "")
