"""Which names a listing of the mount shows."""

from __future__ import annotations

import os

from litefs.mount import special
from litefs.store.names import Kind
from litefs.store.store import Store


def listing(store: Store, role: special.Role) -> list[str]:
    """Every name, without opening a database; blocking, but only as long as reading a few directories takes."""
    names = [name for name in special.NAMES if special.content(name, role) is not None]
    for name in store.names():
        names += _files(store, name)
    names += sorted(os.listdir(store.super_dir))
    return names


def _files(store: Store, name: str) -> list[str]:
    """A database and its side files."""
    found = []
    path = store.database_path(name)
    if (path / "database").exists() and (path / "database").stat().st_size:
        found.append(name)
        if _has_position(store, name):
            found.append(f"{name}{Kind.POS.value}")
    for kind in (Kind.JOURNAL, Kind.WAL):
        if (path / kind.value[1:]).exists():
            found.append(name + kind.value)
    db = store.opened(name)
    if db is not None and db.shm is not None:
        found.append(f"{name}{Kind.SHM.value}")
    return found


def _has_position(store: Store, name: str) -> bool:
    """Whether it is more than a plain file."""
    db = store.opened(name)
    if db is not None:
        return db.pos.txid > 0
    try:
        return next(os.scandir(store.database_path(name) / "ltx"), None) is not None
    except FileNotFoundError:
        return False
