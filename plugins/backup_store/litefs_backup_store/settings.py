"""The keys that every storage of vaults has in its section, and the levels they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litefs_backup_store.levels import Level, Levels

DURATION = {"$ref": "#/$defs/duration"}

PROPERTIES: dict[str, Any] = {
    "encryption-key": {
        "description": "Key that everything is encrypted with: 32 random bytes in hexadecimal or base64. Of several, "
        "with commas between them, the first one writes, and all of them read. Empty: LITEFS_BACKUP_ENCRYPTION_KEY; if "
        "that is empty, too, nothing is encrypted.",
        "type": "string",
        "writeOnly": True,
        "default": "",
    },
    "encryption-key-file": {
        "description": "File to read encryption-key from, one key a line.",
        "type": "string",
        "default": "",
    },
    "retention": {
        "description": "How far back a state can be restored.",
        **DURATION,
        "default": "720h",
    },
    "fine-retention": {
        "description": "How far back every 10 seconds can be told apart; before that, every 5 minutes.",
        **DURATION,
        "default": "1h",
    },
    "verify-interval": {
        "description": "How often the primary reads the whole backup and restores every level of it to scratch, in a "
        "process of low priority; what comes of it is in the log, in metrics and in the status. Zero: never.",
        **DURATION,
        "default": "0s",
    },
    "snapshot-interval": {
        "description": "How often a copy of the whole database is stored, if it has changed.",
        **DURATION,
        "default": "24h",
    },
}


def levels(section: Mapping[str, Any]) -> Levels:
    """The levels for a section with durations in seconds."""
    retention = float(section["retention"])
    return Levels(
        (Level(1, 10.0, float(section["fine-retention"])), Level(2, 300.0, retention), Level(3, 3600.0, retention)),
        snapshot_interval=float(section["snapshot-interval"]),
        snapshot_retention=retention,
    )
