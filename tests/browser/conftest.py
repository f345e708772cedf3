"""What tests with Pipecat's JavaScript client share: its bundle, and a namespace to call in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.browser import chromium, loopback_namespace
from tests.fakes.pipecat_page import bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with the client, made once."""
    return bundle(tmp_path_factory.mktemp("pipecat-page"))


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network of the test's own that has loopback and nothing else."""
    chromium()
    with loopback_namespace() as name:
        yield name
