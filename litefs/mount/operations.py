"""FUSE requests, turned into calls of the store.

Everything that changes goes through this mount, so the kernel may cache names, attributes and pages for as long as
it likes; only the files that tell of the cluster are asked for each time. A round trip costs more than all the work
behind it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Any

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError

from litefs.errors import BadName, DatabaseNotFound
from litefs.mount import special
from litefs.mount.attributes import NO_ENTRY, Attributes, backing_file
from litefs.mount.ghosts import Ghosts
from litefs.mount.handles import NOT_PRIMARY, DatabaseHandle, Handle
from litefs.mount.inodes import ROOT, Inodes
from litefs.mount.listing import listing
from litefs.mount.openers import Openers
from litefs.mount.openfiles import OpenFiles
from litefs.mount.opening import Opener
from litefs.mount.requests import request
from litefs.store.database import Database
from litefs.store.names import Kind, split
from litefs.store.store import Store

LEAVING = OSError(errno.ENOTCONN, "the node is stopping")


class Operations(pyfuse3.Operations):
    """Request handlers of one mount."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, store: Store, role: special.Role) -> None:
        super().__init__()
        self._store = store
        self._role = role
        self._inodes = Inodes()
        self._open = OpenFiles()
        self._handles = self._open.handles
        self._attributes = Attributes(store, role, self._open)
        self._opener = Opener(store, role)
        self._ghosts = Ghosts()
        self._openers = Openers()
        self.closing = False  # no file is opened any more
        self.closed = False  # nothing is read any more
        self.last_request = 0.0  # trio time; what keeps the loop awake looks at it
        self.active = trio.Event()

    def mounted(self) -> None:
        """The mount is there from now on."""
        self._openers = Openers()

    def _is_own(self, ctx: pyfuse3.RequestContext) -> bool:
        """Whether the node's own client process asks. FUSE reports thread ids."""
        return os.path.exists(f"/proc/{self._store.client.pid}/task/{ctx.pid}")

    # ---------------------------------------------------------------------------------------------------- names

    @request
    async def lookup(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        text = os.fsdecode(name)
        if text == ".":
            return self._attributes.root()
        if text in self._ghosts:
            inode = self._inodes.of(text)
            inode.lookups += 1
            return self._attributes.ghost(inode)
        known = self._inodes.known(text)
        inode = known or self._inodes.of(text)
        try:
            entry = await self._attributes.of_living(inode)
        except (FileNotFoundError, DatabaseNotFound, BadName):
            if known is None:
                self._inodes.forget(inode.number, 0)
            return self._attributes.absent(Kind.POS if text in special.NAMES else split(text)[1])
        inode.lookups += 1
        return entry

    @request
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        if inode == ROOT:
            return self._attributes.root()
        if self.closed:
            raise LEAVING
        return await self._attributes.of(self._inodes.get(inode))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for number, lookups in inode_list:
            if not self._open.of(number):
                self._inodes.forget(number, lookups)
            elif number != ROOT:
                self._inodes.get(number).lookups -= lookups

    # ------------------------------------------------------------------------------------------------ directory

    @request
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return inode

    @request
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        names = listing(self._store, self._role)
        for number, name in enumerate(names[start_id:], start_id + 1):
            inode = self._inodes.of(name)
            try:
                entry = await self._attributes.of_living(inode)
            except (OSError, DatabaseNotFound):  # one that cannot be used must not hide the others
                continue
            if not pyfuse3.readdir_reply(token, os.fsencode(name), entry, number):
                return
            inode.lookups += 1

    @request
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._store.directories.sync()

    @request
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        found = os.statvfs(self._store.data_dir)
        reply = pyfuse3.StatvfsData()
        for name in (
            "f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail", "f_namemax",
        ):  # fmt: skip
            setattr(reply, name, getattr(found, name))
        return reply

    # --------------------------------------------------------------------------------------------------- opening

    @request
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> FileInfo:
        file = self._inodes.get(inode)
        own = self._is_own(ctx)
        self._check_closing(own)
        if self._ghosts.remove(file.name):
            self._deleted(file.name)
        if not file.alive:
            raise OSError(errno.ESTALE, "the file was deleted")  # the kernel looks again, and makes one where it may
        self._check_opener(file.name, ctx, own)
        handle = await self._opener.open(file.name, flags, own)
        self._note_opener(handle, file.name, ctx)
        return self._open.add(file, handle)

    def _check_closing(self, own: bool) -> None:
        """A program that has a part of a database open must not find the rest of it somewhere else."""
        if self.closing and not own:
            raise LEAVING

    @request
    async def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        text = os.fsdecode(name)
        own = self._is_own(ctx)
        self._check_closing(own)
        self._check_opener(text, ctx, own)
        await self._opener.make(text, own)
        self._ghosts.remove(text)
        inode = self._inodes.of(text)
        inode.lookups += 1
        handle = await self._opener.open(text, flags, own)
        self._note_opener(handle, text, ctx)
        info = self._open.add(inode, handle)
        return info, await self._attributes.of_living(inode)

    def _check_opener(self, name: str, ctx: pyfuse3.RequestContext, own: bool) -> None:
        if not own and name not in special.NAMES:
            db_name, kind = split(name)
            if kind in (Kind.WAL, Kind.SHM, Kind.JOURNAL):
                self._openers.check(db_name, ctx.pid)

    def _note_opener(self, handle: Handle, name: str, ctx: pyfuse3.RequestContext) -> None:
        if isinstance(handle, DatabaseHandle) and not handle.own:
            self._openers.opened(name, ctx.pid)

    # ----------------------------------------------------------------------------------------------- open files

    @request
    async def read(self, fh: int, off: int, size: int) -> bytes:
        if self.closed:
            raise LEAVING
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
        handle = self._open.remove(fh)
        handle.release()
        if isinstance(handle, DatabaseHandle):
            await handle.finish()

    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        raise FUSEError(errno.ENOSYS)

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
            return self._attributes.root()
        file = self._inodes.get(inode)
        if fields.update_size:
            if fh is not None:
                await self._handles[fh].truncate(attr.st_size)
            else:
                await self._opener.truncate(file.name, attr.st_size, self._is_own(ctx))
        return await self._attributes.of(file)

    # --------------------------------------------------------------------------------------------------- delete

    @request
    async def unlink(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        text = os.fsdecode(name)
        if text in special.NAMES:
            raise NOT_PRIMARY
        db_name, kind = split(text)
        if self._ghosts.remove(text):
            self._deleted(text)
            return
        if kind is Kind.SUPER:
            os.unlink(self._store.super_dir / text)
            self._store.super_changed()
        elif kind is Kind.LOCK or (kind is Kind.POS and (await self._store.database(db_name)).exists):
            raise OSError(errno.EPERM, "not a file that can be deleted")
        elif kind is Kind.POS:
            raise NO_ENTRY  # it went with the database, as far as those who clean up are concerned
        else:
            db = await self._store.database(db_name)
            await self._unlink(db, kind, self._is_own(ctx))
        self._deleted(text)

    async def _unlink(self, db: Database, kind: Kind, own: bool) -> None:
        if kind is not Kind.SHM and not os.path.exists(backing_file(db, kind)):
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
                    raise NOT_PRIMARY
                await db.wal.before_restart(own=own)
                db.wal.close()
                os.unlink(db.wal.path)
                db.directory_changed()
            case Kind.SHM:
                db.drop_shm()

    def _is_open(self, name: str) -> bool:
        inode = self._inodes.known(name)
        return inode is not None and bool(self._open.of(inode.number))

    async def _unlink_database(self, db: Database, own: bool) -> None:
        if own:
            db.remove_files()
        elif not self._store.writable:
            raise self._store.refusal(errno.EACCES)
        else:
            await db.drop()
        for kind in (Kind.JOURNAL, Kind.WAL, Kind.SHM):
            side = db.name + kind.value
            if self._inodes.known(side) is not None:
                self._deleted(side)
                if kind is not Kind.SHM:
                    self._ghosts.add(side)
                pyfuse3.invalidate_entry_async(ROOT, os.fsencode(side), ignore_enoent=True)

    def _deleted(self, name: str) -> None:
        inode = self._inodes.known(name)
        if inode is None:
            return
        for handle in self._open.of(inode.number):
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
