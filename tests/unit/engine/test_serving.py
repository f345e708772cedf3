"""What `serve` tells of its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import serving
from engine.config import Settings, load

if TYPE_CHECKING:
    import pytest


def test_only_the_settings_that_were_given_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert serving._telling(load({})) == {}
    monkeypatch.setenv("BACKBEAT_BOT_TOKEN", "a very secret token")
    told = serving._telling(load({"port": 7860, "mic_ms": 2000, "bots": None}))
    assert told == {"port": "7860", "bot_token": "**********", "mic_ms": "2000"}


def test_who_looks_for_a_fault_is_told_every_setting() -> None:
    told = serving._telling(load({"log_level": "debug"}))
    assert set(told) == set(Settings.model_fields)
