"""When a bot heard that a caller was gone: written by the bot, read by the bench."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def note(directory: Path, caller: int) -> None:
    """The bot is told now."""
    line = json.dumps({"caller": caller, "ns": time.monotonic_ns()})
    with (directory / f"departures-{os.getpid()}.jsonl").open("a") as file:
        file.write(line + "\n")


def read(directory: Path, after_ns: int) -> dict[int, int]:
    """By caller: when (CLOCK_MONOTONIC, ns) the bot was first told, from `after_ns` on."""
    found: dict[int, int] = {}
    for path in sorted(directory.glob("departures-*.jsonl")):
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n") and (told := json.loads(line))["ns"] >= after_ns:
                found.setdefault(told["caller"], told["ns"])
    return found
