"""What a program does to the files of one directory, in order, with marks that the program itself sets.

Seen by strace, so it is what the kernel was asked for, whoever asked: all processes and threads, also those that the
program starts. A line that says that a call begins, and one that says that it ends, are what order can be told from:
a change counts from the moment its call has ended, and a sync covers what had ended before it began.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CALLS = (
    "openat,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fsync,fdatasync,syncfs,sync,rename,renameat,"
    "renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,copy_file_range,sendfile,fallocate,sync_file_range,lseek"
)
LIMIT = 1 << 24  # bytes of one write that are recorded; more is an error


def prefix(strace: str, output: Path) -> list[str]:
    """Words before a command that have it recorded."""
    return [
        strace, "--seccomp-bpf", "-f", "-y", "-xx", "-s", str(LIMIT), "-o", str(output),
        "-e", f"trace={CALLS}", "-e", "signal=none", "--",
    ]  # fmt: skip


@dataclass(slots=True)
class Change:
    """One thing that happened.

    Attributes:
        kind: file, directory, entry (a name appears, or moves to another file), gone (a name disappears), write,
            truncate, sync, mark.
        inode: number of the file or directory; of syncs, 0 = the whole file system.
        start: index of the first change that a sync does not cover.
    """

    kind: str
    inode: int = 0
    directory: int = 0
    name: str = ""
    offset: int = 0
    data: bytes = b""
    start: int = 0
    moved: tuple[int, str] | None = None  # where an entry comes from: it disappears there


@dataclass
class Recording:
    """All of it, in order. The directory itself is inode 1."""

    changes: list[Change] = field(default_factory=list)

    def marks(self) -> Iterator[tuple[int, str]]:
        """(index, text) of each mark."""
        for index, change in enumerate(self.changes):
            if change.kind == "mark":
                yield index, change.data.decode()


class Tree:
    """Names as they are at a moment: directories are dictionaries, by their inode."""

    def __init__(self) -> None:
        self.directories: dict[int, dict[str, int]] = {1: {}}

    def find(self, path: Sequence[str]) -> int | None:
        """Inode of a path below the root."""
        at = 1
        for name in path:
            entries = self.directories.get(at)
            if entries is None or name not in entries:
                return None
            at = entries[name]
        return at


_LINE = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$", re.DOTALL)
_RESULT = re.compile(r"\)\s+= (-?\d+|\?)(<[^ ]*>)?[^=]*$")
_FD = re.compile(r"(-?\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


def _text(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


class Reader:
    """Turns the lines that strace wrote into changes.

    Args:
        root: the directory; nothing else is of interest.
        marks: a file outside; what is written to it is a mark.
    """

    def __init__(self, root: Path, marks: Path) -> None:
        self._root = str(root)
        self._marks = str(marks)
        self._tree = Tree()
        self._inodes = 1
        self._deleted: dict[str, int] = {}  # path as strace shows it -> inode that was last deleted there
        self._nameless: dict[str, int] = {}  # descriptor -> inode of a file that has no name yet
        self._positions: dict[str, int] = {}  # descriptor -> where the next write goes; negative: to the end
        self._sizes: dict[int, int] = {}
        self._begun: dict[str, tuple[str, str, int]] = {}  # thread -> call, its arguments so far, when it began
        self.recording = Recording()

    def read(self, path: Path) -> Recording:
        """All lines of a file."""
        with open(path, encoding="latin-1") as file:
            for line in file:
                self._line(line.rstrip("\n"))
        return self.recording

    def _line(self, line: str) -> None:
        match = _LINE.match(line)
        if match is None:
            return
        thread, resumed, call, rest = match.groups()
        now = len(self.recording.changes)
        if resumed:
            call, first, start = self._begun.pop(thread, (resumed, "", now))
            if not first and call in ("write", "fsync", "fdatasync", "syncfs"):
                return
            arguments = first + rest
        elif rest.endswith("<unfinished ...>"):
            arguments = rest.removesuffix("<unfinished ...>")
            self._mark(call, arguments)
            self._begun[thread] = (call, arguments, now)
            return
        else:
            start, arguments = now, rest
            self._mark(call, arguments)
        result = _RESULT.search(arguments)
        if result is None or result[1] == "?" or int(result[1]) < 0:
            return
        handler = getattr(self, f"_{call}", None)
        assert handler is not None, f"no idea what {call} does"
        handler(arguments[: result.start()], int(result[1]), start, arguments[result.start() :])

    def _add(self, change: Change) -> None:
        self.recording.changes.append(change)

    def _mark(self, call: str, arguments: str) -> None:
        """Marks count from when they are about to be set."""
        if call == "write":
            fd = _FD.match(arguments)
            if fd and _text(fd[2]).decode(errors="replace") == self._marks:
                string = _STRING.search(arguments)
                assert string is not None
                for line in _text(string[1]).splitlines():
                    self._add(Change("mark", data=line))

    # ------------------------------------------------------------------------------------------------ names

    def _parts(self, path: str) -> list[str] | None:
        """Names below the root; None for a path elsewhere."""
        if path == self._root:
            return []
        if not path.startswith(self._root + "/"):
            return None
        return path[len(self._root) + 1 :].split("/")

    def _paths(self, arguments: str) -> list[str]:
        """Paths that a call names, each from the directory before it."""
        base, found = os.sep, []
        tokens = sorted([*_FD.finditer(arguments), *_STRING.finditer(arguments)], key=lambda match: match.start())
        for token in tokens:
            if token.re is _FD:
                base = _text(token[2]).decode(errors="replace")
            else:
                found.append(os.path.normpath(os.path.join(base, _text(token[1]).decode(errors="replace"))))
        return found

    def _place(self, path: str) -> tuple[int, str] | None:
        """Directory and name; None when it is elsewhere."""
        parts = self._parts(path)
        if not parts:
            return None
        directory = self._tree.find(parts[:-1])
        return None if directory is None else (directory, parts[-1])

    def _new(self, kind: str) -> int:
        self._inodes += 1
        self._add(Change(kind, self._inodes))
        if kind == "directory":
            self._tree.directories[self._inodes] = {}
        return self._inodes

    def _enter(self, path: str, inode: int, moved: tuple[int, str] | None = None) -> None:
        place = self._place(path)
        assert place is not None
        directory, name = place
        replaced = self._tree.directories[directory].get(name)
        if replaced is not None:
            self._deleted[path] = replaced
        self._tree.directories[directory][name] = inode
        self._add(Change("entry", inode, directory, name, moved=moved))

    def _leave(self, path: str) -> None:
        place = self._place(path)
        if place is None:
            return
        directory, name = place
        self._deleted[path] = self._tree.directories[directory].pop(name)
        self._add(Change("gone", self._deleted[path], directory, name))

    def _file(self, arguments: str) -> int | None:
        """Inode of the descriptor that a call names first; None when it is elsewhere."""
        match = _FD.match(arguments)
        if match is None:
            return None
        path = _text(match[2]).decode(errors="replace")
        if self._parts(path) is None:
            return None
        if match[3]:
            return self._deleted.get(path)
        found = self._tree.find(self._parts(path) or [])
        return found if found is not None else self._deleted.get(path)

    # ------------------------------------------------------------------------------------------------ calls

    def _openat(self, arguments: str, result: int, start: int, rest: str) -> None:
        (path,) = self._paths(arguments)
        parts = self._parts(path)
        if parts is None:
            return
        self._positions[str(result)] = -1 if "O_APPEND" in arguments else 0
        place = self._place(path)
        if "O_TMPFILE" in arguments:
            inode = self._new("file")
            shown = _FD.search(rest)
            assert shown is not None
            self._deleted[_text(shown[2]).decode()] = inode
            self._nameless[shown[1]] = inode
        elif place is not None:
            known = self._tree.directories[place[0]].get(place[1])
            if known is None:
                assert "O_CREAT" in arguments, f"{path} comes from nowhere"
                self._enter(path, self._new("file"))
            elif "O_TRUNC" in arguments:
                self._cut(known, 0)

    def _lseek(self, arguments: str, result: int, start: int, rest: str) -> None:
        self._positions[arguments.partition("<")[0]] = result

    def _write(self, arguments: str, result: int, start: int, rest: str) -> None:
        inode = self._file(arguments)
        if inode is not None:
            fd = arguments.partition("<")[0]
            at = self._positions[fd]
            if at >= 0:
                self._positions[fd] += result
            self._written(inode, arguments, result, self._sizes.get(inode, 0) if at < 0 else at)

    def _written(self, inode: int, arguments: str, result: int, offset: int) -> None:
        data = b"".join(_text(match[1]) for match in _STRING.finditer(arguments))
        assert len(data) >= result, f"only {len(data)} of {result} bytes were recorded"
        self._sizes[inode] = max(self._sizes.get(inode, 0), offset + result)
        self._add(Change("write", inode, offset=offset, data=data[:result]))

    def _cut(self, inode: int, size: int) -> None:
        self._sizes[inode] = size
        self._add(Change("truncate", inode, offset=size))

    _writev = _write

    def _pwrite64(self, arguments: str, result: int, start: int, rest: str) -> None:
        inode = self._file(arguments)
        if inode is not None:
            self._written(inode, arguments, result, int(arguments.rpartition(", ")[2]))

    _pwritev = _pwrite64

    def _pwritev2(self, arguments: str, result: int, start: int, rest: str) -> None:
        self._pwrite64(arguments.rpartition(", ")[0], result, start, rest)

    def _ftruncate(self, arguments: str, result: int, start: int, rest: str) -> None:
        inode = self._file(arguments)
        if inode is not None:
            self._cut(inode, int(arguments.rpartition(", ")[2]))

    def _truncate(self, arguments: str, result: int, start: int, rest: str) -> None:
        (path,) = self._paths(arguments)
        if (parts := self._parts(path)) is not None:
            inode = self._tree.find(parts)
            assert inode is not None
            self._cut(inode, int(arguments.rpartition(", ")[2]))

    def _fsync(self, arguments: str, result: int, start: int, rest: str) -> None:
        inode = self._file(arguments)
        if inode is not None:
            self._add(Change("sync", inode, start=start))

    _fdatasync = _fsync

    def _syncfs(self, arguments: str, result: int, start: int, rest: str) -> None:
        if self._file(arguments) is not None:
            self._add(Change("sync", 0, start=start))

    def _rename(self, arguments: str, result: int, start: int, rest: str) -> None:
        old, new = self._paths(arguments)
        source, target = self._place(old), self._place(new)
        if source is None and target is None:
            return
        assert source is not None, f"{old} is moved in"
        assert target is not None, f"{new} is moved out"
        inode = self._tree.directories[source[0]].pop(source[1])
        self._deleted[old] = inode  # a call that is under way may still name it so
        self._enter(new, inode, source)

    _renameat = _rename
    _renameat2 = _rename

    def _linkat(self, arguments: str, result: int, start: int, rest: str) -> None:
        old, new = self._paths(arguments)
        if self._parts(new) is None:
            return
        if (parts := self._parts(old)) is not None:
            inode = self._tree.find(parts)
        else:
            inode = self._nameless.get(old.rpartition("/")[2])
        assert inode is not None, f"{old} is linked in"
        self._enter(new, inode)

    _link = _linkat

    def _unlink(self, arguments: str, result: int, start: int, rest: str) -> None:
        self._leave(self._paths(arguments)[0])

    _unlinkat = _unlink
    _rmdir = _unlink

    def _mkdir(self, arguments: str, result: int, start: int, rest: str) -> None:
        path = self._paths(arguments)[0]
        if path == self._root:
            return
        if self._place(path) is not None:
            self._enter(path, self._new("directory"))

    _mkdirat = _mkdir

    def _copy_file_range(self, arguments: str, result: int, start: int, rest: str) -> None:
        files = list(_FD.finditer(arguments))
        target = self._file(arguments[files[1].start() :])
        assert target is None or result == 0, "a copy by the kernel is not recorded"

    _sendfile = _copy_file_range

    def _other(self, arguments: str, result: int, start: int, rest: str) -> None:
        assert self._file(arguments) is None, "not recorded"

    _fallocate = _other

    def _sync_file_range(self, arguments: str, result: int, start: int, rest: str) -> None:
        """Waits for what is being written anyway; nothing is durable by that."""
        assert arguments.endswith(" SYNC_FILE_RANGE_WAIT_BEFORE"), "not recorded"
