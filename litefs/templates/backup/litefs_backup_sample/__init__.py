"""The backup type "sample" for litefs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from litefs.extensions import BackupSpec
from litefs.hookspecs import hookimpl

if TYPE_CHECKING:
    from litefs.backup import BackupService
    from litefs.config import BackupConfig
    from litefs.leases import NodeInfo

# The section backup.sample of litefs.yml. Defaults are filled in, durations arrive as seconds.
SCHEMA = {
    "description": "TODO: what this backup is.",
    "type": "object",
    "additionalProperties": False,
    "required": ["path"],
    "properties": {"path": {"description": "The folder for the files.", "type": "string", "pattern": "^/"}},
}


def make(config: BackupConfig, node: NodeInfo) -> BackupService:
    """The service for a configuration; opens nothing."""
    from litefs.backup import BackupService  # late: every command of litefs loads this module

    def make_client(store: Any) -> Any:
        from litefs_backup_sample.client import SampleClient
        from litefs_backup_sample.shelf import Shelf

        return SampleClient(Shelf(config.section["path"]))

    return BackupService(make_client, on_mismatch=config.on_mismatch)


@hookimpl
def litefs_backups() -> Sequence[BackupSpec]:
    return [BackupSpec("sample", make, SCHEMA)]
