"""What a node says of its databases."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from litefs.cluster.status import Status
from litefs.ltx import Pos
from litefs.store import Store
from litefs.store.syncing import SyncFailed


async def status_of(store: Store) -> dict[str, Any]:
    """By a node that has this store, and is not much besides."""
    role = SimpleNamespace(is_primary=False, primary=None, hostname="a", candidate=True, lag_ms=int, announced={})
    rest: Any = SimpleNamespace(
        advertise_url="http://a:1", type="static", eligible=True, lease_remaining=None, peers={}, others=[], held=0
    )
    status = Status(store, role, rest, rest, rest, rest, rest, not_ready=str)  # type: ignore[arg-type]
    return await status()


def test_a_disk_that_has_failed(tmp_path: Path) -> None:
    """A database is named then even if nothing was ever committed to it."""

    async def main() -> None:
        store = Store(tmp_path / "data", tmp_path / "mnt")
        lost, sound, _, new = [await store.database(name, create=True) for name in ("lost", "sound", "empty", "new")]
        lost.published = sound.published = Pos(1, 1 << 63 | 1)
        assert await failures(store) == {"lost": False, "sound": False}
        for db in (lost, new):
            with pytest.raises(SyncFailed), db.disk.watching():
                raise SyncFailed(errno.EIO, "Input/output error")
        assert await failures(store) == {"lost": True, "sound": False, "new": True}

    async def failures(store: Store) -> dict[str, bool]:
        return {name: item["failed"] for name, item in (await status_of(store))["databases"].items()}

    trio.run(main)
