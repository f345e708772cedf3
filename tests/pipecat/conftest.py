"""Tests with a real Pipecat: they run in an environment of their own, see `scripts/test --all`."""

from __future__ import annotations

import pytest

pytest.importorskip("pipecat", reason="Pipecat is not installed here")
