"""Opening, making and emptying files of the mount: who may, and which handle it is."""

from __future__ import annotations

import errno
import os
from functools import partial

from litefs.mount import special
from litefs.mount.attributes import NO_ENTRY
from litefs.mount.handles import (
    NOT_PRIMARY,
    DatabaseHandle,
    FileHandle,
    Handle,
    JournalHandle,
    LockHandle,
    ShmHandle,
    TextHandle,
    WALHandle,
    truncate_wal,
)
from litefs.store.database import Database
from litefs.store.names import Kind, split
from litefs.store.store import Store


class Opener:
    """Opens the files of one mount. In every method `own` says that the node's own client process asks."""

    def __init__(self, store: Store, role: special.Role) -> None:
        self._store = store
        self._role = role

    async def open(self, name: str, flags: int, own: bool) -> Handle:
        """A handle on a file; with O_TRUNC the kernel leaves it to us to empty it.

        Raises:
            OSError: there is none, it may not be emptied, or what the disk says.
            DatabaseNotFound, BadName: there is no such database.
        """
        handle = await self._open(name, flags, own)
        if flags & os.O_TRUNC and isinstance(handle, FileHandle):
            try:
                await handle.truncate(0)
            except BaseException:
                handle.release()
                raise
        return handle

    async def _open(self, name: str, flags: int, own: bool) -> Handle:
        if name in special.NAMES:
            data = special.content(name, self._role)
            if data is None:
                raise NO_ENTRY
            return TextHandle(data)
        db_name, kind = split(name)
        if kind is Kind.SUPER:
            return FileHandle(self._store.super_dir / name, own)
        db = await self._store.database(db_name)
        match kind:
            case Kind.DATABASE:
                await _settle(db)
                return DatabaseHandle(db, own, flags)
            case Kind.JOURNAL:
                return JournalHandle(db, own)
            case Kind.WAL:
                return WALHandle(db, own)
            case Kind.SHM:
                if db.shm is None:
                    raise NO_ENTRY
                return ShmHandle(db, own)
            case Kind.POS:
                await _settle(db)
                return TextHandle(special.position_text(db))
            case Kind.LOCK:
                return await self._open_lock(db, flags)

    async def _open_lock(self, db: Database, flags: int) -> Handle:
        """Opening it for writing is the request for the halt lock; the primary has nothing to ask for."""
        if flags & os.O_ACCMODE == os.O_RDONLY or self._store.writable:
            return TextHandle(b"")
        if self._store.remote is None:
            raise OSError(errno.EHOSTUNREACH, "this node is starting")
        await self._store.remote.open(db)
        return LockHandle(partial(self._store.remote.close, db))

    async def make(self, name: str, own: bool) -> None:
        """Make a file that may be there already.

        Raises:
            OSError: EACCES where it may not be made, or what the disk says.
            DatabaseNotFound, BadName: a side file without a database, or not a name of one.
        """
        db_name, kind = split(name)
        may_write = own or self._store.writable
        if name in special.NAMES or kind in (Kind.POS, Kind.LOCK):
            raise NOT_PRIMARY
        # On a replica a database may be opened before it has arrived: it is empty and takes no writes until then.
        # (Waiting for it here would keep the directory locked, and with it the one who brings it.)
        if not may_write and kind not in (Kind.DATABASE, Kind.WAL, Kind.SHM):
            known = self._store.opened(db_name)
            if kind is not Kind.JOURNAL or known is None or not known.writable:
                raise self._store.refusal(errno.EACCES)
        if kind is Kind.SUPER:
            _touch(self._store.super_dir / name)
            self._store.super_changed()
            return
        db = await self._store.database(db_name, create=kind is Kind.DATABASE)
        match kind:
            case Kind.DATABASE:
                _touch(db.file)
                db.directory_changed()
            case Kind.JOURNAL:
                db.journal.create()
            case Kind.WAL:
                await _settle(db)
                db.wal.create()
            case Kind.SHM if db.shm is None:
                db.shm = os.memfd_create(f"{db_name}-shm", os.MFD_CLOEXEC)

    async def truncate(self, name: str, size: int, own: bool) -> None:
        """Change the size of a file that the application does not have open.

        Raises:
            OSError, DatabaseNotFound, BadName: as `open`; EACCES where this node may not write.
        """
        db_name, kind = split(name)
        known = self._store.opened(db_name)
        if not own and not (self._store.writable or (known and known.writable)) and kind is not Kind.SHM:
            raise self._store.refusal(errno.EACCES)
        handle = await self._open(name, os.O_RDWR, own)
        try:
            if kind is Kind.WAL and isinstance(handle, FileHandle):
                await truncate_wal(await self._store.database(db_name), size, own, handle.fd)
            else:
                await handle.truncate(size)
        finally:
            handle.release()
            if isinstance(handle, DatabaseHandle):
                await handle.finish()


async def _settle(db: Database) -> None:
    """What a program has copied into the file is captured before anyone goes on from there."""
    if db.journal.unsettled and not db.journal.writers:
        await db.journal.settle()


def _touch(path: os.PathLike[str]) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
