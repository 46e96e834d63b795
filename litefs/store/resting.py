"""Where a database is that nobody has opened since start, without opening it. Blocking."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from litefs import ltx
from litefs.errors import LTXError
from litefs.ltx import Pos
from litefs.store.disk import MARK


def positions(dbs_dir: Path, names: Iterable[str]) -> dict[str, Pos | None]:
    """Position of each database; None for one that has to be recovered before anything can be said of it."""
    return {name: position(dbs_dir / name) for name in names}


def position(path: Path) -> Pos | None:
    """Position of the database in a directory, by its newest LTX file; None when its files do not tell."""
    if any(_has_content(path / side) for side in ("wal", "journal")) or (path / MARK).exists():
        return None
    try:
        found = [txids for entry in os.scandir(path / "ltx") if (txids := ltx.parse_filename(entry.name))]
    except OSError:
        return None
    if not found:
        return None
    low, high = max(found, key=lambda txids: (txids[1], -txids[0]))
    try:
        with open(path / "ltx" / ltx.filename(low, high), "rb") as file:
            head, trailer = ltx.read_info(file)
    except (OSError, LTXError):
        return None
    return Pos(head.max_txid, trailer.post_apply) if head.max_txid == high else None


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
