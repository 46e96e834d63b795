"""Branches: transactions that the cluster went on without, kept until a person has looked at them. Blocking.

    branches/DATABASE/TIME-MIN-MAX/
        branch.json   what it is, see `Branch`
        database      the database at position `base`, a plain SQLite file; absent where it was not worth its space
        *.ltx         transactions MIN to MAX, as the node had them

Nothing reads a branch but the commands for it; a directory may be moved or deleted at any time.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from litefs import jsontext, ltx
from litefs.errors import BadName, LTXError, StoreError
from litefs.ltx import Pos
from litefs.store.names import check_name
from litefs.store.syncing import sync_directory

DIRECTORY = "branches"
DESCRIPTION = "branch.json"
COPY = "database"
UNFINISHED = ".new-"  # prefix of a directory that is still being made


class Reason(StrEnum):
    """Why a branch was kept."""

    DIVERGED = "diverged"  # the primary has another history: these transactions are not in it
    UNCONFIRMED = "unconfirmed"  # made here, and nobody could say whether the primary had received them
    SUPERSEDED = "superseded"  # received from a primary, then replaced by a snapshot of a newer state
    RESTORED = "restored"  # replaced on the primary by a backup
    DAMAGED = "damaged"  # files that contradict each other, put aside by a start
    TORN = "torn"  # a transaction file cut short by a crash, put aside by a start


# Branches of one database that are kept, the newest ones. What may hold acknowledged transactions stays longest.
LIMITS = {
    Reason.DIVERGED: 10,
    Reason.UNCONFIRMED: 10,
    Reason.SUPERSEDED: 2,
    Reason.RESTORED: 3,
    Reason.DAMAGED: 3,
    Reason.TORN: 3,
}


class NoSuchBranch(StoreError):
    """No branch of that name is kept in the data directory."""


class Incomplete(StoreError):
    """A branch does not hold enough to make a database of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """What ``branch.json`` says.

    Attributes:
        database: name.
        reason: one of `Reason`.
        time: when it was kept, RFC 3339.
        tip: position that it leads to, ``TXID/checksum``; empty where that is not known.
        tip_time: when its last transaction was made.
        page_size, pages: of the database at the tip, in bytes and pages.
        base: position of the copy of the database; empty without one.
        replaced_by: position of the snapshot that took its place.
        replaced_by_node: id of the node that sent it.
        changed_pages: pages in which that differs from the tip, -1 where nobody counted.
        node, hostname, cluster_id: of the node that kept it.
        note: more about it, for people.
    """

    database: str
    reason: str
    time: str
    tip: str = ""
    tip_time: str = ""
    page_size: int = 0
    pages: int = 0
    base: str = ""
    replaced_by: str = ""
    replaced_by_node: str = ""
    changed_pages: int = -1
    node: str = ""
    hostname: str = ""
    cluster_id: str = ""
    note: str = ""
    path: Path = field(default=Path(), compare=False)

    @property
    def id(self) -> str:
        """Name of its directory."""
        return self.path.name

    @property
    def name(self) -> str:
        """What commands call it."""
        return f"{self.database}/{self.id}"

    @property
    def copy(self) -> Path:
        """The file with the copy of the database, whether there is one or not."""
        return self.path / COPY

    def ranges(self) -> list[tuple[int, int]]:
        """TXIDs of its LTX files, oldest first."""
        found = (ltx.parse_filename(name) for name in os.listdir(self.path))
        return sorted(txids for txids in found if txids is not None)

    def size(self) -> int:
        """Bytes that it takes on the disk."""
        total = 0
        for entry in os.scandir(self.path):
            with suppress(OSError):
                total += entry.stat().st_blocks * 512
        return total

    def chain(self) -> list[tuple[int, int]]:
        """The LTX files that lead from its copy, or from nothing, to the tip.

        Raises:
            Incomplete: there is no such chain.
        """
        if self.reason in (Reason.DAMAGED, Reason.TORN) or not self.tip:
            raise Incomplete(f"branch {self.name} is {self.reason}", f"look at its files: {self.path}")
        at, tip = Pos.parse(self.base).txid if self.base else 0, Pos.parse(self.tip)
        if tip.checksum == ltx.EMPTY:
            raise Incomplete(f"branch {self.name} ends with the deletion of the database", f"see {self.path}")
        starts = dict(self.ranges())  # of several with the same start, the longest
        found = []
        while at < tip.txid:
            if at + 1 not in starts:
                held = f"its files {self.path} hold what transactions {self.span()} changed"
                raise Incomplete(f"branch {self.name} has no copy of the database that it builds upon", held)
            found.append((at + 1, starts[at + 1]))
            at = starts[at + 1]
        return found

    def span(self) -> str:
        """First and last TXID as people read them: ``1f-a3``."""
        ranges = self.ranges()
        last = Pos.parse(self.tip).txid if self.tip else max((high for _, high in ranges), default=0)
        first = min((low for low, _ in ranges), default=last)
        return f"{first:x}-{last:x}" if first != last else f"{last:x}"


def now() -> str:
    """The present time as it stands in descriptions."""
    return stamp(time.time_ns() // 1_000_000)


def stamp(milliseconds: int) -> str:
    """A time, in ms since the epoch, by RFC 3339; empty for 0."""
    if not milliseconds:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# ---------------------------------------------------------------------------------------------------------- reading

_TYPES = {"page_size": int, "pages": int, "changed_pages": int, "path": type(Path())}  # all others are text


def branches(data_dir: Path) -> list[Branch]:
    """Every branch in a data directory, the oldest first; what is not one is passed over."""
    found = [branch for path in _directories(data_dir) if (branch := read(path)) is not None]
    return sorted(found, key=lambda branch: (branch.time, branch.name))


def _directories(data_dir: Path, database: str = "*") -> Iterator[Path]:
    root = data_dir / DIRECTORY
    names = [database] if database != "*" else os.listdir(root) if root.is_dir() else []
    for name in names:
        with suppress(FileNotFoundError, NotADirectoryError):
            for entry in os.scandir(root / name):
                if entry.is_dir() and not entry.name.startswith(UNFINISHED):
                    yield Path(entry.path)


def read(path: Path) -> Branch | None:
    """The branch in a directory; None when it has no description that can be understood."""
    try:
        content = jsontext.loads((path / DESCRIPTION).read_text("utf-8", "surrogateescape"))
        known = {item.name: content[item.name] for item in fields(Branch) if item.name in content}
        branch = Branch(**{**known, "path": path})
        for item in fields(Branch):
            if type(getattr(branch, item.name)) is not _TYPES.get(item.name, str):
                raise TypeError(item.name)
        for text in (branch.tip, branch.base):
            if text:
                Pos.parse(text)
        check_name(branch.database)
    except (OSError, ValueError, TypeError, LTXError, BadName):
        return None
    return branch


def is_exportable(branch: Branch) -> bool:
    """Whether a database can be made of it."""
    try:
        branch.chain()
    except (Incomplete, OSError):
        return branch.reason == Reason.DAMAGED and branch.copy.exists()
    return True


def find(data_dir: Path, name: str) -> Branch:
    """The branch that a person means: by ``DATABASE/ID``, by its id, or by the start of one that no other shares.

    Raises:
        NoSuchBranch: none, or several.
    """
    everything = branches(data_dir)
    for candidates in (
        [branch for branch in everything if name in (branch.name, branch.id)],
        [branch for branch in everything if branch.name.startswith(name) or branch.id.startswith(name)],
    ):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            names = ", ".join(branch.name for branch in candidates)
            raise NoSuchBranch(f"several branches are called {name!r}", f"name one of: {names}")
    raise NoSuchBranch(f"no branch {name!r} in {data_dir}", "list them with: litefs branches list")


# --------------------------------------------------------------------------------------------------------- changing


def begin(data_dir: Path, branch: Branch) -> Branch:
    """Make a directory for a branch, which is not one before `publish`."""
    path = data_dir / DIRECTORY / branch.database / f"{UNFINISHED}{_compact(branch.time)}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return replace(branch, path=path)


def publish(branch: Branch, low: int, high: int) -> Branch:
    """Write its description and give the directory its name, durably; old branches go where there are too many.

    Args:
        branch: from `begin`.
        low, high: first and last TXID of the transactions that it is about.

    Raises:
        OSError: the disk refused.
    """
    content: dict[str, Any] = {key: value for key, value in asdict(branch).items() if key != "path"}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    with open(branch.path / DESCRIPTION, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(branch.path)
    folder = branch.path.parent
    target = _free(folder / f"{_compact(branch.time)}-{ltx.filename(low, high).removesuffix('.ltx')}")
    os.rename(branch.path, target)
    for directory in (folder, folder.parent, folder.parent.parent):
        sync_directory(directory)
    _trim(folder.parent.parent, branch)
    return replace(branch, path=target)


def _compact(time: str) -> str:
    """A time as it stands in the names of directories: without characters that shells or other systems mind."""
    return time.replace("-", "").replace(":", "")


def abandon(branch: Branch) -> None:
    """Nothing came of it: remove what there is of it."""
    shutil.rmtree(branch.path, ignore_errors=True)
    with suppress(OSError):
        branch.path.parent.rmdir()  # if it was the only one


def discard(branch: Branch) -> None:
    """Delete a branch for good.

    Raises:
        OSError: the disk refused, or its files may not be removed by this user.
    """
    shutil.rmtree(branch.path)
    with suppress(OSError):
        branch.path.parent.rmdir()


def sweep(data_dir: Path) -> None:
    """Remove what a crash left unfinished. Only while no other daemon can be at work here."""
    root = data_dir / DIRECTORY
    if root.is_dir():
        for path in root.glob(f"*/{UNFINISHED}*"):
            shutil.rmtree(path, ignore_errors=True)


def _trim(data_dir: Path, branch: Branch) -> None:
    same = [found for path in _directories(data_dir, branch.database) if (found := read(path)) is not None]
    same = sorted((found for found in same if found.reason == branch.reason), key=lambda found: (found.time, found.id))
    for old in same[: -LIMITS[Reason(branch.reason)]]:
        shutil.rmtree(old.path, ignore_errors=True)


def _free(path: Path) -> Path:
    """The path, or one like it that nothing has."""
    found, number = path, 2
    while found.exists():
        found = path.with_name(f"{path.name}-{number}")
        number += 1
    return found
