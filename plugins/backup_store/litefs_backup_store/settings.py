"""The keys that every storage of vaults has in its section, and the levels they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litefs_backup_store.levels import Level, Levels

DURATION = {"$ref": "#/$defs/duration"}

PROPERTIES: dict[str, Any] = {
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
