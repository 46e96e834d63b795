"""The files that applications have open: by the number that the kernel has of a handle, and by inode."""

from __future__ import annotations

from collections.abc import Collection

from pyfuse3 import FileInfo

from litefs.mount.handles import Handle
from litefs.mount.inodes import Inode


class OpenFiles:
    """All handles of one mount.

    Attributes:
        handles: by number; a number is used once.
    """

    def __init__(self) -> None:
        self.handles: dict[int, Handle] = {}
        self._by_inode: dict[int, set[Handle]] = {}
        self._last = 0

    def add(self, inode: Inode, handle: Handle) -> FileInfo:
        """A file was opened: what the kernel is told of it."""
        self._last += 1
        self.handles[self._last] = handle
        self._by_inode.setdefault(inode.number, set()).add(handle)
        handle.inode = inode.number
        keep_cache = handle.keep_cache and not handle.direct_io
        return FileInfo(fh=self._last, direct_io=handle.direct_io, keep_cache=keep_cache)

    def remove(self, number: int) -> Handle:
        """The last descriptor of a handle was closed; the handle, which the caller releases."""
        handle = self.handles.pop(number)
        others = self._by_inode[handle.inode]
        others.discard(handle)
        if not others:
            del self._by_inode[handle.inode]
        return handle

    def of(self, number: int) -> Collection[Handle]:
        """The handles on the file with this inode number, also on one that was deleted meanwhile."""
        return self._by_inode.get(number, ())
