"""From a configuration or a URL to the place where objects are kept; other distributions bring further places."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from litefs.errors import ConfigError
from litefs_backup_store.keys import find_keys
from litefs_backup_store.objects import Objects
from litefs_backup_store.sealed import SealedObjects

if TYPE_CHECKING:
    from litefs.config import BackupConfig

GROUP = "litefs.backup_objects"
"""Entry points of this group are named after a backup type; each is a function from its `BackupConfig` to `Objects`."""

Opener = Callable[["BackupConfig"], Objects]


def open_objects(config: BackupConfig, *, others: Iterable[str] = ()) -> Objects:
    """The place that the ``backup`` section of a litefs.yml names.

    Args:
        others: further types to name in an error.

    Raises:
        ConfigError: it names none, or one that keeps no points in time; or its encryption key is none.
    """
    found = {point.name: point for point in entry_points(group=GROUP)}
    if config.type not in found:
        types = ", ".join(sorted({*found, *others}))
        have = f'backup.type is "{config.type}"' if config.type else "no backup is configured"
        raise ConfigError(f"{have}, and this command is for: {types}", "name a litefs.yml with -config")
    opener: Opener = found[config.type].load()
    keys = find_keys(config.section, os.environ, f"backup.{config.type}")
    return SealedObjects(opener(config), keys)


def open_folder(config: BackupConfig) -> Objects:
    """The place of ``backup.type: folder``. Raises ConfigError without a path."""
    from litefs_backup_store.folder import FolderObjects

    if not config.path:
        raise ConfigError("backup.path is required", "it is the folder where the backup is kept")
    return FolderObjects(config.path)
