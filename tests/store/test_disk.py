"""What is known to be on disk, and what is not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from litefs.ltx import Pos
from litefs.store.disk import Disk
from litefs.store.pagetable import PageTable
from litefs.store.publisher import State

BEFORE, AFTER = State(Pos(1, 1 << 63 | 1), 512, 2), State(Pos(2, 1 << 63 | 2), 512, 3)


@pytest.mark.parametrize("moves", [False, True])
def test_a_saved_table_is_true_for_what_was_synced(tmp_path: Path, moves: bool) -> None:
    """A transaction that comes while the content is being synced is not on disk with it."""
    table = PageTable()
    table.update([(1, 5), (2, 6)])
    db: Any = SimpleNamespace(path=tmp_path, table=table, trail=SimpleNamespace(replaced=trio.Event()))
    db.ltx_dir = SimpleNamespace(path=tmp_path, file=lambda low, high: tmp_path / f"{low}.ltx")
    db.wal, db.publisher = SimpleNamespace(holed=False), SimpleNamespace(made_durable=lambda txid: None)

    def move(state: State) -> None:
        db.state, db.pos, db.published = state, state.pos, state.pos

    async def sync() -> None:
        if moves:
            table.set(3, 7)
            move(AFTER)

    disk = Disk(db)
    disk._sync_content = sync  # type: ignore[method-assign]
    move(BEFORE)
    trio.run(disk.save_table)
    found = PageTable.load(tmp_path / "checksums")
    assert found is not None
    assert (found[1].pos, found[1].commit, found[0].get(2)) == (BEFORE.pos, 2, 6)
    assert disk.saved == BEFORE.pos
