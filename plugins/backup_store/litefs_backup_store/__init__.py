"""Backups with point-in-time restore, in a folder; and the storage layer for other places (`litefs-backup-s3`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from litefs.extensions import BackupSpec, CommandSpec
from litefs.hookspecs import hookimpl
from litefs_backup_store import settings

if TYPE_CHECKING:
    from litefs.backup import BackupService
    from litefs.config import BackupConfig
    from litefs.leases import NodeInfo
    from litefs_backup_store.vault import Vault
    from litefs_backup_store.verifier import Verifier

SCHEMA: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": settings.PROPERTIES}


def make_service(config: BackupConfig, node: NodeInfo) -> BackupService:
    """The service for a backup type that keeps a vault. Raises ConfigError when its settings do not name a place."""
    from litefs.backup import BackupService
    from litefs_backup_store.opening import open_objects

    open_objects(config).close()  # for its errors

    def make_client(store: Any) -> Any:
        from litefs_backup_store.client import VaultClient
        from litefs_backup_store.vault import Vault

        vault = Vault(open_objects(config), writer=node.hostname)
        return VaultClient(vault, settings.levels(config.section), make_verifier(config, vault))

    return BackupService(make_client, on_mismatch=config.on_mismatch)


def make_verifier(config: BackupConfig, vault: Vault) -> Verifier | None:
    """What reads everything at times, where ``verify-interval`` asks for it."""
    from litefs_backup_store.verifier import Verifier
    from litefs_backup_store.verifying import verify_apart

    interval = float(config.section["verify-interval"])
    return Verifier(vault.objects, partial(verify_apart, config), interval) if interval else None


@hookimpl
def litefs_backups() -> Sequence[BackupSpec]:
    return [BackupSpec("folder", make_service, SCHEMA)]


@hookimpl
def litefs_commands() -> Sequence[CommandSpec]:
    summary = "list, verify and restore what is in a backup"
    return [CommandSpec("backup", "litefs_backup_store.command:command", summary)]
