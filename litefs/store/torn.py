"""LTX files of which power failure has left a part, and those that lead nowhere without them. Blocking."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from litefs import ltx
from litefs.errors import LTXError
from litefs.ltx import Header, Trailer
from litefs.store import aside, nodeids

if TYPE_CHECKING:
    from litefs.store.database import Database
    from litefs.store.ltxdir import Range

log = logging.getLogger(__name__)

VERIFY_LIMIT = 16 << 20  # bytes: larger LTX files are written under a temporary name and synced, so never torn


def check(path: Path) -> tuple[Header, Trailer]:
    """Look whether a file is whole. Raises LTXError."""
    with open(path, "rb") as file:
        look = ltx.verify if os.fstat(file.fileno()).st_size <= VERIFY_LIMIT else ltx.read_info
        return look(file, path.name)


def are_received(db: Database, items: Sequence[Range]) -> bool:
    """Whether another node has sent these files, which are not all whole, and none of which stands for itself."""
    own = nodeids.known(db.store.data_dir) | {0}
    found = False
    for item in items:
        try:
            head, _ = check(db.ltx_dir.file(*item))
        except LTXError:
            found = True
        else:
            if head.is_snapshot or head.node_id in own:
                return False
    return found


def drop(db: Database) -> None:
    """Put the newest file that is not whole aside, and with it those before, which lead nowhere any more."""
    items = db.ltx_dir.ranges()
    for at in range(len(items) - 1, -1, -1):
        try:
            check(db.ltx_dir.file(*items[at]))
        except LTXError as error:
            kept = aside.keep_files(db, items[: at + 1], str(error))
            log.warning("%s: an LTX file is not whole, those before lead nowhere: %s; %s", db.name, error, kept)
            return
