"""FUSE requests, turned into calls of the store.

Everything that changes goes through this mount, so the kernel may cache names, attributes and pages for as long as
it likes; only the files that tell of the cluster are asked for each time. A round trip costs more than all the work
behind it.
"""

from __future__ import annotations

import errno
import functools
import logging
import math
import os
import stat
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, ParamSpec, TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError

from litefs.errors import BadName, DatabaseNotFound, LitefsError
from litefs.mount import special
from litefs.mount.handles import (
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
from litefs.mount.inodes import ROOT, Inode, Inodes
from litefs.mount.readloop import handing_over
from litefs.store.database import Database
from litefs.store.names import Kind, split
from litefs.store.store import Store

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

FOREVER = 3600.0  # seconds
GHOST_TIME = 0.25  # seconds; the kernel needs a few milliseconds to be told that a name is gone
CACHED = (Kind.DATABASE, Kind.JOURNAL, Kind.WAL, Kind.SHM, Kind.SUPER)
ACCESS_DENIED = OSError(errno.EACCES, "this node is not the primary")
NO_ENTRY = OSError(errno.ENOENT, "no such file")


def request(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Turn what a request raises into the error number that the application sees."""

    @functools.wraps(method)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handing_over(method(*args, **kwargs))
        except OSError as error:
            if error.errno in (errno.EIO, errno.ENOSPC):
                log.warning("%s: %s", method.__name__, error)
            raise FUSEError(error.errno or errno.EIO) from None
        except DatabaseNotFound:
            raise FUSEError(errno.ENOENT) from None
        except BadName:
            raise FUSEError(errno.EINVAL) from None
        except KeyError:
            raise FUSEError(errno.ESTALE) from None
        except LitefsError as error:
            log.error("%s: %s", method.__name__, error)
            raise FUSEError(errno.EIO) from None
        except (FUSEError, trio.Cancelled):
            raise
        except Exception:
            log.exception("request %s failed", method.__name__)
            raise FUSEError(errno.EIO) from None

    return wrapper


class Operations(pyfuse3.Operations):
    """Request handlers of one mount."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, store: Store, role: special.Role) -> None:
        super().__init__()
        self._store = store
        self._role = role
        self._inodes = Inodes()
        self._handles: dict[int, Handle] = {}
        self._by_inode: dict[int, set[Handle]] = {}
        self._last_handle = 0
        self._ghosts: dict[str, float] = {}  # files that went with their database: until when they are shown
        self._started = time.time_ns()
        self._uid, self._gid = os.getuid(), os.getgid()
        self.last_request = 0.0  # trio time; what keeps the loop awake looks at it
        self.active = trio.Event()

    # ------------------------------------------------------------------------------------------------ who asks

    def _is_own(self, ctx: pyfuse3.RequestContext) -> bool:
        """Whether the node's own client process asks. FUSE reports thread ids."""
        return os.path.exists(f"/proc/{self._store.client.pid}/task/{ctx.pid}")

    async def _database(self, name: str, *, create: bool = False) -> Database:
        return self._store.opened(name) or await self._store.database(name, create=create)

    # ---------------------------------------------------------------------------------------------- attributes

    def _attributes(self, number: int, mode: int, size: int, mtime_ns: int, *, cached: bool) -> EntryAttributes:
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

    def _root(self) -> EntryAttributes:
        mode = stat.S_IFDIR | (0o777 if self._store.writable else 0o555)
        return self._attributes(ROOT, mode, 0, self._started, cached=False)

    @staticmethod
    def _absent(kind: Kind) -> EntryAttributes:
        """An entry that says: no such file, and it stays so until someone makes it through the mount."""
        entry = EntryAttributes()
        entry.st_ino = 0
        entry.entry_timeout = FOREVER if kind in CACHED else 0.0
        return entry

    async def _describe(self, inode: Inode) -> EntryAttributes:
        """Attributes of a file.

        Raises:
            OSError: ENOENT when it does not exist.
        """
        name = inode.name
        if name in (special.PRIMARY, special.LAG):
            data = self._special(name)
            if data is None:
                raise NO_ENTRY
            return self._attributes(inode.number, stat.S_IFREG | 0o444, len(data), time.time_ns(), cached=False)
        db_name, kind = split(name)
        if kind is Kind.SUPER:
            found = os.stat(self._store.super_dir / name)
            return self._attributes(
                inode.number, stat.S_IFREG | 0o666, found.st_size, found.st_mtime_ns, cached=True
            )  # fmt: skip
        db = await self._database(db_name)
        if kind is Kind.POS:
            mtime = db.timestamp * 1_000_000
            return self._attributes(inode.number, stat.S_IFREG | 0o666, 34, mtime, cached=False)
        if kind is Kind.LOCK:
            return self._attributes(inode.number, stat.S_IFREG | 0o444, 0, self._started, cached=False)
        return self._describe_file(inode, db, kind)

    def _describe_file(self, inode: Inode, db: Database, kind: Kind) -> EntryAttributes:
        mode = stat.S_IFREG | (0o666 if kind is not Kind.DATABASE or self._store.writable else 0o444)
        if kind is Kind.SHM:
            if db.shm is None:
                raise NO_ENTRY
            found = os.fstat(db.shm)
        else:
            found = os.stat(self._path(db, kind))
        # The kernel drops its cached pages when it sees a new modification time: while a file is open, show none.
        mtime = self._started if self._by_inode.get(inode.number) else found.st_mtime_ns
        return self._attributes(inode.number, mode, found.st_size, mtime, cached=True)

    @staticmethod
    def _path(db: Database, kind: Kind) -> os.PathLike[str]:
        return {Kind.DATABASE: db.file, Kind.JOURNAL: db.journal.path, Kind.WAL: db.wal.path}[kind]

    def _special(self, name: str) -> bytes | None:
        return special.primary_text(self._role) if name == special.PRIMARY else special.lag_text(self._role)

    # ---------------------------------------------------------------------------------------------------- names

    @request
    async def lookup(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        text = os.fsdecode(name)
        if text == ".":
            return self._root()
        kind = Kind.POS if text in (special.PRIMARY, special.LAG) else split(text)[1]
        if (ghost := self._ghost(text)) is not None:
            return ghost
        known = self._inodes.known(text)
        inode = known or self._inodes.of(text)
        try:
            entry = await self._describe(inode)
        except (FileNotFoundError, DatabaseNotFound, BadName):
            if known is None:
                self._inodes.forget(inode.number, 0)
            return self._absent(kind)
        inode.lookups += 1
        return entry

    def _ghost(self, name: str) -> EntryAttributes | None:
        """A file that went with its database a moment ago, still shown.

        The kernel hears of it only after the database's deletion has been answered, so for a moment it is there for
        some and not for others. SQLite, which deletes a log that it finds beside an empty database, takes that for an
        error. So it stays for a moment, and may be deleted.
        """
        if trio.current_time() > self._ghosts.get(name, -math.inf):
            self._ghosts.pop(name, None)
            return None
        inode = self._inodes.of(name)
        inode.lookups += 1
        return self._attributes(inode.number, stat.S_IFREG | 0o666, 0, self._started, cached=False)

    @request
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        return self._root() if inode == ROOT else await self._getattr(self._inodes.get(inode))

    async def _getattr(self, inode: Inode) -> EntryAttributes:
        if inode.alive:
            return await self._describe(inode)
        for handle in self._by_inode.get(inode.number, ()):
            if isinstance(handle, FileHandle):  # deleted while open: what fstat says of it
                size = os.fstat(handle.fd).st_size
                return self._attributes(inode.number, stat.S_IFREG | 0o666, size, self._started, cached=True)
        raise NO_ENTRY

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for number, lookups in inode_list:
            if not self._by_inode.get(number):
                self._inodes.forget(number, lookups)
            elif number != ROOT:
                self._inodes.get(number).lookups -= lookups

    # ------------------------------------------------------------------------------------------------ directory

    @request
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return inode

    @request
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        names = await self._listing()
        for number, name in enumerate(names[start_id:], start_id + 1):
            inode = self._inodes.of(name)
            try:
                entry = await self._describe(inode)
            except (OSError, DatabaseNotFound):  # one that cannot be used must not hide the others
                continue
            if not pyfuse3.readdir_reply(token, os.fsencode(name), entry, number):
                return
            inode.lookups += 1

    async def _listing(self) -> list[str]:
        names = [] if self._special(special.PRIMARY) is None else [special.PRIMARY]
        names.append(special.LAG)
        for name in self._store.names():
            path = self._store.database_path(name)
            if (path / "database").exists() and (path / "database").stat().st_size:
                names.append(name)
                if self._has_position(name):
                    names.append(f"{name}-pos")
            for kind in (Kind.JOURNAL, Kind.WAL):
                if (path / kind.value[1:]).exists():
                    names.append(name + kind.value)
            db = self._store.opened(name)
            if db is not None and db.shm is not None:
                names.append(f"{name}-shm")
        names += sorted(os.listdir(self._store.super_dir))
        return names

    def _has_position(self, name: str) -> bool:
        """Whether it is more than a plain file."""
        db = self._store.opened(name)
        if db is not None:
            return db.pos.txid > 0
        try:
            return next(os.scandir(self._store.database_path(name) / "ltx"), None) is not None
        except FileNotFoundError:
            return False

    @request
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        directories, self._store.directories = self._store.directories, set()
        for db in directories:
            await trio.to_thread.run_sync(db.sync_directory)

    @request
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        found = os.statvfs(self._store.data_dir)
        reply = pyfuse3.StatvfsData()
        for name in (
            "f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail", "f_namemax",
        ):  # fmt: skip
            setattr(reply, name, getattr(found, name))
        return reply

    # ------------------------------------------------------------------------------------------- open and create

    def _add_handle(self, inode: Inode, handle: Handle) -> FileInfo:
        self._last_handle += 1
        self._handles[self._last_handle] = handle
        self._by_inode.setdefault(inode.number, set()).add(handle)
        handle.inode = inode.number
        return FileInfo(fh=self._last_handle, direct_io=handle.direct_io, keep_cache=not handle.direct_io)

    @request
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> FileInfo:
        file = self._inodes.get(inode)
        if self._ghosts.pop(file.name, None) is not None:
            self._deleted(file.name)
        if not file.alive:
            raise OSError(errno.ESTALE, "the file was deleted")  # the kernel looks again, and makes one where it may
        return self._add_handle(file, await self._open_truncated(file.name, flags, self._is_own(ctx)))

    async def _open_truncated(self, name: str, flags: int, own: bool) -> Handle:
        """Open a file; with O_TRUNC the kernel leaves it to us to empty it."""
        handle = await self._open(name, flags, own)
        if flags & os.O_TRUNC and isinstance(handle, FileHandle):
            try:
                await handle.truncate(0)
            except BaseException:
                handle.release()
                raise
        return handle

    async def _open(self, name: str, flags: int, own: bool) -> Handle:
        if name in (special.PRIMARY, special.LAG):
            data = self._special(name)
            if data is None:
                raise NO_ENTRY
            return TextHandle(data)
        db_name, kind = split(name)
        if kind is Kind.SUPER:
            return FileHandle(self._store.super_dir / name, own)
        db = await self._database(db_name)
        match kind:
            case Kind.DATABASE:
                await self._settle(db)
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
                await self._settle(db)
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

    @staticmethod
    async def _settle(db: Database) -> None:
        """What a program has copied into the file is captured before anyone goes on from there."""
        if db.journal.unsettled and not db.journal.writers:
            await db.journal.settle()

    @request
    async def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        text = os.fsdecode(name)
        own = self._is_own(ctx)
        await self._create(text, own)
        self._ghosts.pop(text, None)
        inode = self._inodes.of(text)
        inode.lookups += 1
        info = self._add_handle(inode, await self._open_truncated(text, flags, own))
        return info, await self._describe(inode)

    async def _create(self, name: str, own: bool) -> None:
        db_name, kind = split(name)
        may_write = own or self._store.writable
        if name in (special.PRIMARY, special.LAG) or kind in (Kind.POS, Kind.LOCK):
            raise ACCESS_DENIED
        # On a replica a database may be opened before it has arrived: it is empty and takes no writes until then.
        # (Waiting for it here would keep the directory locked, and with it the one who brings it.)
        if not may_write and kind not in (Kind.DATABASE, Kind.WAL, Kind.SHM):
            known = self._store.opened(db_name)
            if kind is not Kind.JOURNAL or known is None or not known.writable:
                raise ACCESS_DENIED
        if kind is Kind.SUPER:
            _touch(self._store.super_dir / name)
            return
        db = await self._database(db_name, create=kind is Kind.DATABASE)
        match kind:
            case Kind.DATABASE:
                _touch(db.file)
                db.directory_changed()
            case Kind.JOURNAL:
                db.journal.create()
            case Kind.WAL:
                await self._settle(db)
                db.wal.create()
            case Kind.SHM if db.shm is None:
                db.shm = os.memfd_create(f"{db_name}-shm", os.MFD_CLOEXEC)

    # ----------------------------------------------------------------------------------------------- open files

    @request
    async def read(self, fh: int, off: int, size: int) -> bytes:
        return await self._handles[fh].read(off, size)

    @request
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        self.last_request = trio.current_time()
        self.active.set()
        return await self._handles[fh].write(off, buf)

    @request
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._handles[fh].fsync()

    async def flush(self, fh: int) -> None:
        raise FUSEError(errno.ENOSYS)  # nothing is buffered here; and the kernel never asks again

    @request
    async def release(self, fh: int) -> None:
        handle = self._handles.pop(fh)
        handles = self._by_inode[handle.inode]
        handles.discard(handle)
        if not handles:
            del self._by_inode[handle.inode]
        handle.release()
        if isinstance(handle, DatabaseHandle):
            await handle.finish()

    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        raise FUSEError(errno.ENOSYS)

    # ----------------------------------------------------------------------------------------------- attributes

    @request
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> EntryAttributes:
        if inode == ROOT:
            return self._root()
        file = self._inodes.get(inode)
        if fields.update_size:
            if fh is not None:
                await self._handles[fh].truncate(attr.st_size)
            else:
                await self._truncate(file.name, attr.st_size, self._is_own(ctx))
        return await self._getattr(file)

    async def _truncate(self, name: str, size: int, own: bool) -> None:
        db_name, kind = split(name)
        known = self._store.opened(db_name)
        if not own and not (self._store.writable or (known and known.writable)) and kind is not Kind.SHM:
            raise ACCESS_DENIED
        handle = await self._open(name, os.O_RDWR, own)
        try:
            if kind is Kind.WAL and isinstance(handle, FileHandle):
                await truncate_wal(await self._database(db_name), size, own, handle.fd)
            else:
                await handle.truncate(size)
        finally:
            handle.release()
            if isinstance(handle, DatabaseHandle):
                await handle.finish()

    # --------------------------------------------------------------------------------------------------- delete

    @request
    async def unlink(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        text = os.fsdecode(name)
        if text in (special.PRIMARY, special.LAG):
            raise ACCESS_DENIED
        db_name, kind = split(text)
        if self._ghosts.pop(text, None) is not None:
            self._deleted(text)
            return
        if kind is Kind.SUPER:
            os.unlink(self._store.super_dir / text)
        elif kind is Kind.LOCK or (kind is Kind.POS and (await self._database(db_name)).exists):
            raise OSError(errno.EPERM, "not a file that can be deleted")
        elif kind is Kind.POS:
            raise NO_ENTRY  # it went with the database, as far as those who clean up are concerned
        else:
            db = await self._database(db_name)
            await self._unlink(db, kind, self._is_own(ctx))
        self._deleted(text)

    async def _unlink(self, db: Database, kind: Kind, own: bool) -> None:
        if kind is not Kind.SHM and not self._path_exists(db, kind):
            raise NO_ENTRY
        match kind:
            case Kind.DATABASE:
                await self._unlink_database(db, own)
            case Kind.JOURNAL:
                if not own:
                    await db.journal.finalise()
                db.journal.remove(in_use=self._is_open(f"{db.name}{kind.value}"))
            case Kind.WAL:
                if not own and not db.writable and db.wal.end:
                    raise ACCESS_DENIED
                await db.wal.before_restart(own=own)
                db.wal.close()
                os.unlink(db.wal.path)
                db.directory_changed()
            case Kind.SHM:
                db.drop_shm()

    def _is_open(self, name: str) -> bool:
        inode = self._inodes.known(name)
        return inode is not None and bool(self._by_inode.get(inode.number))

    def _path_exists(self, db: Database, kind: Kind) -> bool:
        return os.path.exists(self._path(db, kind))

    async def _unlink_database(self, db: Database, own: bool) -> None:
        if own:
            db.remove_files()
        elif not self._store.writable:
            raise ACCESS_DENIED
        else:
            await db.drop()
        for kind in (Kind.JOURNAL, Kind.WAL, Kind.SHM):
            side = db.name + kind.value
            if self._inodes.known(side) is not None:
                self._deleted(side)
                if kind is not Kind.SHM:
                    self._ghosts[side] = trio.current_time() + GHOST_TIME
                pyfuse3.invalidate_entry_async(ROOT, os.fsencode(side), ignore_enoent=True)

    def _deleted(self, name: str) -> None:
        inode = self._inodes.known(name)
        if inode is None:
            return
        for handle in self._by_inode.get(inode.number, ()):
            handle.alive = False
        self._inodes.delete(name)

    # ------------------------------------------------------------------------------------- what makes no sense

    async def mkdir(self, parent: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        raise FUSEError(errno.EPERM)

    async def rmdir(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        raise FUSEError(errno.EPERM)

    async def mknod(self, *args: Any) -> EntryAttributes:
        raise FUSEError(errno.EPERM)

    async def symlink(self, *args: Any) -> EntryAttributes:
        raise FUSEError(errno.EPERM)

    async def link(self, *args: Any) -> EntryAttributes:
        raise FUSEError(errno.EPERM)

    async def rename(self, *args: Any) -> None:
        raise FUSEError(errno.EPERM)


def _touch(path: os.PathLike[str]) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
