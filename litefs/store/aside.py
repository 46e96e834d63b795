"""What recovery finds and cannot use, kept as a branch. Blocking."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from litefs.store import branches
from litefs.store.branches import Branch, Reason
from litefs.store.publisher import State

if TYPE_CHECKING:
    from litefs.store.database import Database
    from litefs.store.ltxdir import Range

log = logging.getLogger(__name__)


def keep_torn(db: Database, item: Range, why: str) -> None:
    """Put an LTX file aside that is not whole; where the disk has no room for that it is deleted."""
    path = db.ltx_dir.file(*item)
    try:
        branch = branches.begin(db.store.data_dir, _description(db, Reason.TORN, why))
        os.replace(path, branch.path / path.name)
        kept = f"kept as branch {branches.publish(branch, *item).name}"
    except OSError as error:  # a full disk, which is what tears files; nothing depends on this one
        path.unlink(missing_ok=True)
        kept = f"cannot be kept: {error.strerror}"
    log.warning("%s: newest LTX file is not whole: %s; %s", db.name, why, kept)


def keep_damaged(db: Database, state: State) -> None:
    """Put the whole database aside, with its LTX files, which lead to `state`.

    Raises:
        OSError: the disk failed.
    """
    branch = _description(db, Reason.DAMAGED, "the database does not fit its LTX files and is damaged")
    branch = replace(branch, tip=str(state.pos), page_size=state.page_size, pages=state.commit)
    branch = branches.begin(db.store.data_dir, replace(branch, tip_time=branches.stamp(state.timestamp)))
    for name, kept in (("database", branches.COPY), ("wal", f"{branches.COPY}-wal")):
        if (db.path / name).exists():
            os.replace(db.path / name, branch.path / kept)
    ranges = db.ltx_dir.ranges()
    db.ltx_dir.set_aside(ranges, branch.path)
    branch = branches.publish(branch, min((low for low, _ in ranges), default=state.pos.txid), state.pos.txid)
    log.error(
        "%s: the database does not fit its LTX files and is damaged; kept as branch %s, see: litefs branches list",
        db.name, branch.name,
    )  # fmt: skip


def _description(db: Database, reason: Reason, note: str) -> Branch:
    store = db.store
    return Branch(
        database=db.name, reason=reason.value, time=branches.now(), note=note,
        node=f"{store.node_id:016X}", hostname=os.uname().nodename, cluster_id=store.cluster_id,
    )  # fmt: skip
