"""What recovery finds and cannot use, kept as a branch. Blocking."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
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
    """Put the newest LTX file aside, which is not whole; where the disk has no room for that it is deleted."""
    kept = keep_files(db, [item], why)
    log.warning("%s: newest LTX file is not whole: %s; %s", db.name, why, kept)


def keep_files(db: Database, items: Sequence[Range], why: str) -> str:
    """Put LTX files aside that nothing depends on, in order; what became of them, for the log."""
    paths = [db.ltx_dir.file(*item) for item in items]
    try:
        branch = branches.begin(db.store.data_dir, _description(db, Reason.TORN, why))
        for path in reversed(paths):
            os.replace(path, branch.path / path.name)
        return f"kept as branch {branches.publish(branch, items[0][0], items[-1][1]).name}"
    except OSError as error:  # a full disk, which is what tears files
        for path in paths:
            path.unlink(missing_ok=True)
        return f"cannot be kept: {error.strerror}"
    finally:
        for item in reversed(items):
            db.ltx_dir.forget(item)


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
