from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from litefs.live import LiveDatabase


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the copy is."""
    return tmp_path / "copy.db"


@pytest.fixture
def live(path: Path) -> Iterator[LiveDatabase]:
    database = LiveDatabase(str(path))
    yield database
    database.close()
