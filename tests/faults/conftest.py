"""What the tests of whole nodes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tiny_node import StoringPacs, tiny_thorax

from phantom import Thorax


@pytest.fixture(scope="session")
def thorax() -> Thorax:
    return tiny_thorax()


@pytest.fixture
def pacs() -> Iterator[StoringPacs]:
    """Return one that does not listen yet; it ends with the test."""
    running = StoringPacs()
    yield running
    running.stop()
