from __future__ import annotations

from pathlib import Path

import pytest
from linear_models import ModelFolder


@pytest.fixture
def folder_of_models(tmp_path: Path) -> ModelFolder:
    return ModelFolder(path=tmp_path)
