"""What a disk may hold when power fails at some point of a recording.

Two sets of rules:

- `ordered`: a journaling file system as most people have it. Names and sizes reach the disk in the order in which they
  were changed; a sync of a file or directory takes with it all that was changed before the last thing that it needs.
- `loose`: each directory and each file for itself. Names last once their directory has been synced; before that they
  reach the disk in the order of their changes, but other directories may be further, or not as far. A sync of a new
  file takes its first name with it, and no other. Sizes come in any order.

Under both, content that was not synced may be there or not, each piece of it for itself, and torn.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from .recording import Change, Recording

SECTOR = 512  # bytes that are written whole
ORDERED, LOOSE = "ordered", "loose"
NAMES = ("entry", "gone")


@dataclass(frozen=True, slots=True)
class Fate:
    """How a crash treats what was not synced.

    Attributes:
        rules: ORDERED or LOOSE.
        point: index of the first change that never happened.
        kept: share of unsynced pieces that reach the disk: 0 to 1.
        seed: of everything random in it.
        killed: which of recovery's changes to the directory never happened, because it was killed; 0: it was not.
    """

    rules: str
    point: int
    kept: float
    seed: int
    killed: int = 0


class Disk:
    """The changes of a recording, prepared for being cut off anywhere."""

    def __init__(self, recording: Recording) -> None:
        self._changes = recording.changes

    def crash(self, fate: Fate, target: Path) -> None:
        """Make the directory as it is found after power has failed."""
        state = _State(self._changes[: fate.point], fate)
        state.write(target)

    def points(self) -> int:
        """Number of moments at which power may fail."""
        return len(self._changes) + 1


class _State:
    def __init__(self, changes: list[Change], fate: Fate) -> None:
        self._changes = changes
        self._fate = fate
        self._random = random.Random(fate.seed)
        self._everything = 0  # changes before this index are durable, whatever they are
        self._synced: dict[int, int] = defaultdict(int)  # inode -> its changes before this index are durable
        self._directories = {1}
        for change in changes:
            if change.kind == "sync" and change.inode == 0:
                self._everything = max(self._everything, change.start)
            elif change.kind == "sync":
                self._synced[change.inode] = max(self._synced[change.inode], change.start)
            elif change.kind == "directory":
                self._directories.add(change.inode)
        for index, change in enumerate(changes):
            if change.kind == "entry" and change.moved is None and index < self._synced[change.inode]:
                self._synced[change.directory] = max(self._synced[change.directory], index + 1)
        self._metadata = self._ordered_metadata() if fate.rules == ORDERED else 0

    # -------------------------------------------------------------------------------------------- what is durable

    def _ordered_metadata(self) -> int:
        """Index before which all names and sizes are durable."""
        durable = self._everything
        sizes: dict[int, int] = defaultdict(int)
        last = 0
        for index, change in enumerate(self._changes):
            if change.kind == "write":
                if change.offset + len(change.data) <= sizes[change.inode]:
                    continue
                sizes[change.inode] = change.offset + len(change.data)
            elif change.kind == "truncate":
                sizes[change.inode] = change.offset
            elif change.kind not in NAMES:
                continue
            last = index + 1
            if index < max(self._synced[change.inode], self._synced[change.directory]):
                durable = max(durable, index + 1)
        return self._random.randint(durable, last) if durable < last and self._keeps() else durable

    def _is_synced(self, index: int, inode: int) -> bool:
        return index < self._everything or index < self._synced[inode]

    def _keeps(self) -> bool:
        return self._random.random() < self._fate.kept

    # ---------------------------------------------------------------------------------------------------- names

    def _entries(self) -> dict[int, dict[str, int]]:
        """Directory -> name -> inode."""
        found: dict[int, dict[str, int]] = defaultdict(dict)
        stopped: set[int] = set()  # directories whose later changes did not reach the disk
        for index, change in enumerate(self._changes):
            if change.kind not in NAMES:
                continue
            places = {change.directory} | ({change.moved[0]} if change.moved else set())
            if not self._name_is_durable(index, change) and (
                self._fate.rules == ORDERED or places & stopped or not self._keeps()
            ):
                stopped |= places
                continue
            if change.moved is not None:
                found[change.moved[0]].pop(change.moved[1], None)
            if change.kind == "entry":
                found[change.directory][change.name] = change.inode
            else:
                found[change.directory].pop(change.name, None)
        return found

    def _name_is_durable(self, index: int, change: Change) -> bool:
        if index < max(self._metadata, self._everything):
            return True
        if self._fate.rules == ORDERED:
            return False
        moved = change.moved is None or index < self._synced[change.moved[0]]
        return index < self._synced[change.directory] and moved

    # -------------------------------------------------------------------------------------------------- content

    def _content(self, inode: int, changes: list[tuple[int, Change]]) -> bytearray:
        content = bytearray()
        for index, change in changes:
            durable = self._is_synced(index, inode)
            if change.kind == "truncate":
                if durable or index < self._metadata or (self._fate.rules == LOOSE and self._keeps()):
                    _resize(content, change.offset)
            elif durable:
                _put(content, change.offset, change.data)
            elif self._fate.rules == LOOSE or index < self._metadata or change.offset < len(content):
                self._put_some(content, change, grow=self._fate.rules == LOOSE or index < self._metadata)
        return content

    def _put_some(self, content: bytearray, change: Change, *, grow: bool) -> None:
        """A write that was not synced: whole, not at all, or some of its sectors."""
        data = change.data if grow else change.data[: max(0, len(content) - change.offset)]
        if self._keeps():
            _put(content, change.offset, data)
        elif self._keeps():
            for at in range(0, len(data), SECTOR):
                if self._random.randrange(2):
                    _put(content, change.offset + at, data[at : at + SECTOR])
        elif grow and self._fate.rules == ORDERED:
            _resize(content, max(len(content), change.offset + len(data)))

    # ------------------------------------------------------------------------------------------------ as files

    def write(self, target: Path) -> None:
        """Make it all."""
        entries = self._entries()
        contents: dict[int, list[tuple[int, Change]]] = defaultdict(list)
        for index, change in enumerate(self._changes):
            if change.kind in ("write", "truncate"):
                contents[change.inode].append((index, change))
        made: dict[int, bytearray] = {}
        todo = [(1, target)]
        while todo:
            directory, path = todo.pop()
            path.mkdir()
            for name, inode in entries[directory].items():
                if inode in self._directories:
                    todo.append((inode, path / name))
                    continue
                if inode not in made:
                    made[inode] = self._content(inode, contents[inode])
                fd = os.open(path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                os.write(fd, made[inode])
                os.close(fd)


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if data:
        _resize(content, max(len(content), offset + len(data)))
        content[offset : offset + len(data)] = data
