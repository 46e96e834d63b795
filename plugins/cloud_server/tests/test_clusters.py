"""Whose a backup is."""

from __future__ import annotations

from pathlib import Path

import pytest
from litefs_backup_store.caretaker import Caretaker
from litefs_backup_store.folder import FolderObjects
from litefs_backup_store.levels import Levels
from litefs_backup_store.vault import Vault
from litefs_cloud_server.clusters import SILENT, Cluster, OtherCluster

ONE, TWO = "LFSC0000000000000001", "LFSC0000000000000002"


def test_a_cluster_made_anew_gets_the_backup_of_one_that_is_silent(tmp_path: Path) -> None:
    time = [0.0]

    def opened() -> Cluster:
        vault = Vault(FolderObjects(tmp_path))
        return Cluster(vault, Caretaker(vault, Levels()), now=lambda: time[0])

    cluster = opened()
    cluster.check_id("")
    cluster.check_id(ONE)
    time[0] += SILENT - 1
    cluster.check_id(ONE)
    time[0] += SILENT - 1
    with pytest.raises(OtherCluster, match=f'expecting "{ONE}"'):
        cluster.check_id(TWO)
    cluster = opened()  # started anew, the server does not know when it was heard last
    with pytest.raises(OtherCluster):
        cluster.check_id(TWO)
    time[0] += SILENT + 1
    cluster.check_id(TWO)
    assert opened().cluster_id == TWO
    with pytest.raises(OtherCluster):
        cluster.check_id(ONE)
