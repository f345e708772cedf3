"""Tests with a real Pipecat: they run in an environment of their own, see `scripts/test --all`."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

collect_ignore_glob = [] if importlib.util.find_spec("pipecat") else ["test_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    """Pipecat's WebSocket client names classes that its `websockets` has long deprecated."""
    config.addinivalue_line("filterwarnings", r"ignore:websockets\..* is deprecated")
