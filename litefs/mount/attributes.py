"""What the kernel is told of a file: size, mode and times, and for how long it may believe it."""

from __future__ import annotations

import errno
import os
import stat
import time

from pyfuse3 import EntryAttributes

from litefs.mount import special
from litefs.mount.handles import FileHandle
from litefs.mount.inodes import ROOT, Inode
from litefs.mount.openfiles import OpenFiles
from litefs.store.database import Database
from litefs.store.names import Kind, split
from litefs.store.store import Store

FOREVER = 3600.0  # seconds
DATABASE_TIME = 0.25
"""Seconds for which the kernel may serve cached pages of a database without asking for the file's attributes.

Without a limit it would serve them when the daemon is long dead. A program that had opened the database, but not yet
its log, would then use the log of whatever is mounted, or lies, at the path by now: together they are no database.
"""
CACHED = (Kind.DATABASE, Kind.JOURNAL, Kind.WAL, Kind.SHM, Kind.SUPER)
NO_ENTRY = OSError(errno.ENOENT, "no such file")


class Attributes:
    """Describes the files of one mount."""

    def __init__(self, store: Store, role: special.Role, open_files: OpenFiles) -> None:
        self._store = store
        self._role = role
        self._open = open_files
        self._started = time.time_ns()
        self._uid, self._gid = os.getuid(), os.getgid()

    def root(self) -> EntryAttributes:
        """Of the mounted directory."""
        mode = stat.S_IFDIR | (0o777 if self._store.writable else 0o555)
        return self._entry(ROOT, mode, 0, self._started, cached=False)

    @staticmethod
    def absent(kind: Kind) -> EntryAttributes:
        """An entry that says: no such file, and it stays so until someone makes it through the mount."""
        entry = EntryAttributes()
        entry.st_ino = 0
        entry.entry_timeout = FOREVER if kind in CACHED else 0.0
        return entry

    def ghost(self, inode: Inode) -> EntryAttributes:
        """Of a file that is gone and still shown."""
        return self._entry(inode.number, stat.S_IFREG | 0o666, 0, self._started, cached=False)

    async def of(self, inode: Inode) -> EntryAttributes:
        """Of a file, also one that was deleted while it is open: then what fstat says of it.

        Raises:
            OSError: ENOENT when it does not exist.
            DatabaseNotFound, BadName: nor does its database.
        """
        if inode.alive:
            return await self.of_living(inode)
        for handle in self._open.of(inode.number):
            if isinstance(handle, FileHandle):
                size = os.fstat(handle.fd).st_size
                return self._entry(inode.number, stat.S_IFREG | 0o666, size, self._started, cached=True)
        raise NO_ENTRY

    async def of_living(self, inode: Inode) -> EntryAttributes:
        """Of the file that has this name.

        Raises:
            OSError, DatabaseNotFound, BadName: as `of`.
        """
        name = inode.name
        if name in special.NAMES:
            data = special.content(name, self._role)
            if data is None:
                raise NO_ENTRY
            return self._entry(inode.number, stat.S_IFREG | 0o444, len(data), time.time_ns(), cached=False)
        db_name, kind = split(name)
        if kind is Kind.SUPER:
            found = os.stat(self._store.super_dir / name)
            return self._entry(inode.number, stat.S_IFREG | 0o666, found.st_size, found.st_mtime_ns, cached=True)
        db = await self._store.database(db_name)
        if kind is Kind.POS:
            mtime = db.timestamp * 1_000_000
            return self._entry(inode.number, stat.S_IFREG | 0o666, special.POSITION_SIZE, mtime, cached=False)
        if kind is Kind.LOCK:
            return self._entry(inode.number, stat.S_IFREG | 0o444, 0, self._started, cached=False)
        return self._of_backed(inode, db, kind)

    def _of_backed(self, inode: Inode, db: Database, kind: Kind) -> EntryAttributes:
        mode = stat.S_IFREG | (0o666 if kind is not Kind.DATABASE or self._store.writable else 0o444)
        if kind is Kind.SHM:
            if db.shm is None:
                raise NO_ENTRY
            found = os.fstat(db.shm)
        else:
            found = os.stat(backing_file(db, kind))
        # The kernel drops its cached pages when it sees a new modification time: while a file is open, show none.
        mtime = self._started if self._open.of(inode.number) else found.st_mtime_ns
        entry = self._entry(inode.number, mode, found.st_size, mtime, cached=True)
        if kind is Kind.DATABASE:
            entry.attr_timeout = DATABASE_TIME
        return entry

    def _entry(self, number: int, mode: int, size: int, mtime_ns: int, *, cached: bool) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = number
        entry.st_mode = mode
        entry.st_nlink = 1
        entry.st_uid, entry.st_gid = self._uid, self._gid
        entry.st_size = size
        entry.st_blksize = 4096
        entry.st_blocks = (size + 511) // 512
        entry.st_mtime_ns = entry.st_ctime_ns = entry.st_atime_ns = mtime_ns
        entry.entry_timeout = entry.attr_timeout = FOREVER if cached else 0.0
        return entry


def backing_file(db: Database, kind: Kind) -> os.PathLike[str]:
    """Where a database, its journal or its WAL is on disk."""
    return {Kind.DATABASE: db.file, Kind.JOURNAL: db.journal.path, Kind.WAL: db.wal.path}[kind]
