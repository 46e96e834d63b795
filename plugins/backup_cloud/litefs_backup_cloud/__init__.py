"""Backups as LiteFS makes them: to a server that speaks LiteFS Cloud's protocol, or to a directory of LTX files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from litefs.errors import ConfigError
from litefs.extensions import BackupSpec
from litefs.hookspecs import hookimpl
from litefs_backup_cloud.settings import cloud_settings, names_a_server

if TYPE_CHECKING:
    from litefs.backup import BackupService
    from litefs.config import BackupConfig
    from litefs.leases import NodeInfo

# What talks to servers and databases is imported when a backup is made, not at every start.


def make_cloud(config: BackupConfig, node: NodeInfo) -> BackupService:
    """The service for ``backup.type: litefs-cloud``. Raises ConfigError without a server, or for a bad URL."""
    from litefs.backup import BackupService

    settings = cloud_settings(config, os.environ)

    def make_client(store: Any) -> Any:
        from litefs_backup_cloud.client import CloudClient

        return CloudClient(settings, lambda: store.cluster_id)

    return BackupService(make_client, on_mismatch=config.on_mismatch)


def make_file(config: BackupConfig, node: NodeInfo) -> BackupService:
    """The service for ``backup.type: file``. Raises ConfigError without a path."""
    from litefs.backup import BackupService

    if not config.path:
        raise ConfigError("backup.path is required", "it is the directory where LTX files are kept")

    def make_client(store: Any) -> Any:
        from litefs_backup_cloud.files import FileClient

        return FileClient(config.path)

    return BackupService(make_client, on_mismatch=config.on_mismatch)


def implied(section: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    """As in LiteFS the token alone turns the backup on, if there is a server: LiteFS's own is gone."""
    return bool(environment.get("LITEFS_CLOUD_TOKEN", "").strip()) and names_a_server(section["url"], environment)


@hookimpl
def litefs_backups() -> Sequence[BackupSpec]:
    return [BackupSpec("litefs-cloud", make_cloud, implied=implied), BackupSpec("file", make_file)]
