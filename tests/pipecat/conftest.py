"""Tests with a real Pipecat: they run in an environment of their own, see `scripts/test --all`."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("pipecat") else ["test_*.py"]
