"""Databases of this node: their LTX files, positions, capture, recovery. Knows neither FUSE nor HTTP."""

from litefs.store.database import Database, SnapshotInfo
from litefs.store.store import Store

__all__ = ["Database", "SnapshotInfo", "Store"]
