"""Whether a data directory that a crash left is what docs/guarantees.md promises, once it has been recovered.

Recovery runs as at a start of the node, without a mount: the store does it by itself.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from litefs import ltx
from litefs.ltx import Pos
from litefs.store.database import Database
from litefs.store.recovery import recover
from litefs.store.store import Store
from litefs.store.superjournal import leftovers
from tests.support import chain
from tests.torture.workload import History

from .application import BY_NAME, PAIR, Kind
from .recording import Recording

CHANGES = ("replace", "rename", "unlink", "link", "mkdir", "rmdir", "write", "pwrite", "ftruncate", "truncate", "fsync")


@dataclass
class Expected:
    """What the marks before a crash say of one database."""

    done: int = 0  # number of the newest acknowledged transaction
    begun: int = 0  # of the newest that may be there
    gone: bool = False  # it was being deleted, or is
    promised: bool = True  # that anything is there
    published: dict[int, int] = field(default_factory=dict)  # TXID -> checksum that others have seen


class Marks:
    """What is known at each point of a recording.

    Args:
        replica: the recording is a replica's: it may have all that was begun elsewhere, and need not have any of it.
    """

    def __init__(self, recording: Recording, *, replica: bool = False) -> None:
        self._marks = [(index, text.split()) for index, text in recording.marks()]
        self._replica = replica

    def at(self, point: int) -> dict[str, Expected]:
        """Database -> what is expected of it when power fails at this point."""
        found: dict[str, Expected] = {}
        for index, words in self._marks:
            if index >= point:
                break
            what, name, *rest = words
            expected = found.setdefault(name, Expected())
            if self._replica:
                expected.promised = False
                expected.begun = max(expected.begun, int(rest[0]) if what == "begin" else 0)
            elif what == "published":
                expected.published[int(rest[0], 16)] = int(rest[1], 16)
            elif what == "gone":
                expected.gone = True
                expected.done = expected.begun = 0
            elif what == "begin":
                expected.begun = int(rest[0])
            else:
                expected.done, expected.gone = int(rest[0]), False
        return found


class Judge:
    """Recovers data directories and looks at them."""

    def __init__(self) -> None:
        self._histories = {name: History(name) for name in BY_NAME}

    def close(self) -> None:
        """Forget what is expected."""
        for history in self._histories.values():
            history.close()

    def judge(self, data: Path, expected: dict[str, Expected], *, killed: int = 0) -> None:
        """Recover a directory and check it.

        Args:
            killed: which of recovery's changes is the first that does not happen, before it begins again; 0: none.

        Raises:
            AssertionError: it is not what was promised.
        """
        promised = all(each.promised for each in expected.values())
        with quickly():
            if killed:
                with suppress(Killed), dying(killed):
                    _recover_all(data)
            cluster_id, positions = _recover_all(data)
            again = _recover_all(data)
        assert again == (cluster_id, positions), f"a second start finds {again[1]} instead of {positions}"
        assert cluster_id or not expected or not promised, "the node has forgotten which cluster it belongs to"
        branches = sorted(str(path.relative_to(data)) for path in (data / "branches").glob("*/*"))
        numbers = {}
        for name in sorted(set(expected) | set(positions)):
            kind = BY_NAME[name]
            numbers[name] = self._check(kind, data / "dbs" / name, positions.get(name), expected.get(name, Expected()))
        if promised and all(name in numbers for name in PAIR):
            assert numbers[PAIR[0]] == numbers[PAIR[1]], f"half of a transaction over two databases: {numbers}"
        torn = [branch for branch in branches if not _is_torn(data / branch)]
        assert not torn, f"set aside: {torn}"

    def _check(self, kind: Kind, path: Path, pos: Pos | None, expected: Expected) -> int:
        n = 0
        if pos is not None:
            image = (path / "database").read_bytes() if (path / "database").exists() else b""
            _check_chain(path, pos, image)
            if image:
                with closing(sqlite3.connect(f"file:{path / 'database'}?immutable=1", uri=True)) as connection:
                    try:
                        n = self._histories[kind.name].check(connection)
                    except AssertionError as error:
                        raise AssertionError(f"{kind.name}: {error}") from None
        if expected.promised and (kind.lose is not None or not expected.done):
            least = expected.done - (kind.lose or 0)
            assert n >= least, f"{kind.name}: acknowledged up to {expected.done}, found {n}"
        if not expected.gone:
            assert n <= max(expected.begun, expected.done), f"{kind.name}: {n} is from nowhere"
        if kind.mode == "WAL":
            self._check_published(kind, path, pos, expected)
        return n

    def _check_published(self, kind: Kind, path: Path, pos: Pos | None, expected: Expected) -> None:
        """What others have seen is still part of this node's history."""
        if not expected.published:
            return
        last = max(expected.published)
        assert pos is not None, f"{kind.name}: {last} was published, and nothing is there"
        assert pos.txid >= last, f"{kind.name}: {last} was published, and it is at {pos.txid}"
        file = path / "ltx" / ltx.filename(last, last)
        if file.exists():
            with open(file, "rb") as reader:
                _, trailer = ltx.read_info(reader)
            assert trailer.post_apply == expected.published[last], f"{kind.name}: {last} is not what was published"


def _is_torn(branch: Path) -> bool:
    """A file that a kill in the middle of writing it leaves is kept, though nobody was told of what it holds."""
    return '"torn"' in (branch / "branch.json").read_text()


def _recover_all(data: Path) -> tuple[str, dict[str, Pos]]:
    """Start the store; the cluster's id and all positions."""
    store = Store(data, data / "nowhere", node_id=1)
    positions = {name: recover(Database(store, name))[0].pos for name in store.names()}
    for path, _ in leftovers(store.super_dir):
        path.unlink()
    return store.cluster_id, positions


class Killed(BaseException):
    """The process is dead: whatever it still tries to do does not happen."""


@contextmanager
def dying(change: int) -> Iterator[None]:
    """The process is killed just before a change to the disk, counted from 1."""
    done = 0

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done >= change:
                raise Killed
            return function(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, wrapped(getattr(os, name)))
        yield


def _check_chain(path: Path, pos: Pos, image: bytes) -> None:
    """The LTX files follow each other and end at the position, and the database has its checksum."""
    if not pos.txid:
        assert not image, f"{path.name}: content without a position"
        return
    page_size = (int.from_bytes(image[16:18], "big") + 0xFFFE) % 0xFFFF + 2 if image else 512
    if image and page_size > 65536:
        page_size = 65536
    page_size = 65536 if image and image[16:18] == b"\0\1" else int.from_bytes(image[16:18], "big") if image else 512
    assert chain.checksum(image, page_size) == pos.checksum, f"{path.name}: not the checksum of {pos}"
    files = sorted((path / "ltx").glob("*.ltx"))
    before: Pos | None = None
    for file in files:
        with open(file, "rb") as reader:
            head, trailer = ltx.verify(reader, file.name)
        if before is not None:
            assert head.pos_before == before, f"{path.name}: {file.name} does not follow {before}"
        before = Pos(head.max_txid, trailer.post_apply)
    assert before == pos, f"{path.name}: the LTX files lead to {before}, the position is {pos}"


@contextmanager
def quickly() -> Iterator[None]:
    """Without a log, and without waiting for the disk: what the next power failure would leave does not matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: None)
        patch.setattr(os, "fdatasync", lambda fd: None)
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
