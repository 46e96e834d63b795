"""Open files of the mount. Each knows whether the daemon itself opened it: its own writes are never captured."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import trio

from litefs.ltx import Pos
from litefs.sqlite import walindex
from litefs.store.database import Database
from litefs.store.syncing import sync_fd

NOT_PRIMARY = OSError(errno.EACCES, "this node is not the primary")
DELETED = OSError(errno.EIO, "the file was deleted")


class Handle:
    """An open file. The base class refuses everything.

    Attributes:
        own: the daemon's own.
        alive: false once the file was deleted: then nothing may be written any more.
        inode: number of the file it was opened on.
        keep_cache: what the kernel has of the file from before is still right.
    """

    direct_io = False
    keep_cache = True
    inode = 0

    def __init__(self, own: bool = False) -> None:
        self.own = own
        self.alive = True

    async def read(self, offset: int, size: int) -> bytes:
        """Bytes from the file; fewer at its end."""
        raise OSError(errno.EACCES, "not readable")

    async def write(self, offset: int, data: bytes) -> int:
        """Write all of `data`; its length."""
        raise OSError(errno.EACCES, "not writable")

    async def fsync(self) -> None:
        """Make what was written durable."""

    async def truncate(self, size: int) -> None:
        """Change the size."""
        raise OSError(errno.EACCES, "not writable")

    def release(self) -> None:
        """The last descriptor was closed."""


class FileHandle(Handle):
    """A file with a backing file."""

    def __init__(self, path: str | os.PathLike[str] | int, own: bool) -> None:
        super().__init__(own)
        if isinstance(path, int):
            self.fd = os.dup(path)
        else:
            self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    async def read(self, offset: int, size: int) -> bytes:
        buffer = bytearray(size)
        try:
            count = os.preadv(self.fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError:
            count = -1
        if 0 <= count < size:
            count = -1 if count + offset < os.fstat(self.fd).st_size else count
        if count < 0:  # not all of it is in memory: a slow disk must not hold up the others
            return await trio.to_thread.run_sync(os.pread, self.fd, size, offset)
        return bytes(buffer) if count == size else bytes(memoryview(buffer)[:count])

    async def write(self, offset: int, data: bytes) -> int:
        if not self.alive:
            raise DELETED
        return os.pwrite(self.fd, data, offset)

    async def fsync(self) -> None:
        await trio.to_thread.run_sync(sync_fd, self.fd)

    async def truncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)

    def release(self) -> None:
        os.close(self.fd)


class DatabaseHandle(FileHandle):
    """The database file.

    Args:
        flags: those of the open call. SQLite opens a database for reading and writing and never has it truncated.
    """

    def __init__(self, db: Database, own: bool, flags: int = os.O_RDWR) -> None:
        super().__init__(db.file, own)
        db.open_files.add(self)
        self._db = db
        self._copying = flags & os.O_ACCMODE == os.O_WRONLY or bool(flags & (os.O_TRUNC | os.O_EXCL))
        self._unjournaled = False  # it wrote outside of any transaction

    async def write(self, offset: int, data: bytes) -> int:
        db = self._db
        if not self.own:
            if not self.alive:
                raise DELETED
            self._note(db.journal.check_write(offset, data, copying=self._copying))
        elif db.wal.exists and db.page_size:
            db.wal.checkpointed(range(offset // db.page_size + 1, (offset + len(data)) // db.page_size + 1), data)
        db.counters.database_writes += 1
        return await super().write(offset, data)

    async def truncate(self, size: int) -> None:
        if self.own and self.alive and self._db.exchange(size):
            return
        if not self.own and self.alive and size != os.fstat(self.fd).st_size:
            self._note(self._db.journal.check_truncate(size))
        await super().truncate(size)

    def _note(self, unjournaled: bool) -> None:
        if unjournaled and not self._unjournaled:
            self._unjournaled = True
            self._db.journal.writers += 1

    async def fsync(self) -> None:
        journal, captured = self._db.journal, self.alive and not self.own
        if captured and journal.active:
            await self._sync_and_prepare()
        else:
            await self._db.disk.sync(self.fd)
            if captured and journal.unsettled and not self._copying:
                await journal.settle()

    async def _sync_and_prepare(self) -> None:
        failure: OSError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._db.journal.prepare)
            try:
                await self._db.disk.sync(self.fd)
            except OSError as error:  # a nursery would make a group of it
                failure = error
        if failure is not None:
            raise failure

    def release(self) -> None:
        self._db.open_files.discard(self)
        super().release()

    async def finish(self) -> None:
        """After `release`: what this descriptor wrote outside of any transaction is settled.

        Raises:
            OSError: it could not be captured.
        """
        if self._unjournaled:
            self._db.journal.writers -= 1
            if self.alive and not self._db.journal.writers:
                await self._db.journal.settle()


class WALHandle(FileHandle):
    """The write-ahead log. The write that completes a commit frame captures the transaction before it returns."""

    def __init__(self, db: Database, own: bool) -> None:
        super().__init__(db.wal.path, own)
        self._db = db
        self.keep_cache = not db.wal.holed  # closing the hole changes what is in the file
        self._committed = Pos(0, 0)  # where its last write led, if that was a commit

    async def write(self, offset: int, data: bytes) -> int:
        if not self.alive:
            raise DELETED
        wal = self._db.wal
        if self.own:
            if offset == 0:
                await wal.before_restart(own=True)
            written = await super().write(offset, data)
            if offset == 0:
                wal.restarted()
            self._db.appended(written)
            return written
        if not self._db.writable:
            raise self._db.store.refusal(errno.EACCES)
        await wal.before_write(offset, data)
        self._db.counters.wal_writes += 1
        if offset == 0:
            self._db.wal_restarted()
        before = self._db.pos
        written = await super().write(offset, data)
        if written == len(data):
            await wal.after_write(offset, data)
        if self._db.pos != before:
            self._committed = self._db.pos
        return written

    async def fsync(self) -> None:
        wal = self._db.wal
        wal.syncing += 1
        try:
            await self._sync()
        finally:
            wal.syncing -= 1
        self._check_commit()

    async def _sync(self) -> None:
        disk = self._db.disk
        disk.check()
        if self.alive and not self.own:
            await self._db.wal.settle()
        if self._db.publisher.undurable and self._db.wal.exists:
            self._db.durable_by_fsync = True
            await disk.sync_wal(self.fd if self.alive else -1)
        else:
            await disk.sync(self.fd)

    def _check_commit(self) -> None:
        """Under synchronous=FULL a commit ends with this sync: not if the lease ran out since its last frame.

        SQLite then discards the transaction, and it is found out as for a writer that died.
        """
        doubtful = self._db.publisher.in_doubt
        if doubtful is not None and doubtful.state.pos == self._committed and not self._db.writable:
            raise self._db.store.refusal(errno.EACCES)

    async def truncate(self, size: int) -> None:
        if self.alive:
            await truncate_wal(self._db, size, self.own, self.fd)
        else:
            await super().truncate(size)


async def truncate_wal(db: Database, size: int, own: bool, fd: int) -> None:
    """Empty the WAL, or cut off what lies behind its last transaction.

    Raises:
        OSError: EACCES on a node that may not write; EIO when transactions would be lost.
    """
    if size == os.fstat(fd).st_size:
        return
    if not own and not db.writable:
        raise NOT_PRIMARY
    if size == 0:
        await db.wal.before_restart(own=own)
        os.ftruncate(fd, 0)
        db.wal.restarted()
    elif size < db.wal.end_offset:
        raise OSError(errno.EIO, f"{db.name}: cutting the WAL to {size} bytes would lose transactions")
    else:
        os.ftruncate(fd, size)


class JournalHandle(FileHandle):
    """The rollback journal."""

    def __init__(self, db: Database, own: bool) -> None:
        super().__init__(db.journal.path, own)
        self._db = db

    async def write(self, offset: int, data: bytes) -> int:
        if self.own:
            return await super().write(offset, data)
        if not self.alive:
            raise DELETED
        journal = self._db.journal
        if journal.zeroes_header(offset, data):
            await journal.finalise()
        elif not self._db.writable:
            raise self._db.store.refusal(errno.EACCES)
        self._db.counters.journal_writes += 1
        written = await super().write(offset, data)
        if offset == 0:
            journal.header_written(self.fd)
        return written

    async def fsync(self) -> None:
        await self._db.disk.sync(self.fd)

    async def truncate(self, size: int) -> None:
        if size == 0 and not self.own and self.alive:
            await self._db.journal.finalise()
        await super().truncate(size)


class ShmHandle(FileHandle):
    """The wal-index: memory only, shared by those who map it."""

    def __init__(self, db: Database, own: bool) -> None:
        assert db.shm is not None
        super().__init__(db.shm, own)
        self._db = db
        self._memory = db.shm
        if not own:
            db.shm_users += 1

    async def write(self, offset: int, data: bytes) -> int:
        self._db.counters.shm_writes += 1
        return os.pwrite(self.fd, data, offset)

    async def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.fd, size, offset)

    async def truncate(self, size: int) -> None:
        if size < walindex.HEADER_SIZE:  # by the first one to connect, who then makes it anew from the WAL
            await self._db.wal.close_hole()
        await super().truncate(size)

    async def fsync(self) -> None:
        pass

    def release(self) -> None:
        super().release()
        if not self.own and self._db.shm == self._memory:
            self._db.shm_users -= 1


class TextHandle(Handle):
    """A small read-only file whose content is fixed when it is opened."""

    direct_io = True

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    async def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]


class LockHandle(TextHandle):
    """``NAME-lock`` while it is held."""

    def __init__(self, let_go: Callable[[], None]) -> None:
        super().__init__(b"")
        self._let_go = let_go

    def release(self) -> None:
        self._let_go()
