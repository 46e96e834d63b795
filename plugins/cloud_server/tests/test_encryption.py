"""A key in the server's environment: clusters' backups are encrypted, tokens stay readable."""

from __future__ import annotations

from pathlib import Path

import pytest
from litefs_backup_store.keys import KEY_VARIABLE
from litefs_backup_store.levels import Levels
from litefs_backup_store.sealing import WrongKey, is_sealed
from litefs_cloud_server.clusters import Clusters
from litefs_cloud_server.command import place
from litefs_cloud_server.tokens import Tokens


def clusters(folder: Path) -> Clusters:
    return Clusters(lambda name: place(str(folder), "clusters", name), Levels())


def test_a_key_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "ab" * 32)
    token = Tokens(place(str(tmp_path))).create("one", read_only=False)
    served = clusters(tmp_path)
    served.get("one").check_id("LFSC1")
    served.close()
    stored = [path for path in (tmp_path / "clusters").rglob("*") if path.is_file() and path.name != ".lock"]
    assert stored
    assert all(is_sealed(path.read_bytes()) for path in stored)
    monkeypatch.delenv(KEY_VARIABLE)
    assert Tokens(place(str(tmp_path))).find(token) is not None
    with pytest.raises(WrongKey):
        clusters(tmp_path).get("one")
