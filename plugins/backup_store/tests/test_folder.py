"""The vault in a folder, as a backup."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from litefs_backup_store.client import VaultClient
from litefs_backup_store.folder import FolderObjects
from litefs_backup_store.vault import Vault

from litefs.testing import BackupConformance


class TestConformance(BackupConformance):
    fences = True
    long_history = 130  # more than are merged at once

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "backup"

    async def client(self) -> VaultClient:
        return VaultClient(Vault(FolderObjects(self.folder)))

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        away = self.folder.with_name("away")
        self.folder.rename(away)
        self.folder.write_text("not a folder")
        yield
        self.folder.unlink()
        away.rename(self.folder)
