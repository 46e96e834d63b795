"""Everything that litefs relies on, and what is special about this backup."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import litefs_backup_sample as plugin
import pytest
from litefs_backup_sample.client import SampleClient
from litefs_backup_sample.shelf import Shelf

from litefs.backup import BackupService
from litefs.errors import ConfigError
from litefs.testing import BackupConformance, backup_config, node_info


class TestConformance(BackupConformance):
    long_history = 20

    @pytest.fixture(autouse=True)
    def _backend(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "shelf"

    async def client(self) -> SampleClient:
        return SampleClient(Shelf(str(self.folder)))

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        away = shutil.move(self.folder, self.folder.with_name("away"))
        self.folder.touch()  # no folder can be made there
        yield
        self.folder.unlink()
        shutil.move(away, self.folder)


def test_settings() -> None:
    config = backup_config(plugin, {"type": "sample", "sample": {"path": "/shelf"}})
    assert isinstance(plugin.make(config, node_info()), BackupService)
    with pytest.raises(ConfigError, match=r"backup\.sample"):
        backup_config(plugin, {"type": "sample", "sample": {}})
