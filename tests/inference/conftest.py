"""Fixtures of the volume side."""

from pathlib import Path

import pytest
from ct_series import SeriesMaker


@pytest.fixture
def make_ct(tmp_path: Path) -> SeriesMaker:
    """Return a function that writes a small axial series into this test's folder."""
    return SeriesMaker(tmp_path)
